"""Pushes that were replaced or removed are not answered from the cache."""

import pathlib
import shutil

import pytest
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

from pipeline.stale_pushes import forget_rebases, forget_stale_pushes


@pytest.fixture
def store():
    config = metadata_store_pb2.ConnectionConfig()
    config.fake_database.SetInParent()
    return metadata_store.MetadataStore(config)


def push(store, base: pathlib.Path, version: int) -> int:
    """Notes a push as VersionedPusher does; returns the artifact's id."""
    (base / str(version)).mkdir(parents=True)
    type_id = store.put_artifact_type(
        metadata_store_pb2.ArtifactType(name="PushedModel")
    )
    artifact = metadata_store_pb2.Artifact(
        type_id=type_id, state=metadata_store_pb2.Artifact.LIVE
    )
    artifact.custom_properties["pushed"].int_value = 1
    artifact.custom_properties["pushed_destination"].string_value = str(
        base / str(version)
    )
    return store.put_artifacts([artifact])[0]


def is_live(store, artifact_id):
    [artifact] = store.get_artifacts_by_id([artifact_id])
    return artifact.state == metadata_store_pb2.Artifact.LIVE


def test_newest_version_of_each_model_stays(store, tmp_path):
    first = push(store, tmp_path / "adaptower", 9)
    second = push(store, tmp_path / "adaptower", 10)
    joint = push(store, tmp_path / "joint", 5)
    assert forget_stale_pushes(store) == [str(tmp_path / "adaptower" / "9")]
    assert not is_live(store, first)
    assert is_live(store, second)
    assert is_live(store, joint)


@pytest.mark.parametrize("removed", ["adaptower", "adaptower/9"])
def test_removed_version_is_forgotten(store, tmp_path, removed):
    pushed = push(store, tmp_path / "adaptower", 9)
    shutil.rmtree(tmp_path / removed)
    forget_stale_pushes(store)
    assert not is_live(store, pushed)


def test_refused_push_stays(store, tmp_path):
    pushed = push(store, tmp_path / "adaptower", 9)
    [artifact] = store.get_artifacts_by_id([pushed])
    del artifact.custom_properties["pushed_destination"]
    artifact.custom_properties["pushed"].int_value = 0
    store.put_artifacts([artifact])
    shutil.rmtree(tmp_path / "adaptower")
    assert forget_stale_pushes(store) == []
    assert is_live(store, pushed)


def test_first_run_has_nothing_to_forget(store):
    assert forget_stale_pushes(store) == []


def test_every_rebase_is_forgotten_and_nothing_else(store, tmp_path):
    forget_rebases(store)
    pushed = push(store, tmp_path / "adaptower", 9)
    type_id = store.put_artifact_type(
        metadata_store_pb2.ArtifactType(name="RebaseResult")
    )
    artifact = metadata_store_pb2.Artifact(
        type_id=type_id, state=metadata_store_pb2.Artifact.LIVE
    )
    rebases = store.put_artifacts([artifact, artifact])
    forget_rebases(store)
    assert not any(is_live(store, rebase) for rebase in rebases)
    assert is_live(store, pushed)
