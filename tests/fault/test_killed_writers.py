"""Writers killed in the midst of their work, and a server killed under them."""

import threading

import pytest

from serving.errors import ServingError
from tests.helpers.killed_writers import (
    LOG,
    STORE,
    THREADS,
    Expected,
    append_next,
    kill_one_writer,
    open_both,
    put_next,
)
from tests.helpers.patience import wait_until

pytestmark = pytest.mark.fault

# Submissions of a round; none comes near.
_MANY = 100_000


def kill_writers(place, rounds):
    expected = Expected()
    for number in range(rounds):
        expected.add(kill_one_writer(place, number * _MANY))
        store, log = open_both(place)
        with store, log:
            expected.check(store, log)


def test_no_acknowledged_write_to_lmdb_is_lost(tmp_path, rounds):
    kill_writers(tmp_path, rounds)


def test_no_acknowledged_write_to_redis_is_lost(redis, rounds):
    kill_writers(redis.url, rounds)


def test_killed_redis_loses_no_acknowledged_write(redis, rounds):
    expected = Expected()
    store, log = open_both(redis.url)
    with store, log:
        for number in range(rounds):
            expected.add(write_until_killed(redis, store, log, number))
            redis.start()
            store.close()
            log.close()
            store, log = open_both(redis.url)
            expected.check(store, log)


def write_until_killed(server, store, log, number):
    """Kills the server while threads write; returns what was acknowledged."""
    acknowledged = []
    begun = threading.Barrier(2 * THREADS + 1)

    def work(kind, user, step):
        begun.wait()
        try:
            while True:
                acknowledged.append((kind, user, step()))
        except ServingError:
            return

    threads = []
    for user in range(THREADS):
        numbers = {user: number * _MANY - 1}
        for kind, step in (
            (STORE, lambda user=user: put_next(store, user)),
            (LOG, lambda user=user, n=numbers: append_next(log, user, n)),
        ):
            threads.append(
                threading.Thread(target=work, args=(kind, user, step))
            )
    for thread in threads:
        thread.start()
    begun.wait()
    wait_until(lambda: len(acknowledged) >= 20)
    server.kill()
    for thread in threads:
        thread.join()
    return acknowledged


def test_durable_writes_wait_for_the_disk_of_redis(redis):
    store, log = open_both(redis.url)
    with store, log:
        numbers = {}

        def write():
            put_next(store, 0)
            append_next(log, 0, numbers)

        # The first time, the server does not know the scripts yet.
        write()
        before = calls_of(redis, "waitaof")
        write()
        assert calls_of(redis, "waitaof") == before + 2


def calls_of(server, command):
    stats = server.client.info("commandstats")
    return stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]
