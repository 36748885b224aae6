"""InteractionExampleGen in a pipeline, with TFX's cache."""

import os

from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.local.local_dag_runner import LocalDagRunner
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline

from components.interaction_example_gen.component import InteractionExampleGen
from tests.components.interaction_example_gen import runs

CACHED = metadata_store_pb2.Execution.CACHED
COMPLETE = metadata_store_pb2.Execution.COMPLETE


def run_pipeline(folder):
    """Runs a pipeline of one node; returns the states of all its runs."""
    connection = sqlite_metadata_connection_config(str(folder / "db"))
    node = InteractionExampleGen(runs.make_spec(), str(folder))
    LocalDagRunner().run(
        Pipeline(
            pipeline_name="test",
            pipeline_root=str(folder / "root"),
            components=[node],
            enable_cache=True,
            metadata_connection_config=connection,
            beam_pipeline_args=runs.BEAM_ARGS,
        )
    )
    store = metadata_store.MetadataStore(connection)
    return [execution.last_known_state for execution in store.get_executions()]


def test_run_is_cached_until_a_file_changes(tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("user,item,rating,time\na,b,5,1\n")
    assert run_pipeline(tmp_path) == [COMPLETE]
    assert run_pipeline(tmp_path) == [COMPLETE, CACHED]
    log.write_text("user,item,rating,time\na,b,5,1\na,c,5,2\n")
    assert run_pipeline(tmp_path) == [COMPLETE, CACHED, COMPLETE]
    later = log.stat().st_mtime + 10
    os.utime(log, (later, later))
    assert run_pipeline(tmp_path)[-1] == COMPLETE
