"""A pipeline of two nodes that can be told to fail or to hang."""

import os
import pathlib
import time

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

from tfx.dsl.component.experimental.annotations import (
    InputArtifact,
    OutputArtifact,
    Parameter,
)
from tfx.dsl.component.experimental.decorators import component
from tfx.orchestration.metadata import sqlite_metadata_connection_config
from tfx.orchestration.pipeline import Pipeline
from tfx.types.standard_artifacts import Examples

from pipeline.reporting_runner import ReportingRunner
from pipeline.run_lock import run_lock
from pipeline.stages import print_stage


@component
def First(made: OutputArtifact[Examples]) -> None:  # noqa: N802
    """Writes a file."""
    (pathlib.Path(made.uri) / "first.txt").write_text("1")
    made.set_string_custom_property("summary", "one file")


@component
def Second(  # noqa: N802
    taken: InputArtifact[Examples],
    made: OutputArtifact[Examples],
    folder: Parameter[str],
) -> None:
    """Writes half its output, then does what a file in the folder says."""
    (pathlib.Path(made.uri) / "half.txt").write_text("2")
    if (pathlib.Path(folder) / "fail").exists():
        raise ValueError("told to fail")
    if (pathlib.Path(folder) / "hang").exists():
        (pathlib.Path(folder) / "hanging").touch()
        time.sleep(300)
    first = (pathlib.Path(taken.uri) / "first.txt").read_text()
    (pathlib.Path(made.uri) / "whole.txt").write_text(first + "2")


def make_pipeline(folder: pathlib.Path) -> Pipeline:
    """First, then Second; their names are their ids."""
    first = First()
    second = Second(taken=first.outputs["made"], folder=str(folder))
    return Pipeline(
        pipeline_name="tiny",
        pipeline_root=str(folder / "root"),
        components=[first, second],
        enable_cache=True,
        metadata_connection_config=sqlite_metadata_connection_config(
            str(folder / "metadata.sqlite")
        ),
    )


def main(folder: pathlib.Path) -> None:
    """Runs the pipeline as `run_pipeline` would."""
    with run_lock(folder):
        ReportingRunner(print_stage).run(make_pipeline(folder))
