import itertools
import threading

import pytest

from serving.errors import StoreError
from serving.event_log import LmdbEventLog, LogConfig
from serving.online.upkeep import upkeep
from serving.store import MemoryStore, Retention
from tests.contract.adaptive_store_suite import make_record
from tests.contract.event_log_suite import submit
from tests.helpers.patience import wait_until

OFTEN = {"trim_seconds": 0.01, "purge_seconds": 0.01}


@pytest.fixture
def log(tmp_path):
    with LmdbEventLog(tmp_path, LogConfig(keep_seconds=0.001)) as log:
        yield log


@pytest.fixture
def store():
    with MemoryStore(Retention(ttl_seconds=3600)) as store:
        yield store


def test_what_is_learned_or_expired_goes_while_both_are_in_use(store, log):
    with upkeep(store, log, **OFTEN):
        fresh = make_record("u2", age_ms=0)
        store.compare_and_put_many([make_record("u1"), fresh])
        log.append([submit(1)])
        log.ack(log.read("c", 1))
        log.append([submit(2)])
        wait_until(lambda: log.status().entries == 1)
        wait_until(lambda: set(store._data) == {fresh.key.to_bytes()})


@pytest.mark.parametrize("error", [StoreError, ZeroDivisionError])
def test_failure_is_logged_and_the_next_try_comes(store, log, error, caplog):
    tries = itertools.count()

    def fail():
        next(tries)
        yield 0
        raise error("out of order")

    store.purge_steps = fail
    with upkeep(store, log, **OFTEN):
        wait_until(lambda: next(tries) > 10)
    assert "out of order" in caplog.text
    # Where it happened is told of what nobody foresaw alone.
    foreseen = error is StoreError
    assert ("Traceback" in caplog.text) is not foreseen


def test_end_waits_for_the_step_that_runs_and_leaves_the_rest(store, log):
    begun, go_on = threading.Event(), threading.Event()
    ended = []

    def steps():
        begun.set()
        go_on.wait(60)
        ended.append(1)
        yield 1
        ended.append(2)

    store.purge_steps = steps

    def go_on_at_the_end():
        # The other thread, which has nothing to do, has seen that it is.
        wait_until(lambda: "upkeep-trim_steps" not in names_of_threads())
        go_on.set()

    watching = threading.Thread(target=go_on_at_the_end)
    with upkeep(store, log, **OFTEN):
        begun.wait(60)
        watching.start()
    assert ended == [1]
    watching.join()


def names_of_threads():
    return {thread.name for thread in threading.enumerate()}
