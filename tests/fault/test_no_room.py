"""Disks and servers without room: writes are refused, reads go on."""

import itertools
import subprocess

import numpy as np
import pytest

from serving.errors import LogFullError, StoreFullError
from serving.event_log import (
    LmdbEventLog,
    LogConfig,
    LogEntry,
    LoggedEvent,
    Submission,
)
from serving.event_log.redis_log import RedisEventLog
from serving.store import LmdbStore
from serving.store.record_bytes import encode_record
from serving.store.redis_store import RedisStore
from tests.helpers.killed_writers import put_next, record_of, user_key
from tests.helpers.redis_server import RunningRedis

pytestmark = pytest.mark.fault

SMALL_MAP_BYTES = 1 << 20


# Some end at a write that is refused, some at one that is cut short.
@pytest.fixture(params=[(1 << 20) + 4096 * pages for pages in range(4)])
def small_disk(tmp_path, request):
    """A disk of its own, full after about a megabyte."""
    options = ["-t", "tmpfs", "-o", f"size={request.param}"]
    mounted = subprocess.run(
        ["mount", *options, "tmpfs", str(tmp_path)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine lets us mount no disk of our own")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def put_until_full(store, users=0, at_once=50):
    """Stores more users until there is no room.

    Returns:
        How many it has then, and what it said.
    """
    try:
        while True:
            batch = [record_of(users + n, 1) for n in range(at_once)]
            store.compare_and_put_many(batch)
            users += len(batch)
    except StoreFullError as error:
        return users, str(error)


def append_until_full(log, users=1, size=4096, event_id="e"):
    """Appends until there is no room; returns what `put_until_full` does."""
    entries, told = -1, None
    while not isinstance(told, LogFullError):
        entries += 1
        event = LoggedEvent(f"{event_id}{entries}", "item", 1.0)
        user = user_key(entries % users)
        (told,) = log.append([Submission(user, (event,), bytes(size))])
    return entries, str(told)


def test_full_disk_refuses_weights_and_still_reads(small_disk):
    with LmdbStore(small_disk) as store:
        users, words = put_until_full(store)
        assert "free some disk" in words
        assert users > 500
        for user in range(0, users, 97):
            found = store.get(user_key(user))
            assert encode_record(found) == encode_record(record_of(user, 1))
    # A new process finds the same.
    with LmdbStore(small_disk) as store:
        assert len(list(store.iterate("adaptower"))) == users


def test_full_disk_refuses_events_and_keeps_those_it_took(small_disk):
    with LmdbEventLog(small_disk) as log:
        taken, words = append_until_full(log)
        assert "free some disk" in words
        assert len(list(log.entries())) == taken > 50
        assert len(log.read("c", 10)) == 10


def test_full_store_deletes_whom_it_knows_and_whom_it_does_not(tmp_path):
    with LmdbStore(tmp_path, map_bytes=SMALL_MAP_BYTES) as store:
        users, _ = put_until_full(store)
        users, words = put_until_full(store, users, at_once=1)
        assert "--store-map-bytes" in words
        for stranger in range(users, users + 100):
            assert not store.delete(user_key(stranger))[0]
        for user in range(0, users, 20):
            assert store.delete(user_key(user))[0]
            assert store.get(user_key(user)) is None


@pytest.mark.parametrize("keep_seconds", [0.0, 3600.0])
def test_full_log_deletes_whom_it_knows_and_whom_it_does_not(
    tmp_path, keep_seconds
):
    config = LogConfig(map_bytes=SMALL_MAP_BYTES, keep_seconds=keep_seconds)
    with LmdbEventLog(tmp_path, config) as log:
        taken = append_until_full(log, users=3, size=1024)[0]
        more, words = append_until_full(log, users=3, size=1, event_id="short")
        taken += more
        assert "--log-map-bytes" in words
        for stranger in range(100, 200):
            assert log.delete(user_key(stranger))[0] == 0
        # What is acknowledged, the next transaction has to store as well.
        log.ack(log.read("c", 100))
        removed = [log.delete(user_key(user))[0] for user in range(3)]
        assert list(log.entries()) == []
        learned = 0 if keep_seconds else 100
        assert sum(removed) == taken - learned
        again = Submission(user_key(4), (LoggedEvent("0", "item", 1.0),))
        assert isinstance(log.append([again])[0], LogEntry)


@pytest.fixture
def small_server():
    # Its disk is not what is tested, and takes its time.
    server = RunningRedis("--maxmemory", "2mb", "--appendfsync", "no")
    yield server
    server.close()


def test_full_redis_refuses_weights_and_still_reads(small_server):
    with RedisStore(small_server.config(durable=False)) as store:
        users, words = put_until_full(store)
        assert "maxmemory" in words
        for user in range(0, users, 97):
            assert np.all(store.get(user_key(user)).weights == 1)
        # Who wants to be forgotten need not wait for room.
        assert store.delete(user_key(0))[0]
        # Room that comes back is used.
        small_server.client.config_set("maxmemory", "0")
        assert put_next(store, users + 100) == 1


def test_full_redis_refuses_events_and_keeps_those_it_took(small_server):
    with RedisEventLog(small_server.config(durable=False)) as log:
        taken, words = append_until_full(log)
        assert "maxmemory" in words
        assert log.delete(user_key(1))[0] == 0
        small_server.client.config_set("maxmemory", "0")
        assert len(list(log.entries())) == taken


def calls_until_full(log, client, room):
    """Appends for many users at once until there is no room left.

    Returns:
        Each submission, and what was told of it.
    """
    told, calls = [], itertools.count()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + room)
    while not any(isinstance(each, LogFullError) for _, each in told):
        event = LoggedEvent(str(next(calls)), "item", 1.0)
        sent = [
            Submission(user_key(user), (event,), bytes(4096))
            for user in range(40)
        ]
        told += zip(sent, log.append(sent, "gateway"), strict=True)
    client.config_set("maxmemory", "0")
    return told


def test_redis_that_fills_up_says_which_events_it_took(small_server):
    """Within one call for many streams: some still had room, others not."""
    for attempt in range(20):
        config = small_server.config(durable=False, prefix=str(attempt))
        with RedisEventLog(config) as log:
            room = 500_000 + 1_000 * attempt
            told = calls_until_full(log, small_server.client, room)
            refused = [s for s, e in told if isinstance(e, LogFullError)]
            stored = [e for _, e in told if isinstance(e, LogEntry)]
            assert len(stored) + len(refused) == len(told)
            assert {e.position for e in log.entries()} == {
                e.position for e in stored
            }
            # Whoever was told of an entry has it; nobody has another.
            assert all(entry.claimed for entry in stored)
            # What was refused was not stored, and is taken in now.
            again = log.append(refused)
            assert all(isinstance(each, LogEntry) for each in again)
        if len(refused) % 40:
            return
    raise AssertionError("it was never full in the midst of a call")
