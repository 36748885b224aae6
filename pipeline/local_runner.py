"""Runs the pipeline of a dataset on this machine."""

from collections.abc import Callable

from tfx.orchestration.pipeline import Pipeline

from pipeline.create_pipeline import create_pipeline
from pipeline.pipeline_config import PipelineConfig
from pipeline.quiet import stderr_to_file
from pipeline.reporting_runner import ReportingRunner
from pipeline.run_lock import run_lock
from pipeline.stages import PipelineRun, Stage, print_stage
from pipeline.training_progress import show_progress

_LOG = "pipeline.log"
_STAGE_SECONDS = "stage_seconds.json"


def run_pipeline(
    config: PipelineConfig,
    report: Callable[[Stage], None] = print_stage,
    define: Callable[[PipelineConfig], Pipeline] = create_pipeline,
) -> PipelineRun:
    """Runs the pipeline; stages that have nothing new to do are not repeated.

    While it runs, standard error goes to `logs/pipeline.log`, and standard
    output shows how far a training is. The time of each stage is left in
    `stage_seconds.json`.

    Args:
        config: What to run.
        report: Called when a node starts and when it ends.
        define: Says which nodes there are.

    Returns:
        All nodes and what they made.

    Raises:
        RunLockedError: Another process is running the same run folder.
        StageError: A node failed.
    """
    layout = config.layout
    with (
        run_lock(layout.root),
        stderr_to_file(layout.logs / _LOG),
        show_progress() as progress,
    ):

        def report_below(stage: Stage) -> None:
            progress.clear()
            report(stage)

        runner = ReportingRunner(report_below)
        run = runner.run(define(config))
        run.write(layout.root / _STAGE_SECONDS)
        return run
