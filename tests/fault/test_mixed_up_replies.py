"""Reads that are given up halfway never leave a reply for somebody else."""

import asyncio
import itertools
import random
import threading

import pytest

from serving.errors import EventLogError, StoreError
from serving.event_log.redis_log import RedisEventLog
from serving.redis_config import RedisConfig
from serving.store.record_bytes import encode_record
from serving.store.redis_store import RedisStore
from tests.helpers.killed_writers import record_of, submission_of, user_key
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault

USERS = 50
CANCELLED = 10_000


@pytest.fixture(scope="module")
def server():
    running = RunningRedis()
    with RedisStore(running.config()) as store:
        store.compare_and_put_many([record_of(u, 1) for u in range(USERS)])
    yield running
    running.close()


class DelayProxy:
    """Hands bytes on to a Unix socket, and replies back after a while."""

    def __init__(self, socket_path):
        self._socket_path = socket_path
        self.delay = lambda: 0.0
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        listener = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(listener)
        port = server.sockets[0].getsockname()[1]
        self.url = f"redis://127.0.0.1:{port}"
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(
            asyncio.gather(*tasks, return_exceptions=True)
        )
        self._loop.close()

    async def _serve(self, reader, writer):
        there = await asyncio.open_unix_connection(self._socket_path)

        async def hand_on(source, target, delay):
            try:
                while chunk := await source.read(1 << 16):
                    if delay:
                        await asyncio.sleep(self.delay())
                    target.write(chunk)
                    await target.drain()
            except OSError:
                pass
            finally:
                target.close()

        await asyncio.gather(
            hand_on(reader, there[1], False), hand_on(there[0], writer, True)
        )

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


@pytest.fixture
def proxied(server):
    path = server.url.removeprefix("unix://")
    proxy = DelayProxy(path)
    yield proxy
    proxy.close()


def test_cancelled_reads_mix_up_no_users(proxied):
    config = RedisConfig(proxied.url, read_timeout_seconds=60.0)
    proxied.delay = lambda: random.uniform(0.0, 0.01)

    async def run():
        with RedisStore(config) as store:
            return await many(store)

    async def many(store):
        done = []
        for _ in range(CANCELLED // 100):
            done += await asyncio.gather(*(attempt(store) for _ in range(100)))
        return done

    async def attempt(store):
        user = random.randrange(USERS)
        reading = store.aget(user_key(user))
        # Half of them are given up, if they are not quick.
        patience = random.choice((None, random.uniform(0.0, 0.01)))
        try:
            record = await asyncio.wait_for(reading, patience)
        except asyncio.TimeoutError:
            return None
        assert record.key == user_key(user)
        assert encode_record(record) == encode_record(record_of(user, 1))
        return user

    done = asyncio.run(run())
    assert len(done) == CANCELLED
    assert None in done
    assert set(done) - {None}


TIMEOUT_SECONDS = 0.5


def too_late_at_times():
    """Delays every fifth reply for longer than anybody waits."""
    numbers = itertools.count()
    return lambda: 0.0 if next(numbers) % 5 else 1.5 * TIMEOUT_SECONDS


def read_in_threads(read, right):
    """Reads random users in threads; each answer must be the user's own."""
    answered, failed, wrong = [], [], []

    def read_many():
        for _ in range(15):
            user = random.randrange(USERS)
            try:
                found = read(user_key(user))
            except (StoreError, EventLogError) as error:
                failed.append(error)
            else:
                (answered if found == right(user) else wrong).append(user)

    readers = [threading.Thread(target=read_many) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert len(answered) + len(failed) == 60
    assert not wrong
    assert answered
    assert failed


def test_reads_that_time_out_mix_up_no_users(proxied):
    config = RedisConfig(
        proxied.url,
        read_timeout_seconds=TIMEOUT_SECONDS,
        pause_seconds=0.0,
    )
    with RedisStore(config) as store:
        proxied.delay = too_late_at_times()
        read_in_threads(
            lambda key: encode_record(store.get(key)),
            lambda user: encode_record(record_of(user, 1)),
        )


def test_reads_of_the_log_that_time_out_mix_up_no_users(server, proxied):
    with RedisEventLog(server.config()) as log:
        log.append([submission_of(user, user) for user in range(USERS)])
    config = RedisConfig(
        proxied.url,
        write_timeout_seconds=TIMEOUT_SECONDS,
        pause_seconds=0.0,
        durable=False,
    )
    with RedisEventLog(config) as log:
        proxied.delay = too_late_at_times()
        read_in_threads(
            lambda key: [(e.key, e.events) for e in log.events_of(key)],
            lambda user: [(user_key(user), submission_of(user, user).events)],
        )
