"""A TFX runner for this machine that tells how far it is."""

import dataclasses
import datetime
import pathlib
import time
from collections.abc import Callable
from typing import Any

from absl import logging
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.dsl.compiler import constants
from tfx.orchestration import metadata
from tfx.orchestration.local import runner_utils
from tfx.orchestration.portable import (
    launcher,
    runtime_parameter_utils,
    tfx_runner,
)
from tfx.proto.orchestration import pipeline_pb2

from pipeline import stages
from pipeline.errors import StageError
from pipeline.recovery import abandon_unfinished
from pipeline.stages import PipelineRun, Stage
from pipeline.stale_pushes import forget_rebases, forget_stale_pushes

_STATES = {
    metadata_store_pb2.Execution.COMPLETE: stages.DONE,
    metadata_store_pb2.Execution.CACHED: stages.CACHED,
}
_OUTPUT_EVENTS = (
    metadata_store_pb2.Event.OUTPUT,
    # Of resolvers, whose outputs are other nodes' artifacts.
    metadata_store_pb2.Event.INTERNAL_OUTPUT,
)


class ReportingRunner(tfx_runner.IrBasedRunner):
    """LocalDagRunner that clears up after killed runs and reports.

    TFX's own has no place to hook into; like it, this one launches the nodes
    one after the other in this process.
    """

    def __init__(self, report: Callable[[Stage], None]) -> None:
        self._report = report

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: Any = None,
        **kwargs: Any,
    ) -> PipelineRun:
        """Runs a compiled pipeline; see `run_pipeline`."""
        del run_options, kwargs
        runtime_parameter_utils.substitute_runtime_parameter(
            pipeline,
            {
                constants.PIPELINE_RUN_ID_PARAMETER_NAME: (
                    datetime.datetime.now().isoformat()
                )
            },
        )
        deployment = runner_utils.extract_local_deployment_config(pipeline)
        connection_config = deployment.metadata_connection_config
        connection = getattr(
            connection_config, connection_config.WhichOneof("connection_config")
        )
        with metadata.Metadata(connection) as handle:
            abandon_unfinished(
                handle.store,
                pathlib.Path(
                    pipeline.runtime_spec.pipeline_root.field_value.string_value
                ),
            )
            forget_stale_pushes(handle.store)
            forget_rebases(handle.store)
        nodes = [node.pipeline_node for node in pipeline.nodes]
        finished = []
        for number, node in enumerate(nodes, start=1):
            node_id = node.node_info.id
            stage = Stage(node_id, number, len(nodes), stages.RUNNING)
            node_launcher = launcher.Launcher(
                pipeline_node=node,
                mlmd_connection=metadata.Metadata(connection),
                pipeline_info=pipeline.pipeline_info,
                pipeline_runtime_spec=pipeline.runtime_spec,
                executor_spec=runner_utils.extract_executor_spec(
                    deployment, node_id
                ),
                custom_driver_spec=runner_utils.extract_custom_driver_spec(
                    deployment, node_id
                ),
            )
            finished.append(self._run(stage, node_launcher, connection))
        return PipelineRun(tuple(finished))

    def _run(
        self,
        stage: Stage,
        node_launcher: launcher.Launcher,
        connection: metadata_store_pb2.ConnectionConfig,
    ) -> Stage:
        """Runs one node and reports its start and its end.

        Raises:
            StageError: The node failed.
        """
        self._report(stage)
        start = time.monotonic()
        try:
            execution = node_launcher.launch()
            with metadata.Metadata(connection) as handle:
                ended = _read_execution(handle.store, execution.execution_id)
        except Exception as error:
            logging.exception("%s failed.", stage.node)
            failed = _ended(stage, start, state=stages.FAILED)
            self._report(failed)
            raise StageError(
                f"{stage.node} failed after {failed.seconds:.1f} s: "
                f"{root_message(error)}"
            ) from error
        done = _ended(stage, start, **ended)
        self._report(done)
        if done.state == stages.FAILED:
            # TFX publishes the failure of finding a node's inputs, and then
            # goes on with the next node; this runner doesn't.
            raise StageError(
                f"{stage.node} found no inputs to work on. The log names the "
                "input; nodes before it may not have published their outputs."
            )
        return done


def root_message(error: BaseException) -> str:
    """What went wrong at the bottom of a chain of errors, without traces.

    Beam raises one error whose text is the whole traceback of the worker; its
    last line is the message.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "Traceback" in str(error) else "\n".join(lines)


def _ended(stage: Stage, start: float, **changes: Any) -> Stage:
    seconds = time.monotonic() - start
    return dataclasses.replace(stage, seconds=seconds, **changes)


def _read_execution(
    store: metadata_store.MetadataStore, execution_id: int
) -> dict[str, Any]:
    """What the metadata say about a finished execution, as `Stage` has it."""
    [execution] = store.get_executions_by_id([execution_id])
    events = [
        event
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type in _OUTPUT_EVENTS
    ]
    artifacts = {
        artifact.id: artifact
        for artifact in store.get_artifacts_by_id(
            [event.artifact_id for event in events]
        )
    }
    outputs: dict[str, tuple[str, ...]] = {}
    summaries = []
    for event in events:
        artifact = artifacts[event.artifact_id]
        key = event.path.steps[0].key
        outputs[key] = (*outputs.get(key, ()), artifact.uri)
        if event.type == metadata_store_pb2.Event.OUTPUT:
            summaries += describe(artifact)
    return {
        "state": _STATES.get(execution.last_known_state, stages.FAILED),
        "summary": "; ".join(summaries),
        "outputs": outputs,
    }


def describe(artifact: metadata_store_pb2.Artifact) -> list[str]:
    """What people want to know of an artifact, from its custom properties.

    Components of this project say it in `summary`; blessings and pushed
    models follow TFX's conventions.
    """
    properties = dict(artifact.custom_properties)
    parts = []
    if "summary" in properties:
        parts.append(properties["summary"].string_value)
    # ExampleValidator's is a value per split, and the gate's to judge.
    if "blessed" in properties and properties["blessed"].HasField("int_value"):
        is_blessed = properties["blessed"].int_value == 1
        parts.append("blessed" if is_blessed else "NOT blessed")
        if "blessing_message" in properties and not is_blessed:
            parts.append(properties["blessing_message"].string_value)
    if "pushed" in properties:
        parts.append(
            f"pushed as {properties['pushed_version'].string_value}"
            if properties["pushed"].int_value == 1
            else "NOT pushed"
        )
    return parts
