"""Versions come and go under load: nobody notices but by the version told."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.launch import start_gateway
from tests.helpers.oracle_model_server import OracleModelServer, save_manifests
from tests.helpers.patience import PATIENT_SECONDS, wait_until
from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ToyOracle, ToyParameters, export_toy

pytestmark = pytest.mark.fault

ITEMS = ["000", "003", "005"]
RATE = 60.0
BUSY_USERS = 8


@pytest.fixture(scope="module")
def oracles():
    versions = range(1, 22)
    return {v: ToyOracle(ToyParameters.from_seed(v)) for v in versions}


@pytest.fixture
def model_server(tmp_path, oracles):
    save_manifests(tmp_path / "models", "adaptower", oracles)
    with OracleModelServer() as server:
        yield server


@pytest.fixture
def start(tmp_path, model_server):
    """Starts gateways that look for versions often."""
    running = []

    def start(store=None):
        gateway = start_gateway(
            model_server.target,
            {"adaptower": tmp_path / "models"},
            store or tmp_path / "store",
            log_path=tmp_path / f"gateway{len(running)}.log",
            flags=[
                "--poll-seconds=0.1",
                f"--backend-timeout-seconds={PATIENT_SECONDS}",
            ],
        )
        running.append(gateway)
        return gateway

    yield start
    for gateway in running:
        gateway.stop()


class PoissonLoad:
    """Ranks and feedback that come when they come, answered or not.

    Attributes:
        failures: Errors of calls.
        answers: Of ranks for somebody unseen, so that scores tell versions.
        sent: How many events of each busy user were acknowledged.
    """

    def __init__(self, *clients, seed=0):
        self.failures = []
        self.answers = []
        self.sent = dict.fromkeys(range(BUSY_USERS), 0)
        self._clients = clients
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(32)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *error):
        self.stop()

    def stop(self):
        """Sends no more, and waits for the last answer."""
        self._stopped.set()
        self._thread.join()
        self._pool.shutdown()

    def _run(self):
        number = 0
        while not self._stopped.wait(self._random.exponential(1 / RATE)):
            self._pool.submit(self._call, number)
            number += 1

    def _call(self, number):
        client = self._clients[number % len(self._clients)]
        user = number // 3 % BUSY_USERS
        try:
            if number % 3 == 0:
                self.answers.append(client.rank("unseen", ITEMS))
            elif number % 3 == 1:
                client.rank(f"busy{user}", ITEMS)
            else:
                event = FeedbackEvent(str(number), "003", 1.0)
                client.submit_feedback(f"busy{user}", [event])
                with self._lock:
                    self.sent[user] += 1
        except grpc.RpcError as error:
            self.failures.append(error)


def wait_for_version(client, version):
    wait_until(lambda: client.rank("unseen", ITEMS).version == version)


def check_answers(load, oracles):
    """No call failed, and each answer is of one version, as it says."""
    assert load.failures == []
    for answer in load.answers:
        oracle = oracles[answer.version]
        fingerprint = oracle.parameters.fingerprint
        assert answer.provenance.fingerprint == fingerprint
        np.testing.assert_allclose(
            answer.scores, oracle.rank({}, ITEMS), atol=1e-5
        )


def count_of(client, user):
    return client.get_user(user).models[0].support_count


@pytest.mark.parametrize(
    "rollovers", [3, pytest.param(20, marks=pytest.mark.slow)]
)
def test_rollovers_fail_no_request_and_lose_no_event(
    start, model_server, oracles, rollovers
):
    with (
        RecommenderClient(start().target, PATIENT_SECONDS) as client,
        PoissonLoad(client) as load,
    ):
        for version in range(2, rollovers + 2):
            # As model servers do: the new one, then away with the oldest.
            model_server.backend.versions = {
                v: oracles[v] for v in (version - 1, version)
            }
            wait_for_version(client, version)
            client.submit_feedback(
                "kept", [FeedbackEvent(f"e{version}", "003", 1.0)]
            )
            time.sleep(0.2)
        load.stop()
        # Nothing acknowledged is lost, under whatever version it was learned.
        assert count_of(client, "kept") == rollovers
        for user, sent in load.sent.items():
            assert count_of(client, f"busy{user}") == sent
    check_answers(load, oracles)
    versions = {answer.version for answer in load.answers}
    assert versions <= set(range(1, rollovers + 2))
    assert len(versions) > 2


@pytest.mark.slow
def test_who_is_rebased_under_load_is_known_from_the_first_answer_on(
    start, model_server, oracles, tmp_path
):
    """Rebase, push, switch, as the pipeline does, beside a busy gateway."""
    export_toy(tmp_path / "pushed", version=2, seed=2)
    users = [f"known{number}" for number in range(40)]
    with (
        RecommenderClient(start().target, PATIENT_SECONDS) as client,
        PoissonLoad(client) as load,
    ):
        for user in users:
            client.submit_feedback(user, [FeedbackEvent("1", "003", 1.0)])
        subprocess.run(
            [
                *(sys.executable, "-m", "pipeline.cli", "rebase"),
                str(tmp_path / "pushed" / "2"),
                f"--store={tmp_path / 'store'}",
            ],
            check=True,
            timeout=300,
        )
        # The old version's weights answer until the switch.
        before = [client.rank(user, ITEMS) for user in users]
        model_server.backend.versions = {v: oracles[v] for v in (1, 2)}
        wait_for_version(client, 2)
        after = [client.rank(user, ITEMS) for user in users]
        load.stop()
        for user, sent in load.sent.items():
            assert count_of(client, f"busy{user}") == sent
    check_answers(load, oracles)
    for version, answers in ((1, before), (2, after)):
        weights, _, _ = oracles[version].adapt({}, ["003"], [1.0])
        expected = oracles[version].rank({}, ITEMS, weights)
        for answer in answers:
            assert (answer.version, answer.support_count) == (version, 1)
            np.testing.assert_allclose(answer.scores, expected, atol=1e-5)


def test_rollback_under_load_finds_the_old_weights_again(
    start, model_server, oracles
):
    with (
        RecommenderClient(start().target, PATIENT_SECONDS) as client,
        PoissonLoad(client) as load,
    ):
        client.submit_feedback("kept", [FeedbackEvent("1", "003", 1.0)])
        before = client.rank("kept", ITEMS)
        model_server.backend.versions = {v: oracles[v] for v in (1, 2)}
        wait_for_version(client, 2)
        client.submit_feedback("kept", [FeedbackEvent("2", "001", 0.0)])
        model_server.backend.versions = {1: oracles[1]}
        wait_for_version(client, 1)
        again = client.rank("kept", ITEMS)
        # Then what was learned meanwhile is learned for the old one as well.
        wait_until(lambda: client.rank("kept", ITEMS).support_count == 2)
        caught_up = client.rank("kept", ITEMS)
    check_answers(load, oracles)
    assert (before.version, again.version) == (1, 1)
    assert again.store_hit
    assert not again.degraded
    np.testing.assert_allclose(again.scores, before.scores, atol=1e-5)
    learned, _, _ = oracles[1].adapt({}, ["003"], [1.0])
    weights, _, _ = oracles[1].adapt(
        {}, ["003", "001"], [1.0, 0.0], weights=learned
    )
    np.testing.assert_allclose(
        caught_up.scores, oracles[1].rank({}, ITEMS, weights), atol=1e-4
    )


def test_a_model_server_that_keeps_one_version_only_fails_nobody(
    start, model_server, oracles
):
    """Calls that pinned what is gone are answered by its successor."""
    with (
        RecommenderClient(start().target, PATIENT_SECONDS) as client,
        PoissonLoad(client) as load,
    ):
        for version in (2, 3, 2, 1):
            model_server.delay = 0.05
            model_server.backend.versions = {version: oracles[version]}
            wait_for_version(client, version)
            # A call is tried once more, so let it live to see one change.
            time.sleep(0.5)
    check_answers(load, oracles)


def served_own_weights(client):
    """An answer from the user's own weights; the store may be slow to tell."""
    answers = []

    def is_hit():
        answers.append(client.rank("kept", ITEMS))
        return answers[-1].store_hit

    wait_until(is_hit)
    return answers[-1]


def test_two_gateways_switch_each_for_itself_and_share_the_users(
    start, model_server, oracles
):
    redis = RunningRedis()
    try:
        with (
            RecommenderClient(start(redis.url).target, PATIENT_SECONDS) as one,
            RecommenderClient(
                start(redis.url).target, PATIENT_SECONDS
            ) as other,
            PoissonLoad(one, other) as load,
        ):
            one.submit_feedback("kept", [FeedbackEvent("1", "003", 1.0)])
            model_server.backend.versions = {v: oracles[v] for v in (1, 2)}
            wait_for_version(one, 2)
            wait_for_version(other, 2)
            # Whichever meets the user first learns for both.
            one.rank("kept", ITEMS)
            ranked = [served_own_weights(each) for each in (other, one)]
            load.stop()
            for user, sent in load.sent.items():
                assert count_of(other, f"busy{user}") == sent
    finally:
        redis.close()
    check_answers(load, oracles)
    weights, _, _ = oracles[2].adapt({}, ["003"], [1.0])
    for answer in ranked:
        np.testing.assert_allclose(
            answer.scores, oracles[2].rank({}, ITEMS, weights), atol=1e-5
        )
