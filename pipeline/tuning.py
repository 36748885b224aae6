"""`adaptower tune`: the data nodes, then a search over their episodes."""

import pathlib

from rich.console import Console

from pipeline.catalog import load_dataset_spec
from pipeline.create_pipeline import create_data_pipeline
from pipeline.data_nodes import declared_features
from pipeline.fetch import fetch_dataset
from pipeline.fingerprint import code_fingerprint
from pipeline.local_runner import run_pipeline
from pipeline.pipeline_config import PipelineConfig
from pipeline.quiet import stderr_to_file
from pipeline.run_config import RunConfig
from pipeline.run_lock import run_lock
from pipeline.stages import PipelineRun
from pipeline.training_progress import show_progress
from pipeline.trial_report import TrialReport
from trainer.tuning.options import TuningOptions
from trainer.tuning.request import SearchRequest
from trainer.tuning.trials import read_trials
from trainer.tuning.workers import search

_LOG = "tuning.log"


def tune(
    config: RunConfig,
    options: TuningOptions,
    *,
    workers: int = 1,
    out: pathlib.Path | None = None,
) -> int:
    """Searches, prints the trials, and writes their table.

    Args:
        config: Dataset, folders, and what is given and not searched.
        options: How it is searched.
        workers: Processes that run trials.
        out: Folder of the table; the run's own if None.

    Returns:
        0: the exit status of a search that found something.

    Raises:
        PipelineError: Data can't be had, or a node failed.
        TrainerError: No trial came to its end.
    """
    console = Console()
    spec = load_dataset_spec(config.dataset)
    console.rule(f"[bold]{spec.name}[/]: data", align="left")
    pipeline = PipelineConfig(
        dataset=spec,
        data_folder=fetch_dataset(spec, config.data_path),
        run_dir=config.runs / spec.name,
        overrides=config.overrides,
    )
    run = run_pipeline(pipeline, define=create_data_pipeline)
    request = search_request(pipeline, run, options)
    layout = pipeline.layout
    known = len(read_trials(request.folder))
    console.rule(
        f"{options.max_trials} trials, {options.budget_bytes} bytes per user"
        + (f", {known} known from before" if known else ""),
        align="left",
    )
    with (
        run_lock(layout.root),
        stderr_to_file(layout.logs / _LOG),
        show_progress(),
    ):
        search(request, workers)
    report = TrialReport(
        spec,
        request,
        read_trials(request.folder),
        command=command_of(config, options),
    )
    report.print(console)
    for path in report.write(out or layout.tuning):
        console.print(f"table  {path}", soft_wrap=True)
    return 0


def command_of(config: RunConfig, options: TuningOptions) -> str:
    """The command line of a search."""
    words = [
        f"adaptower tune {config.dataset}",
        f"--trials {options.max_trials}",
        f"--budget-bytes {options.budget_bytes}",
        f"--oracle {options.oracle}",
        f"--seed {config.seed}",
    ]
    if config.train_steps is not None:
        words.append(f"--train-steps {config.train_steps}")
    for name, value in config.hyper_parameters.items():
        words.append(f"--set {name}={value}")
    return " ".join(words)


def search_request(
    config: PipelineConfig, run: PipelineRun, options: TuningOptions
) -> SearchRequest:
    """What the pipeline's Tuner node would search with the same options.

    Args:
        config: Of the pipeline.
        run: Has made the episodes.
        options: How it is searched.
    """
    episodes = run.output("EpisodeGen", "episodes")
    return SearchRequest(
        directory=str(config.layout.tuning),
        train_patterns=[str(episodes / "Split-meta_train" / "*")],
        valid_patterns=[str(episodes / "Split-meta_valid" / "*")],
        transform_graph=str(run.output("Transform", "transform_graph")),
        **declared_features(config),
        draw_weights=config.dataset.draw_weights,
        training=config.dataset.hyper_parameters,
        overrides=dict(config.overrides),
        options=options,
        code_fingerprint=code_fingerprint("trainer"),
    )
