"""The cold users' stream by many clients at once, against a single one.

One client walks the stream in the order of time. Many at once are as users
are: requests of different users overtake each other, the online stage learns
from several together, and the meta-initialization moves at other moments.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.serving.figures import Figure
from benchmarks.serving.setting import READY_SECONDS, Setting
from pipeline.cold_stream import ColdStream, load_cold_stream
from pipeline.replay import ReplayResult, replay
from pipeline.run_config import open_run
from pipeline.run_record import RunRecord
from serving.client import RecommenderClient
from serving.contract import metrics
from serving.contract.regimes import REGIMES
from serving.launch import start_gateway, start_model_server

CLIENTS = 64
USERS = 300
_TIMEOUT_SECONDS = 60.0
_ONLINE = "online"


def measure_replay(setting: Setting, seconds: float) -> Iterator[Figure]:
    """Measures how far the figures of a stream depend on its concurrency.

    Args:
        setting: Tells the run; its servers know other users.
        seconds: Not heeded: the stream takes as long as it takes.
    """
    layout = open_run(setting.source.parents[2])
    record = RunRecord.load(layout)
    stream = load_cold_stream(
        str(record.examples), record.dataset.user_features, max_users=USERS
    )
    one = _replayed(stream, layout.models(), 1)
    many = _replayed(stream, layout.models(), CLIENTS)
    by_clients = {
        clients: {
            regime: metrics.auc(result.rows.label, result.scores[regime])
            for regime in REGIMES
        }
        for clients, result in ((1, one), (CLIENTS, many))
    }
    yield Figure(
        f"replay by {CLIENTS} clients, AUC against a single client's",
        abs(by_clients[1][_ONLINE] - by_clients[CLIENTS][_ONLINE]),
        floor=0.002,
        goal=0.0005,
        detail={
            "auc": {str(n): auc for n, auc in by_clients.items()},
            "users": len(stream.users),
            "rows": len(one.rows.label),
            "seconds": {"1": one.seconds, str(CLIENTS): many.seconds},
        },
    )


def _replayed(
    stream: ColdStream, models: dict[str, Path], clients: int
) -> ReplayResult:
    """Replays against servers that have seen nobody."""
    with (
        tempfile.TemporaryDirectory() as folder,
        start_model_server(
            models,
            log_path=Path(folder) / "model_server.log",
            ready_seconds=READY_SECONDS,
        ) as model_server,
        start_gateway(
            model_server.backend,
            models,
            store=Path(folder) / "store",
            log_path=Path(folder) / "gateway.log",
            flags=[
                "--meta-update=inline",
                f"--backend-timeout-seconds={_TIMEOUT_SECONDS}",
            ],
        ) as gateway,
        RecommenderClient(gateway.target, _TIMEOUT_SECONDS) as client,
    ):
        return replay(client, stream, clients=clients)
