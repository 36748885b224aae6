"""Versions come and go under load: nobody notices but by the version told.

`ADAPTOWER_FAULT_ROUNDS=20` makes as many rollovers as should be made before a
release.
"""

import os
import threading
import time

import grpc
import numpy as np
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.launch import start_gateway
from tests.helpers.oracle_model_server import OracleModelServer, save_manifests
from tests.helpers.toy_model import ToyOracle, ToyParameters

pytestmark = pytest.mark.fault

ROLLOVERS = int(os.environ.get("ADAPTOWER_FAULT_ROUNDS", "6"))
VERSIONS = range(1, ROLLOVERS + 2)
ITEMS = ["000", "003", "005"]
THREADS = 4


@pytest.fixture(scope="module")
def oracles():
    return {v: ToyOracle(ToyParameters.from_seed(v)) for v in VERSIONS}


class Load:
    """Threads that rank and send feedback until told to stop."""

    def __init__(self, client):
        self.failures = []
        self.answers = []
        self._client = client
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(f"busy{number}",))
            for number in range(THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _run(self, user):
        number = 0
        while not self._stopped.is_set():
            number += 1
            try:
                # Somebody unseen, so that the scores tell the version.
                self.answers.append(self._client.rank("unseen", ITEMS))
                self._client.submit_feedback(
                    user, [FeedbackEvent(str(number), "003", 1.0)]
                )
                self._client.rank(user, ITEMS)
            except grpc.RpcError as error:
                self.failures.append(error)
            time.sleep(0.01)


def wait_for_version(client, version):
    deadline = time.monotonic() + 20
    while client.rank("unseen", ITEMS).version != version:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_rollovers_and_a_rollback_fail_no_request(tmp_path, oracles):
    save_manifests(tmp_path / "models", "adaptower", VERSIONS)
    with (
        OracleModelServer() as model_server,
        start_gateway(
            model_server.target,
            {"adaptower": tmp_path / "models"},
            tmp_path / "store",
            log_path=tmp_path / "gateway.log",
            flags=["--poll-seconds=0.1"],
        ) as gateway,
        RecommenderClient(gateway.target) as client,
    ):
        before = VERSIONS[-2]
        load = Load(client)
        try:
            for version in VERSIONS[1:]:
                # As model servers do: the new one, then away with the oldest.
                loaded = (version - 1, version)
                model_server.backend.versions = {v: oracles[v] for v in loaded}
                wait_for_version(client, version)
                event = FeedbackEvent(f"e{version}", "003", 1.0)
                client.submit_feedback("kept", [event])
                if version == before:
                    ranked = client.rank("kept", ITEMS)
            model_server.backend.versions = {before: oracles[before]}
            wait_for_version(client, before)
            again = client.rank("kept", ITEMS)
        finally:
            load.stop()
        assert load.failures == []
        assert {answer.version for answer in load.answers} <= {*VERSIONS}
        assert len({answer.version for answer in load.answers}) > 2
        for answer in load.answers:
            oracle = oracles[answer.version]
            fingerprint = oracle.parameters.fingerprint
            assert answer.provenance.fingerprint == fingerprint
            np.testing.assert_allclose(
                answer.scores, oracle.rank({}, ITEMS), atol=1e-5
            )
        # Nothing acknowledged is lost, under whatever version it was learned.
        export = client.get_user("kept")
        assert export.models[0].support_count == ROLLOVERS
        # The weights learned for the version of before are good again.
        assert again.store_hit
        assert not again.degraded
        np.testing.assert_allclose(again.scores, ranked.scores, atol=1e-5)
