"""A model server and a gateway as processes, for the tests of a module."""

import pytest

from serving.client import RecommenderClient
from serving.launch import start_gateway, start_model_server
from tests.helpers.patience import PATIENT_SECONDS
from tests.serving.conftest import push


@pytest.fixture(scope="module")
def models(tmp_path_factory, toys):
    root = tmp_path_factory.mktemp("serving")
    paths = {"adaptower": root / "adaptower", "joint": root / "joint"}
    for seed, path in enumerate(paths.values()):
        path.mkdir()
        push(toys[seed], path, 1)
    return paths


@pytest.fixture(scope="module")
def model_server(models, tmp_path_factory):
    log_path = tmp_path_factory.mktemp("logs") / "model_server.log"
    with start_model_server(
        models, log_path=log_path, poll_seconds=0.2
    ) as server:
        yield server


@pytest.fixture(scope="module")
def store_path(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def run_gateway(model_server, models, store_path, tmp_path_factory):
    log_path = tmp_path_factory.mktemp("logs") / "gateway.log"
    return lambda *flags: start_gateway(
        model_server.target,
        models,
        store_path,
        log_path=log_path,
        flags=[
            "--poll-seconds=0.2",
            "--max-candidates=50",
            f"--backend-timeout-seconds={PATIENT_SECONDS}",
            *flags,
        ],
    )


@pytest.fixture(scope="module")
def gateway(run_gateway):
    with run_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def client(gateway):
    with RecommenderClient(gateway.target, PATIENT_SECONDS) as client:
        yield client
