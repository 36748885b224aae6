"""Forgets what was done to the world outside and may not hold any more.

A node's outputs come from the cache if its inputs are the same as before. For
a push that is not enough: a model of other hyper-parameters may have been
pushed since, or the folder been emptied. Its artifact must not stand for a
push then, or going back to the first hyper-parameters would serve the second.
Nor does it hold for a rebase: users come between two runs.
"""

import pathlib

from absl import logging
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.types.standard_artifacts import PushedModel

from components.artifacts import RebaseResult
from components.versioned_pusher import versions


def forget_stale_pushes(store: metadata_store.MetadataStore) -> list[str]:
    """Marks artifacts of replaced or removed versions as deleted.

    TFX's cache does not answer with artifacts that are not live.

    Args:
        store: The metadata of all runs.

    Returns:
        Folders of the versions.
    """
    stale = {
        destination: artifact
        for artifact in _live(store, PushedModel.TYPE_NAME)
        if (destination := _destination(artifact))
        and not _is_newest(pathlib.Path(destination))
    }
    for destination in stale:
        logging.info("%s is not the newest version any more.", destination)
    _delete(store, list(stale.values()))
    return sorted(stale)


def forget_rebases(store: metadata_store.MetadataStore) -> None:
    """Marks the artifacts of all rebases as deleted.

    Running one again learns only the users who came since.

    Args:
        store: The metadata of all runs.
    """
    _delete(store, _live(store, RebaseResult.TYPE_NAME))


def _live(
    store: metadata_store.MetadataStore, type_name: str
) -> list[metadata_store_pb2.Artifact]:
    """The artifacts of a type, known or not, that the cache may answer with."""
    if type_name not in {known.name for known in store.get_artifact_types()}:
        return []
    return [
        artifact
        for artifact in store.get_artifacts_by_type(type_name)
        if artifact.state == metadata_store_pb2.Artifact.LIVE
    ]


def _delete(
    store: metadata_store.MetadataStore,
    artifacts: list[metadata_store_pb2.Artifact],
) -> None:
    for artifact in artifacts:
        artifact.state = metadata_store_pb2.Artifact.DELETED
    if artifacts:
        store.put_artifacts(artifacts)


def _destination(artifact: metadata_store_pb2.Artifact) -> str:
    """Folder of the pushed version; empty if nothing was pushed."""
    properties = dict(artifact.custom_properties)
    if "pushed_destination" not in properties:
        return ""
    return str(properties["pushed_destination"].string_value)


def _is_newest(destination: pathlib.Path) -> bool:
    listed = versions.listed_versions(destination.parent)
    return bool(listed) and str(listed[-1]) == destination.name
