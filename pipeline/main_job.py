"""The main job: data to a pushed model, served, replayed, reported."""

import pathlib
import time

from rich.console import Console

from pipeline.catalog import load_dataset_spec
from pipeline.closing_act import close
from pipeline.errors import NotBlessedError
from pipeline.fetch import fetch_dataset
from pipeline.local_runner import run_pipeline
from pipeline.pipeline_config import PipelineConfig
from pipeline.revision import code_revision
from pipeline.run_config import LATEST, RunConfig, RunLayout
from pipeline.run_record import RunRecord
from pipeline.stages import PipelineRun

_EVALUATOR = "ColdStartEvaluator"
_BLESSED = "BLESSED"
_REASONS = "REASONS"
_INFRA_VALIDATORS = ("InfraValidator", "InfraValidator.joint")
_INFRA_REASONS = "INFRA_NOT_BLESSED"


def run_main_job(config: RunConfig) -> int:
    """Runs everything of `adaptower run`.

    Args:
        config: What to run.

    Returns:
        0: the exit status of a run that went well.

    Raises:
        PipelineError: A stage failed, or the model was not blessed.
    """
    console = Console()
    start = time.monotonic()
    spec = load_dataset_spec(config.dataset)
    console.rule(f"[bold]{spec.name}[/]: data", align="left")
    console.print(spec.description, style="dim", markup=False)
    data_folder = fetch_dataset(spec, config.data_path)
    fetched = time.monotonic() - start
    console.rule("pipeline", align="left")
    run_dir = config.runs / spec.name
    pipeline_config = PipelineConfig(
        dataset=spec,
        data_folder=data_folder,
        run_dir=run_dir,
        tune=config.tune,
        overrides=config.overrides,
        beam_args=config.beam_args,
        store=config.store,
        store_ttl_seconds=config.store_ttl_seconds,
        use_cache=config.use_cache,
    )
    layout = pipeline_config.layout
    run = run_pipeline(pipeline_config)
    _point_latest_at(layout.root)
    _require_blessing(run, layout)
    RunRecord(
        dataset=spec,
        revision=code_revision(),
        examples=run.output("InteractionExampleGen", "examples"),
        catalog=run.output("InteractionExampleGen", "catalog"),
        evaluation=run.output(_EVALUATOR, "evaluation"),
        stage_seconds={"fetch": fetched, **run.stage_seconds},
    ).save(layout)
    return replay_run(layout, max_users=config.replay_users)


def replay_run(
    layout: RunLayout,
    *,
    max_users: int | None,
    gateway: str | None = None,
    clients: int = 1,
) -> int:
    """Replays the cold users of a finished pipeline, and reports.

    Args:
        layout: The run's folder.
        max_users: Only the first so many; all if None.
        gateway: `host:port` of a gateway that runs already; the run's own
            servers are started if None.
        clients: How many clients call at once.

    Returns:
        0: the exit status of a replay that went well.

    Raises:
        PipelineError: The replay failed, or served and evaluated figures
            differ.
    """
    console = Console()
    console.rule("replay through the gateway", align="left")
    record = RunRecord.load(layout)
    close(layout, record, console, max_users, gateway, clients)
    return 0


def _require_blessing(run: PipelineRun, layout: RunLayout) -> None:
    """Stops where the new model is not good enough, or fit, to be served."""
    blessing = run.output(_EVALUATOR, "blessing")
    if (blessing / _BLESSED).exists():
        _require_infra_blessings(run, layout)
        return
    reasons = "; ".join((blessing / _REASONS).read_text().splitlines())
    raise NotBlessedError(
        f"The new model is not blessed and was not pushed: {reasons}. What "
        f"{layout.serving} holds from earlier runs is as it was. Look at "
        f"{run.output(_EVALUATOR, 'evaluation')}; more data, more "
        "--train-steps or --tune may help."
    )


def _require_infra_blessings(run: PipelineRun, layout: RunLayout) -> None:
    """Stops where a model was not pushed for what a server made of it."""
    for node in _INFRA_VALIDATORS:
        refusal = run.output(node, "blessing") / _INFRA_REASONS
        if refusal.exists():
            reasons = "; ".join(refusal.read_text().splitlines())
            raise NotBlessedError(
                f"{node} found its model not fit to serve, and it was not "
                f"pushed: {reasons}. Nothing is replayed: {layout.serving} "
                "holds no two models of this run. Look at the model server's "
                "lines in the log; `adaptower doctor` checks the server, and "
                "--no-cache asks it again."
            )


def _point_latest_at(run_dir: pathlib.Path) -> None:
    """Makes `latest`, beside the run's folder, a link to it."""
    partial = run_dir.with_name(f".{LATEST}")
    partial.unlink(missing_ok=True)
    partial.symlink_to(run_dir.name)
    partial.replace(run_dir.with_name(LATEST))
