"""Thirty-two writers of one user: no update is lost, none counts twice."""

import dataclasses
import random
import threading
import time

import pytest

from serving.errors import DeletedUserError
from serving.event_log import (
    LmdbEventLog,
    LogConfig,
    LogEntry,
    LoggedEvent,
    Submission,
)
from serving.event_log.redis_log import RedisEventLog
from serving.store import LmdbStore, MemoryStore, UserKey
from serving.store.redis_store import RedisStore
from tests.helpers.killed_writers import history, learn, learned_from
from tests.helpers.patience import wait_until
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault

WRITERS = 32
EVENTS = 64
LEASE_SECONDS = 0.2
KEY = UserKey("adaptower", "one")


@pytest.fixture(scope="module")
def server():
    running = RunningRedis()
    yield running
    running.close()


@pytest.fixture(params=["memory", "lmdb", "redis"])
def store(request, server, tmp_path):
    server.clear()
    stores = {
        "memory": MemoryStore,
        "lmdb": lambda: LmdbStore(tmp_path),
        "redis": lambda: RedisStore(server.config()),
    }
    with stores[request.param]() as store:
        yield store


@pytest.fixture(params=["lmdb", "redis"])
def log(request, server, tmp_path):
    server.clear()
    config = LogConfig(lease_seconds=LEASE_SECONDS)
    logs = {
        "lmdb": lambda: LmdbEventLog(tmp_path / "log", config),
        "redis": lambda: RedisEventLog(server.config(), config),
    }
    with logs[request.param]() as log:
        yield log


def run_in_threads(work, arguments):
    errors = []

    def run(argument):
        try:
            work(argument)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(a,)) for a in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


def entry_of(number):
    event = LoggedEvent(f"e{number}", str(number), 1.0, number)
    return LogEntry(number, KEY, (event,))


def check_learned_once(record):
    """Every event once, and what was learned as one replay gives it."""
    items = [event.item_id for event in record.reservoir]
    assert sorted(map(int, items)) == list(range(EVENTS))
    assert record.support_count == EVENTS
    assert record.features == history(items)


def test_racing_writers_lose_no_update(store):
    def learn_all(seed):
        numbers = list(range(seed, EVENTS, WRITERS))
        random.Random(seed).shuffle(numbers)
        for number in numbers:
            while not store.compare_and_put(
                learned_from(store.get(KEY), entry_of(number))
            ):
                pass

    run_in_threads(learn_all, range(WRITERS))
    record = store.get(KEY)
    check_learned_once(record)
    assert record.sequence == EVENTS


def test_each_event_counts_once_whoever_sends_and_learns_it(store, log):
    done = threading.Event()

    def produce(seed):
        draw = random.Random(seed)
        # Each event is with two producers, and twice with each.
        numbers = [n for n in range(EVENTS) if n % WRITERS in (seed, seed ^ 1)]
        draw.shuffle(numbers)
        for number in numbers:
            events = entry_of(number).events
            log.append([Submission(KEY, events + events)])

    def consume(name):
        draw = random.Random(name)
        while not done.is_set():
            for entry in log.read(f"worker-{name}", 4, wait_seconds=0.05):
                if draw.random() < 0.1:
                    # Its lease ends, and another gets the same entries.
                    time.sleep(2 * LEASE_SECONDS)
                learn(store, entry)
                # What is not acknowledged comes once more.
                if draw.random() < 0.8:
                    log.ack([entry])

    consumers = [
        threading.Thread(target=consume, args=(name,)) for name in range(4)
    ]
    for consumer in consumers:
        consumer.start()
    run_in_threads(produce, range(WRITERS))
    wait_until(lambda: log.status().unlearned == 0)
    done.set()
    for consumer in consumers:
        consumer.join()
    record = store.get(KEY)
    check_learned_once(record)
    held = [
        int(event.item_id)
        for entry in log.events_of(KEY)
        for event in entry.events
    ]
    # What was learned is in the order of the log.
    assert held == [int(event.item_id) for event in record.reservoir]


def test_deleted_user_does_not_come_back_with_late_writes(store):
    begun = threading.Barrier(9)
    refused = []

    def learn(_):
        begun.wait()
        try:
            for number in range(10_000):
                record = learned_from(store.get(KEY), entry_of(number))
                store.compare_and_put(dataclasses.replace(record, reservoir=()))
        except DeletedUserError:
            refused.append(number)

    def delete(_):
        begun.wait()
        wait_until(lambda: store.get(KEY) is not None)
        assert store.delete(KEY)[0]
        assert store.get(KEY) is None

    run_in_threads(lambda n: delete(n) if n == 8 else learn(n), range(9))
    assert len(refused) == 8
    assert store.get(KEY) is None
    assert list(store.iterate("adaptower")) == []
    assert store.tombstone(KEY) is not None


def test_deleted_user_does_not_come_back_with_late_events(log):
    begun = threading.Barrier(9)
    refused = []

    def produce(name):
        begun.wait()
        for number in range(10_000):
            event = LoggedEvent(f"{name}-{number}", "1", 1.0)
            (result,) = log.append([Submission(KEY, (event,))])
            if isinstance(result, DeletedUserError):
                refused.append(name)
                return
            assert isinstance(result, LogEntry)

    def delete(_):
        begun.wait()
        wait_until(lambda: bool(log.events_of(KEY)))
        assert log.delete(KEY)[0] > 0

    run_in_threads(lambda n: delete(n) if n == 8 else produce(n), range(9))
    assert len(refused) == 8
    assert log.events_of(KEY) == []
    assert list(log.entries()) == []
    assert log.read("worker", 10) == []
