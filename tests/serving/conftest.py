"""Toy models, exported once: that takes seconds; and a Redis server."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.redis_server import RunningRedis
from tests.helpers.toy_model import ToyOracle, ToyParameters, export_toy

SEEDS = (0, 1)


@pytest.fixture(scope="session")
def toys(tmp_path_factory) -> dict[int, Path]:
    """SavedModel folder of each seed's toy; other seed, other fingerprint."""
    root = tmp_path_factory.mktemp("toys")
    for seed in SEEDS:
        export_toy(root, version=seed, seed=seed)
    return {seed: root / str(seed) for seed in SEEDS}


@pytest.fixture(scope="session")
def oracles() -> dict[int, ToyOracle]:
    """The mathematics of each seed's toy."""
    return {s: ToyOracle(ToyParameters.from_seed(s)) for s in SEEDS}


def push(toy: Path, base_path: Path, version: int) -> None:
    """Puts a toy into a base path as a pusher does: complete or not at all."""
    building = base_path / f".building-{version}"
    shutil.copytree(toy, building)
    building.rename(base_path / str(version))


@pytest.fixture(scope="module")
def redis_server():
    server = RunningRedis()
    yield server
    server.close()
