"""Clears away what a killed run left behind.

TFX publishes the outputs of a node only when it is finished, so nothing half
written is ever used. But the execution stays RUNNING for good, and its folders
stay on disk, where people and tools that look for the newest output find them.
"""

import pathlib
import shutil

from absl import logging
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2

_UNFINISHED = (
    metadata_store_pb2.Execution.NEW,
    metadata_store_pb2.Execution.RUNNING,
)


def abandon_unfinished(
    store: metadata_store.MetadataStore, pipeline_root: pathlib.Path
) -> list[int]:
    """Marks unfinished executions as failed and removes their folders.

    Only for a caller that knows that no run is under way: it must hold the
    run folder's lock.

    Args:
        store: The metadata of all runs.
        pipeline_root: Folder with the outputs, `<node>/<output>/<execution>`.

    Returns:
        Ids of the executions.
    """
    unfinished = [
        execution
        for execution in store.get_executions()
        if execution.last_known_state in _UNFINISHED
    ]
    for execution in unfinished:
        logging.warning(
            "Execution %d was not finished; removing its outputs.",
            execution.id,
        )
        # Outputs, then Beam's temporary and TFX's own folders.
        for pattern in ("*/*/{}", "*/.system/*/{}", ".temp/{}"):
            for folder in pipeline_root.glob(pattern.format(execution.id)):
                shutil.rmtree(folder)
        execution.last_known_state = metadata_store_pb2.Execution.FAILED
    if unfinished:
        store.put_executions(unfinished)
    return [execution.id for execution in unfinished]
