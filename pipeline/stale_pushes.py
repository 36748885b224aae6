"""Forgets pushes that are no longer what a model server would serve.

A node's outputs come from the cache if its inputs are the same as before. For
a push that is not enough: a model of other hyper-parameters may have been
pushed since, or the folder been emptied. Its artifact must not stand for a
push then, or going back to the first hyper-parameters would serve the second.
"""

import pathlib

from absl import logging
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.types.standard_artifacts import PushedModel

from components.versioned_pusher import versions


def forget_stale_pushes(store: metadata_store.MetadataStore) -> list[str]:
    """Marks artifacts of replaced or removed versions as deleted.

    TFX's cache does not answer with artifacts that are not live.

    Args:
        store: The metadata of all runs.

    Returns:
        Folders of the versions.
    """
    if PushedModel.TYPE_NAME not in {
        artifact_type.name for artifact_type in store.get_artifact_types()
    }:
        return []
    stale = {
        destination: artifact
        for artifact in store.get_artifacts_by_type(PushedModel.TYPE_NAME)
        if artifact.state == metadata_store_pb2.Artifact.LIVE
        and (destination := _destination(artifact))
        and not _is_newest(pathlib.Path(destination))
    }
    for destination, artifact in stale.items():
        logging.info("%s is not the newest version any more.", destination)
        artifact.state = metadata_store_pb2.Artifact.DELETED
    if stale:
        store.put_artifacts(list(stale.values()))
    return sorted(stale)


def _destination(artifact: metadata_store_pb2.Artifact) -> str:
    """Folder of the pushed version; empty if nothing was pushed."""
    properties = dict(artifact.custom_properties)
    if "pushed_destination" not in properties:
        return ""
    return str(properties["pushed_destination"].string_value)


def _is_newest(destination: pathlib.Path) -> bool:
    listed = versions.listed_versions(destination.parent)
    return bool(listed) and str(listed[-1]) == destination.name
