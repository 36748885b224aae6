"""A store that is down or hangs: everybody is answered all the same."""

import contextlib
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.launch import start_gateway
from serving.store import LmdbStore
from serving.store.read_batcher import ReadBatcher
from tests.helpers.hanging_proxy import HangingProxy
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.oracle_model_server import save_manifests
from tests.helpers.redis_server import RunningRedis
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
        while time.monotonic() < end:
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


def wait_for_own_weights(client, expected):
    """Waits until the user is served as before; returns for how long."""
    start = time.monotonic()
    while (answer := client.rank("known", ITEMS)).degraded:
        assert time.monotonic() - start < 60
        time.sleep(0.01)
    np.testing.assert_array_equal(answer.scores, expected)
    return time.monotonic() - start


@pytest.fixture
def redis():
    server = RunningRedis()
    yield server
    server.close()


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
    before = client.rank("known", ITEMS)
    assert before.store_hit
    proxy.hang()
    answers = rank_for(client, seconds)
    proxy.go_on()
    assert_served_the_meta_initialization(answers, oracle)
    wait_for_own_weights(client, before.scores)


def test_redis_that_is_down_degrades_answers_and_is_used_again(
    client, redis, oracle
):
    client.submit_feedback("known", [FeedbackEvent("e", "003", 1.0)])
    before = client.rank("known", ITEMS)
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
        before = client.rank("known", ITEMS)
        assert before.store_hit
        store.answers.clear()
        answers = rank_for(client, seconds)
        store.answers.set()
        assert_served_the_meta_initialization(answers, oracle)
        wait_for_own_weights(client, before.scores)
