"""A gateway in this process whose model server is the toy's oracle."""

import pytest

from serving.store import MemoryStore
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.toy_model import ToyOracle, ToyParameters


@pytest.fixture(scope="session")
def oracle():
    return ToyOracle(ToyParameters.from_seed(1))


@pytest.fixture
def start(tmp_path):
    """Starts gateways with other flags; they end with the test."""
    running = []

    def start(versions=(1,), store=None, **flags):
        backend = OracleBackend(
            {v: ToyOracle(ToyParameters.from_seed(v)) for v in versions}
        )
        gateway = OracleGateway(
            backend, store or MemoryStore(), tmp_path, **flags
        )
        running.append(gateway)
        return gateway

    yield start
    for gateway in running:
        gateway.__exit__()


@pytest.fixture
def gateway(start):
    return start()
