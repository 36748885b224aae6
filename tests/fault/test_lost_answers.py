"""A log did what it was asked, and nobody hears of it: nothing is lost."""

import asyncio
import collections
import contextlib
import itertools
import random
import time

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.errors import BackendUnavailableError, EventLogError
from serving.event_log import (
    LogConfig,
    LogEntry,
    LoggedEvent,
    Submission,
    redis_scripts,
)
from serving.event_log.redis_log import RedisEventLog
from serving.redis_config import RedisConfig
from serving.store import MemoryStore, UserKey
from tests.helpers.hanging_proxy import HangingProxy
from tests.helpers.killed_writers import history, learn
from tests.helpers.online_stage import Stages, submission
from tests.helpers.patience import until
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ToyOracle

pytestmark = pytest.mark.fault

FIRST = submission((1, "001", 1.0))
SECOND = submission((2, "002", 0.0))
# What nobody has heard of goes to somebody again so soon.
LEASE_SECONDS = 4.0


@pytest.fixture(scope="module")
def redis():
    server = RunningRedis()
    # Or the first answer only says that the server has no such script.
    for script in (redis_scripts.APPEND, redis_scripts.TAKE):
        server.client.script_load(script)
    yield server
    server.close()


@pytest.fixture
def proxy(redis):
    redis.clear()
    with HangingProxy(redis.url.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
def log(proxy):
    config = RedisConfig(
        f"redis://127.0.0.1:{proxy.port}",
        write_timeout_seconds=2.0,
        pause_seconds=0.0,
    )
    with RedisEventLog(config, LogConfig(lease_seconds=LEASE_SECONDS)) as log:
        yield log


@pytest.fixture
def stages(log, tmp_path):
    return Stages(tmp_path, log=log)


async def until_learned(log):
    await until(lambda: log.status().unlearned == 0)


def check_both_learned_once(record):
    """Against the oracle, whether it learned them at once or in turn."""
    assert record.support_count == 2
    assert list(record.reservoir) == [
        SupportEvent(event.item_id, event.label)
        for event in (*FIRST.events, *SECOND.events)
    ]
    oracle = ToyOracle.from_seed(1)
    items, labels = ["001", "002"], [1.0, 0.0]
    at_once, _, _ = oracle.adapt({}, items, labels)
    first, _, _ = oracle.adapt({}, items[:1], labels[:1])
    in_turn, _, _ = oracle.adapt({}, items, labels, weights=first)
    assert any(
        np.allclose(record.weights, expected, atol=1e-5)
        for expected in (at_once, in_turn)
    )


@contextlib.contextmanager
def answer_lost(proxy, hang_up):
    proxy.lose_next_answer(hang_up)
    yield
    assert proxy.lost_answer


@contextlib.contextmanager
def disk_not_synced(redis):
    """The server has the write, and can't promise that its disk has."""
    redis.client.config_set("appendfsync", "no")
    yield
    redis.client.config_set("appendfsync", "always")


@pytest.mark.parametrize("trouble", ["silence", "hang up", "no sync"])
def test_event_whose_append_was_not_answered_is_learned_once(
    stages, proxy, redis, trouble
):
    if trouble == "no sync":
        in_trouble = disk_not_synced(redis)
    else:
        in_trouble = answer_lost(proxy, trouble == "hang up")

    async def run():
        async with stages.running(reads=False) as stage:
            with in_trouble, pytest.raises(EventLogError):
                await stage.submit(FIRST)
            stage.start()
            await stage.submit(SECOND, 20)
            # Its sender tries again, as it should, and is told it is there.
            assert (await stage.submit(FIRST)).entry is None
            await until_learned(stages.log)

    asyncio.run(run())
    check_both_learned_once(stages.record())


@pytest.mark.parametrize("hang_up", [False, True])
def test_event_whose_delivery_was_not_answered_is_learned_once(
    stages, proxy, hang_up
):
    async def run():
        stages.log.append([FIRST])
        async with stages.running(reads=False) as stage:
            with answer_lost(proxy, hang_up):
                stage.start()
                await until(lambda: proxy.lost_answer)
            await stage.submit(SECOND, 20)
            await until_learned(stages.log)

    asyncio.run(run())
    check_both_learned_once(stages.record())


def test_event_that_another_process_is_slow_to_learn_is_learned_first(
    stages, redis, tmp_path
):
    """Its next one came by another gateway, whose model server answers."""

    async def gone(model, request):
        raise BackendUnavailableError("gone")

    with RedisEventLog(redis.config()) as other_log:
        slow = Stages(tmp_path, stages.store, other_log)
        slow.backend.run = gone

        async def run():
            async with slow.running(reads=False) as slow_stage:
                assert (await slow_stage.submit(FIRST, 20)).entry.claimed
                async with stages.running() as stage:
                    await stage.submit(SECOND)
                    await until_learned(stages.log)

        asyncio.run(run())
    check_both_learned_once(stages.record())


class Consumer:
    """Takes in, reads and learns at random; its answers may be lost.

    Attributes:
        held: What it was given and is not done with, by user.
    """

    def __init__(self, redis, name, store, draw):
        self._store = store
        self._draw = draw
        self._name = name
        self._log = RedisEventLog(
            redis.config(durable=False),
            LogConfig(lease_seconds=0.05, keep_seconds=draw.choice((0, 3600))),
            shards=2,
        )
        self._run_each = self._log._server.run_each
        self._log._server.run_each = self._lossy
        self._loses = 0.0
        self.held = collections.defaultdict(list)

    def _lossy(self, *arguments, **options):
        answer = self._run_each(*arguments, **options)
        if self._draw.random() < self._loses:
            raise EventLogError("The answer is lost")
        return answer

    @contextlib.contextmanager
    def _losing(self, odds):
        self._loses = odds
        with contextlib.suppress(EventLogError):
            yield
        self._loses = 0.0

    def append(self, submissions, odds=0.3):
        claims = self._draw.random() < 0.8
        with self._losing(odds):
            for entry in self._log.append(
                submissions, self._name if claims else None
            ):
                if isinstance(entry, LogEntry) and entry.claimed:
                    self._hold(entry)

    def read(self, odds=0.3):
        with self._losing(odds):
            for entry in self._log.read(self._name, self._draw.randint(1, 4)):
                self._hold(entry)

    def _hold(self, entry):
        if entry not in self.held[entry.key]:
            self.held[entry.key].append(entry)

    def learn(self, odds=0.3):
        """Learns from the first of what it holds of a user."""
        key = self._draw.choice([*self.held, None])
        if not self.held.get(key):
            return
        entry = self.held[key].pop(0)
        learn(self._store, entry)
        with self._losing(odds):
            if self._draw.random() > odds:
                self._log.ack([entry])

    def close(self):
        self._log.close()


def test_random_losses_and_crashes_lose_nothing_and_learn_nothing_twice(
    redis, rounds
):
    # Nothing here crashes the server, and so it is quicker.
    with disk_not_synced(redis):
        for seed in range(rounds):
            redis.clear()
            check_random_history(redis, random.Random(seed))


def check_random_history(redis, draw):
    store = MemoryStore()
    numbers = itertools.count()

    def consumer():
        return Consumer(redis, f"c{next(numbers)}", store, draw)

    def new_submission():
        event = LoggedEvent(f"e{next(numbers)}", str(next(numbers)), 1.0)
        return Submission(
            UserKey("adaptower", f"u{draw.randrange(3)}"), (event,)
        )

    consumers = [consumer() for _ in range(3)]
    # What was sent is sent again until it is answered, so is known to be.
    sent = []
    for _ in range(150):
        one = draw.choice(consumers)
        step = draw.randrange(10)
        if step < 3:
            sent.append(new_submission())
            one.append([sent[-1], *draw.sample(sent, min(2, len(sent)))])
        elif step < 6:
            one.read()
        elif step < 9:
            one.learn()
        elif draw.random() < 0.2:
            one.close()
            consumers[consumers.index(one)] = consumer()
        if draw.random() < 0.05:
            # Leases end meanwhile.
            time.sleep(0.06)
    last = consumers[0]
    last.append(sent, odds=0.0)
    log = last._log
    deadline = time.monotonic() + 60
    while log.status().unlearned:
        assert time.monotonic() < deadline
        last.read(odds=0.0)
        last.learn(odds=0.0)
    for key in {each.key for each in sent}:
        own = [s.events[0].item_id for s in sent if s.key == key]
        record = store.get(key)
        assert record.support_count == len(own)
        learned = [event.item_id for event in record.reservoir]
        assert sorted(learned) == sorted(own)
        assert record.features == history(learned)
    for one in consumers:
        one.close()
