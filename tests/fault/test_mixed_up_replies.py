"""Reads that are given up halfway never leave a reply for somebody else."""

import asyncio
import random
import threading

import pytest

from serving.errors import StoreError
from serving.redis_server import RedisConfig
from serving.store.redis_store import RedisStore
from tests.helpers.killed_writers import record_of, user_key
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

    def __init__(self, socket_path, seconds):
        self._socket_path = socket_path
        self._seconds = seconds
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        listener = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(listener)
        self.port = server.sockets[0].getsockname()[1]
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
                        await asyncio.sleep(random.uniform(0, self._seconds))
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
def proxied(server, request):
    path = server.url.removeprefix("unix://")
    proxy = DelayProxy(path, request.param)
    yield f"redis://127.0.0.1:{proxy.port}"
    proxy.close()


@pytest.mark.parametrize("proxied", [0.01], indirect=True)
def test_cancelled_reads_mix_up_no_users(proxied):
    config = RedisConfig(proxied, read_timeout_seconds=5.0)

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
        try:
            record = await asyncio.wait_for(reading, random.uniform(0, 0.01))
        except asyncio.TimeoutError:
            return None
        assert record.key == user_key(user)
        assert record.to_bytes() == record_of(user, 1).to_bytes()
        return user

    done = asyncio.run(run())
    assert len(done) == CANCELLED
    # Some were given up, and some were not.
    assert None in done
    assert set(done) - {None}


@pytest.mark.parametrize("proxied", [0.1], indirect=True)
def test_reads_that_time_out_mix_up_no_users(proxied):
    config = RedisConfig(
        proxied,
        # Some of the replies come too late, and on a busy machine more.
        read_timeout_seconds=0.09,
        pause_seconds=0.0,
    )
    answered, failed = [], []

    def read(store):
        for _ in range(40):
            user = random.randrange(USERS)
            try:
                record = store.get(user_key(user))
            except StoreError as error:
                failed.append(error)
                continue
            assert record.to_bytes() == record_of(user, 1).to_bytes()
            answered.append(user)

    with RedisStore(config) as store:
        readers = [
            threading.Thread(target=read, args=(store,)) for _ in range(4)
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert len(answered) + len(failed) == 160
    assert answered
    assert failed
