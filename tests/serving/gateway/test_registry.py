import asyncio

import pytest

from serving.errors import BackendUnavailableError, UnknownModelError
from serving.gateway.registry import ModelRegistry
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ToyParameters


@pytest.fixture
def base_path(tmp_path):
    for version in (1, 2):
        parameters = ToyParameters.from_seed(version)
        parameters.manifest().save(tmp_path / str(version))
    return tmp_path


@pytest.fixture
def backend():
    return OracleBackend({})


@pytest.fixture
def registry(base_path, backend):
    return ModelRegistry(backend, {"adaptower": base_path}, "adaptower")


def refresh(registry):
    asyncio.run(registry.refresh())
    return registry.resolve()


def test_model_without_a_version_is_unavailable(registry):
    assert not registry.ready
    with pytest.raises(BackendUnavailableError, match="no version ready"):
        refresh(registry)


def test_version_and_manifest_switch_together(registry, backend):
    backend.versions = {1: None}
    assert refresh(registry).version == 1
    backend.versions = {1: None, 2: None}
    served = refresh(registry)
    assert served.version == 2
    fingerprint = ToyParameters.from_seed(2).fingerprint
    assert served.manifest.fingerprint == fingerprint
    backend.versions = {1: None}
    assert refresh(registry).version == 1


def test_version_with_an_unreadable_manifest_is_passed_over(
    registry, backend, base_path
):
    manifest = base_path / "2/assets.extra/adaptive_manifest.json"
    manifest.write_text("{}")
    backend.versions = {1: None, 2: None}
    assert refresh(registry).version == 1


def test_unreachable_model_server_changes_nothing(registry, backend):
    backend.versions = {1: None}
    refresh(registry)

    async def fail(model):
        raise BackendUnavailableError("gone")

    backend.available_versions = fail
    assert refresh(registry).version == 1


def test_unknown_model_error_names_those_there_are(registry):
    with pytest.raises(UnknownModelError, match="served are: adaptower"):
        registry.resolve("nobody")
