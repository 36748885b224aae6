"""A volume hangs that models or logs are on: who needs it not, waits not.

A named pipe stands in for the file that does not come. Without an event loop
that goes on, none of these requests would be answered before the pipe is.
"""

import time
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.experiments import line_writer
from serving.experiments.config import Arm, Experiment, ExperimentsConfig
from serving.experiments.joining import read_lines
from serving.store import MemoryStore, UserKey
from tests.helpers.hanging_file import HangingDisk, hanging
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.patience import wait_until
from tests.helpers.toy_model import ToyOracle, ToyParameters
from tests.serving.gateway.rpcs.test_prediction import ITEMS, predict

pytestmark = pytest.mark.fault

SECONDS = 60.0


def manifest_of(base_path, version):
    folder = base_path / "model0" / str(version) / "assets.extra"
    return folder / "adaptive_manifest.json"


@pytest.fixture
def gateway(tmp_path):
    backend = OracleBackend({v: ToyOracle.from_seed(v) for v in (1, 2)})
    with OracleGateway(backend, MemoryStore(), tmp_path) as gateway:
        yield gateway


@pytest.fixture
def client(gateway):
    with RecommenderClient(gateway.target, SECONDS) as client:
        yield client


def use(gateway, client, version):
    """Does what users do; returns how often, each with the current version."""
    for number in range(10):
        assert client.rank("u", ITEMS).provenance.version == version
        client.submit_feedback("u", [FeedbackEvent(str(number), "003", 1.0)])
        predict(gateway)


def test_request_for_an_old_version_holds_up_no_other(
    gateway, client, tmp_path
):
    with hanging(manifest_of(tmp_path, 1)), ThreadPoolExecutor() as threads:
        named = [threads.submit(predict, gateway, 1) for _ in range(5)]
        use(gateway, client, version=2)
        for each in named:
            error = each.exception(SECONDS)
            assert error.code() == grpc.StatusCode.NOT_FOUND
            assert "reading takes more than" in error.details()


def test_version_that_can_not_be_read_is_passed_over_until_it_can(
    gateway, client, tmp_path
):
    ToyParameters.from_seed(3).manifest("model0").save(tmp_path / "model0/3")
    with hanging(manifest_of(tmp_path, 3)), ThreadPoolExecutor() as threads:
        gateway.backend.versions[3] = ToyOracle.from_seed(3)
        looking = threads.submit(gateway.refresh)
        use(gateway, client, version=2)
        looking.result(SECONDS)
        use(gateway, client, version=2)
    # What waited has read an empty file; a later look reads the whole one.
    end = time.monotonic() + SECONDS
    while client.rank("u", ITEMS).provenance.version != 3:
        assert time.monotonic() < end
        gateway.refresh()


def test_current_version_needs_no_file_once_it_is_known(
    gateway, client, tmp_path
):
    with hanging(manifest_of(tmp_path, 2)), ThreadPoolExecutor() as threads:
        for each in [threads.submit(predict, gateway, 2) for _ in range(5)]:
            each.result(SECONDS)
        gateway.refresh()
        use(gateway, client, version=2)


def test_exposure_log_that_hangs_holds_up_answers_no_more_than_receipts_lie(
    tmp_path, monkeypatch
):
    disk = HangingDisk()
    monkeypatch.setattr(line_writer, "FileIO", disk.open)
    folder = tmp_path / "exposures"
    experiments = ExperimentsConfig(
        (Experiment("x", (Arm("a"),)),), folder, tmp_path / "key"
    )
    backend = OracleBackend({1: ToyOracle.from_seed(1)})
    with (
        OracleGateway(
            backend, MemoryStore(), tmp_path, experiments=experiments
        ) as gateway,
        RecommenderClient(gateway.target, SECONDS) as client,
    ):
        disk.hang()
        use(gateway, client, version=1)
        wait_until(lambda: disk.is_met)
        with ThreadPoolExecutor() as threads:
            receipt = threads.submit(client.delete_user, "u")
            # All but the line is done.
            wait_until(lambda: gateway.store.tombstone(UserKey("model0", "u")))
            with pytest.raises(futures.TimeoutError):
                receipt.result(1.0)
            disk.go_on()
            receipt.result(SECONDS)
        kinds = [line["kind"] for line in read_lines(folder)]
    # Each time Rank and Predict show something, and an event comes of it.
    assert sorted(kinds[:-1]) == ["exposure"] * 20 + ["outcome"] * 10
    assert kinds[-1] == "forget"
