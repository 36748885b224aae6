"""A gateway in this process whose model server is the toy's oracle."""

import dataclasses

import numpy as np
import pytest

from serving.contract.manifest import AdaptiveManifest
from serving.experiments.config import Experiment, ExperimentsConfig
from serving.store import MemoryStore
from serving.tf_serving import encode_tensor
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


@pytest.fixture
def run(start, tmp_path):
    """Starts a gateway with one experiment; returns both."""

    def run(*arms, shadows=(), models=1, versions=(1,), share=1.0):
        experiment = Experiment("x", arms, shadows, share, salt="s")
        log = tmp_path / "exposures"
        config = ExperimentsConfig((experiment,), log, log / "key")
        gateway = start(versions=versions, models=models, experiments=config)
        return gateway, experiment

    return run


@pytest.fixture
def run_without_age(run):
    """Does so with a second model; one of both has no feature "age"."""

    def run_without_age(*arms, shadows=(), without="model1"):
        gateway, experiment = run(
            *arms, shadows=shadows, models=2, versions=(1, 2)
        )
        path = gateway.config.models[without] / "3"
        manifest = AdaptiveManifest.load(path.with_name("2"))
        features = tuple(f for f in manifest.user_features if f.name != "age")
        dataclasses.replace(manifest, user_features=features).save(path)
        backend = gateway.backend
        predict, versions = backend.predict, backend.available_versions
        backend.versions[3] = backend.versions[2]

        async def without_age(model, version, signature, inputs):
            # The oracle has it all the same.
            if version == 3:
                assert "age" not in inputs
                rows = inputs["adaptive_weights"].tensor_shape.dim[0].size
                ages = np.full(rows, np.nan, np.float32)
                inputs = {**inputs, "age": encode_tensor(ages)}
            return await predict(model, version, signature, inputs)

        async def of_model(model):
            found = await versions(model)
            return found if model == without else found[1:]

        backend.predict, backend.available_versions = without_age, of_model
        gateway.refresh()
        return gateway, experiment

    return run_without_age
