"""A real gateway process, and servers behind it that can misbehave."""

import contextlib

import pytest

from serving.client import RecommenderClient
from serving.launch import start_gateway
from tests.helpers.oracle_model_server import OracleModelServer, save_manifests
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.redis_server import RunningRedis


@pytest.fixture(params=[5, pytest.param(200, marks=pytest.mark.slow)])
def rounds(request):
    """How often something is killed: every day, and before a release."""
    return request.param


@pytest.fixture
def model_server():
    with OracleModelServer() as server:
        yield server


@pytest.fixture
def redis():
    server = RunningRedis()
    yield server
    server.close()


@pytest.fixture
def run_gateway(model_server, tmp_path):
    """Starts gateways; they end with the test."""
    save_manifests(tmp_path / "models", "adaptower")
    with contextlib.ExitStack() as stack:

        def run(*flags, **options):
            return stack.enter_context(
                start_gateway(
                    model_server.target,
                    {"adaptower": tmp_path / "models"},
                    tmp_path / "store",
                    log_path=tmp_path / "gateway.log",
                    flags=[
                        "--poll-seconds=0.2",
                        f"--backend-timeout-seconds={PATIENT_SECONDS}",
                        *flags,
                    ],
                    **options,
                )
            )

        yield run


@pytest.fixture
def gateway(run_gateway):
    return run_gateway()


@pytest.fixture
def client(gateway):
    with RecommenderClient(gateway.target, PATIENT_SECONDS) as client:
        yield client
