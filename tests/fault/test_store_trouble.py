"""A store that is down or hangs: everybody is answered all the same."""

import contextlib
import itertools
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.launch import start_gateway
from serving.store import LmdbStore, page_cache
from serving.store.read_batcher import ReadBatcher
from tests.helpers.hanging_proxy import HangingProxy
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.oracle_model_server import save_manifests
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ToyOracle, ToyParameters

pytestmark = pytest.mark.fault

ITEMS = ["000", "003", "005"]
THREADS = 4
DEADLINE_SECONDS = 5.0


@pytest.fixture(scope="module")
def oracle():
    return ToyOracle(ToyParameters.from_seed(1))


def rank_for(client, seconds):
    """Ranks from several threads, which all must be answered in time."""
    answers, failures = [], []
    end = time.monotonic() + seconds

    def rank():
        # Some, however slow the machine is.
        for number in itertools.count():
            if number >= 3 and time.monotonic() >= end:
                return
            try:
                answers.append(client.rank("known", ITEMS))
            except grpc.RpcError as error:
                failures.append(error)
            time.sleep(0.005)

    threads = [threading.Thread(target=rank) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    return answers


def assert_served_the_meta_initialization(answers, oracle):
    expected = oracle.rank({}, ITEMS)
    # Calls that were under way at first may still have found the store.
    late = [answer for answer in answers if answer.degraded]
    assert len(answers) - len(late) <= THREADS
    assert len(late) > THREADS
    for answer in late:
        assert answer.provenance.rung == "fallback"
        assert answer.provenance.degraded_reason
        np.testing.assert_allclose(answer.scores, expected, atol=1e-5)


def served_own_weights(client):
    """An answer from the user's own weights; the store may be slow to tell."""

    def hit():
        answer = client.rank("known", ITEMS)
        return answer.store_hit and answer

    return wait_until(hit)


def wait_for_own_weights(client, expected):
    """Waits until the user is served as before; returns for how long."""
    start = time.monotonic()
    while (answer := client.rank("known", ITEMS)).degraded:
        assert time.monotonic() - start < 60
        time.sleep(0.01)
    np.testing.assert_array_equal(answer.scores, expected)
    return time.monotonic() - start


@pytest.fixture
def proxy(redis):
    with HangingProxy(redis.url.removeprefix("unix://")) as proxy:
        yield proxy


@pytest.fixture
def client(proxy, model_server, tmp_path):
    """A client of a gateway whose Redis is behind the proxy."""
    save_manifests(tmp_path / "models", "adaptower")
    with (
        start_gateway(
            model_server.target,
            {"adaptower": tmp_path / "models"},
            log_path=tmp_path / "gateway.log",
            flags=[f"--store=redis://127.0.0.1:{proxy.port}"],
        ) as gateway,
        RecommenderClient(gateway.target, DEADLINE_SECONDS) as client,
    ):
        yield client


@pytest.mark.parametrize(
    "seconds", [2.0, pytest.param(30.0, marks=pytest.mark.slow)]
)
def test_redis_that_hangs_degrades_answers_and_fails_none(
    client, proxy, oracle, seconds
):
    client.submit_feedback("known", [FeedbackEvent("e", "003", 1.0)])
    before = served_own_weights(client)
    proxy.hang()
    answers = rank_for(client, seconds)
    proxy.go_on()
    assert_served_the_meta_initialization(answers, oracle)
    wait_for_own_weights(client, before.scores)


def test_redis_that_is_down_degrades_answers_and_is_used_again(
    client, redis, oracle
):
    client.submit_feedback("known", [FeedbackEvent("e", "003", 1.0)])
    before = served_own_weights(client)
    redis.kill()
    answers = rank_for(client, 1.0)
    assert_served_the_meta_initialization(answers, oracle)
    with pytest.raises(grpc.RpcError) as refused:
        client.with_options(timeout_seconds=1.0).submit_feedback(
            "known", [FeedbackEvent("f", "003", 1.0)]
        )
    # Not acknowledged: it could not be made durable.
    assert refused.value.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    redis.start()
    wait_for_own_weights(client, before.scores)


class HangingDisk(LmdbStore):
    """Reads wait while the disk hangs, as for a page that does not come."""

    def __init__(self, path, patience=None):
        self.answers = threading.Event()
        self.answers.set()
        super().__init__(path, 1 << 24)
        if patience is not None:
            self._batcher = ReadBatcher(self._read, patience)

    @property
    def _is_in_memory(self):
        return False

    def _read(self, keys):
        self.answers.wait()
        return super()._read(keys)


class HangingDiskInMemory(HangingDisk):
    """Begins in memory. Counts the reads in the event loop and in threads."""

    in_loop = in_threads = 0

    @property
    def _is_in_memory(self):
        return self._page_cache.has_all

    def get(self, key):
        self.in_loop += 1
        return super().get(key)

    def _read(self, keys):
        self.in_threads += 1
        return super()._read(keys)


@pytest.mark.parametrize(
    "patience",
    [
        None,
        # More than callers have: then it is theirs that counts.
        pytest.param(12 * DEADLINE_SECONDS, id="patient"),
    ],
)
@pytest.mark.parametrize(
    "seconds", [6.0, pytest.param(30.0, marks=pytest.mark.slow)]
)
def test_disk_that_hangs_degrades_answers_and_fails_none(
    oracle, tmp_path, seconds, patience
):
    backend = OracleBackend({1: oracle})
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(HangingDisk(tmp_path / "store", patience))
        gateway = stack.enter_context(OracleGateway(backend, store, tmp_path))
        stack.callback(store.answers.set)
        client = stack.enter_context(
            RecommenderClient(gateway.target, DEADLINE_SECONDS)
        )
        client.submit_feedback("known", [FeedbackEvent("e", "003", 1.0)])
        before = served_own_weights(client)
        store.answers.clear()
        answers = rank_for(client, seconds)
        store.answers.set()
        assert_served_the_meta_initialization(answers, oracle)
        wait_for_own_weights(client, before.scores)


def rank_until(client, check):
    """Returns all answers up to one that is as wanted; none may fail."""
    end = time.monotonic() + 60
    answers = [client.rank("known", ITEMS)]
    while not check(answers[-1]):
        assert time.monotonic() < end
        answers.append(client.rank("known", ITEMS))
    return answers


@pytest.fixture
def in_memory(oracle, tmp_path):
    """A store that is read in the event loop, and a client of its gateway."""
    backend = OracleBackend({1: oracle})
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(HangingDiskInMemory(tmp_path / "store"))
        gateway = stack.enter_context(OracleGateway(backend, store, tmp_path))
        stack.callback(store.answers.set)
        client = stack.enter_context(
            RecommenderClient(gateway.target, DEADLINE_SECONDS)
        )
        client.submit_feedback("known", [FeedbackEvent("e", "003", 1.0)])
        rank_until(client, lambda _: store.in_loop)
        yield store, client


def test_disk_that_hangs_costs_nothing_while_all_is_in_memory(
    in_memory, oracle, monkeypatch
):
    store, client = in_memory
    # However late a busy machine looks again.
    monkeypatch.setattr(page_cache, "_VALID_SECONDS", 600.0)
    rank_until(
        client, lambda _: store._page_cache._whole_until > time.monotonic() + 60
    )
    before = client.rank("known", ITEMS)
    assert before.store_hit
    store.answers.clear()
    in_loop, in_threads = store.in_loop, store.in_threads
    for answer in rank_for(client, 3.0):
        assert not answer.degraded
        np.testing.assert_array_equal(answer.scores, before.scores)
    assert store.in_loop > in_loop
    assert store.in_threads == in_threads
    # The next look finds that pages are gone: from then on threads read.
    monkeypatch.setattr(page_cache, "is_in_memory", lambda path: False)
    *_, degraded = rank_until(client, lambda answer: answer.degraded)
    np.testing.assert_allclose(
        degraded.scores, oracle.rank({}, ITEMS), atol=1e-5
    )
    in_loop = store.in_loop
    assert_served_the_meta_initialization(rank_for(client, 3.0), oracle)
    assert store.in_loop == in_loop
    store.answers.set()
    wait_for_own_weights(client, before.scores)


def test_look_that_hangs_is_taken_for_pages_that_are_gone(
    in_memory, oracle, monkeypatch
):
    store, client = in_memory
    before = client.rank("known", ITEMS)

    def hang(path):
        store.answers.wait()
        return True

    monkeypatch.setattr(page_cache, "is_in_memory", hang)
    store.answers.clear()
    rank_until(client, lambda answer: answer.degraded)
    assert_served_the_meta_initialization(rank_for(client, 3.0), oracle)
    store.answers.set()
    wait_for_own_weights(client, before.scores)
    # And in the event loop again, once a look has ended.
    in_loop = store.in_loop
    rank_until(client, lambda _: store.in_loop > in_loop)
