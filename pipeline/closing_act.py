"""The closing act: serve the pushed models, replay, judge, report."""

import contextlib
import tempfile
import time
from collections.abc import Iterator

from rich.console import Console

from pipeline.closing_table import print_closing_table
from pipeline.cold_stream import load_cold_stream
from pipeline.evaluation import load_evaluation
from pipeline.example_user import trace_example_user
from pipeline.item_titles import load_titles
from pipeline.replay import replay
from pipeline.replay_progress import ReplayProgress
from pipeline.replay_session import Session
from pipeline.report import DatasetNotes, ReportInputs, write_report
from pipeline.run_config import ADAPTIVE_MODEL, RunLayout
from pipeline.run_record import RunRecord
from pipeline.skew import check_skew, measure_skew
from pipeline.stored_bytes import BytesPerUser, bytes_per_user
from pipeline.summary import Summary, summarize, write_summary
from serving.client import RecommenderClient
from serving.contract.regimes import ONLINE
from serving.launch import start_gateway, start_model_server
from serving.store import LmdbStore

# Once in a while feedback waits for a step of the meta state, too.
_TIMEOUT_SECONDS = 30.0
_REPLAY = "replay"
# Of the gateway that a replay starts.
REPLAY_FLAGS = (
    "--meta-update=inline",
    f"--backend-timeout-seconds={_TIMEOUT_SECONDS}",
    # Months of a user's feedback come in seconds.
    "--feedback-per-second=inf",
)


def close(
    layout: RunLayout,
    record: RunRecord,
    console: Console,
    max_users: int | None = None,
    gateway: str | None = None,
    clients: int = 1,
) -> Summary:
    """Replays a run's cold users and writes summary and report.

    Args:
        layout: The run's folder.
        record: What the pipeline left.
        console: Where progress and the closing table go.
        max_users: Only the first so many cold users; all if None.
        gateway: `host:port` of a gateway that runs already on this run's
            store; own servers are started if None.
        clients: How many clients call at once.

    Returns:
        The figures.

    Raises:
        PipelineError: No stream, a call failed, or skew.
        ServingError: A server did not start.
    """
    start = time.monotonic()
    spec = record.dataset
    stream = load_cold_stream(
        str(record.examples), spec.user_features, max_users=max_users
    )
    evaluation = load_evaluation(record.evaluation)
    console.print(
        f"{len(stream.users):,} cold users, {stream.num_windows:,} windows; "
        "each is ranked in three regimes, then learned from"
    )
    with (
        _gateway(layout, gateway) as target,
        RecommenderClient(target, _TIMEOUT_SECONDS) as client,
    ):
        session = Session(client)
        with ReplayProgress(console) as progress:
            result = replay(
                client,
                stream,
                on_progress=progress,
                session=session,
                clients=clients,
            )
        trace = trace_example_user(session, stream, result)
    # The skew is written down before it may stop us: it is the clue.
    skew = measure_skew(result, evaluation)
    summary = summarize(
        result,
        dataset=spec.name,
        revision=record.revision,
        stage_seconds={
            **record.stage_seconds,
            _REPLAY: time.monotonic() - start,
        },
        bytes_per_user=_bytes_per_user(layout, session),
        skew=skew,
    )
    write_summary(summary, layout.summary)
    write_report(
        ReportInputs(
            summary=summary,
            result=result,
            notes=DatasetNotes(spec.name, spec.description, spec.licence),
            few_shot_auc=evaluation.few_shot_auc,
            trace=trace,
            titles=load_titles(str(record.catalog)),
        ),
        layout.report,
    )
    print_closing_table(
        summary,
        where={
            "report": str(layout.report),
            "figures": str(layout.summary),
            "evaluation": str(record.evaluation),
            "models": str(layout.serving),
            "serve it": f"adaptower serve --run {layout.root}",
        },
        console=console,
    )
    check_skew(skew)
    return summary


@contextlib.contextmanager
def _gateway(layout: RunLayout, running: str | None) -> Iterator[str]:
    """The target of a gateway: the one that runs, or one started here."""
    if running is not None:
        yield running
        return
    models = layout.models()
    with (
        # The evaluation began at the exported meta-initialization as well.
        tempfile.TemporaryDirectory() as meta_states,
        start_model_server(
            models, log_path=layout.logs / "model_server.log"
        ) as model_server,
        start_gateway(
            model_server.backend,
            models,
            store=layout.store,
            log_path=layout.logs / "gateway.log",
            flags=[*REPLAY_FLAGS, f"--meta-states={meta_states}"],
        ) as gateway,
    ):
        yield gateway.target


def _bytes_per_user(layout: RunLayout, session: Session) -> BytesPerUser:
    """Bytes per user in the run's store, of the users of this replay."""
    with LmdbStore(layout.store) as store:
        return bytes_per_user(store, ADAPTIVE_MODEL, session.prefix(ONLINE))
