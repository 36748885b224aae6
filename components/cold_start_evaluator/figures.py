"""The protocol's figures from tables of scores, with intervals over users.

TFMA's intervals resample rows, as if they were independent; those of one user
are not, so its intervals come out too narrow. These resample users, and
differences are paired: the same users in every draw.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from components.cold_start_evaluator.score_tables import (
    LAST_BLESSED,
    META_UPDATES,
    USERS,
    few_shot_column,
)
from components.errors import EvaluationError
from serving.contract import metrics, protocol
from serving.contract.features import JUDGED_ROWS
from serving.contract.intervals import Interval, Rows, bootstrap
from serving.contract.regimes import JOINT, OFFLINE, ONLINE

Figures = dict[str, Any]

# Name of a lift to (regime, minus this regime).
LIFTS = {
    "offline_minus_joint": (OFFLINE, JOINT),
    "online_minus_offline": (ONLINE, OFFLINE),
    "online_minus_joint": (ONLINE, JOINT),
    "online_minus_last_blessed": (ONLINE, LAST_BLESSED),
}


def load_table(scores_dir: str | Path, name: str) -> pa.Table:
    """Reads a table that `ScoreUsers` wrote, sorted by user, position, model.

    Raises:
        EvaluationError: There is none, so no user was scored.
    """
    paths = sorted((Path(scores_dir) / name).glob("*.parquet"))
    tables = [pq.read_table(path) for path in paths]
    if not sum(table.num_rows for table in tables):
        raise EvaluationError(
            f"No scores in {scores_dir}/{name}: the examples hold no user to "
            f"judge. At least one user needs {protocol.MIN_JUDGED_EVENTS} "
            f"events and a place in the split {protocol.META_TEST}."
        )
    table = pa.concat_tables(tables)
    keys = [
        (key, "ascending")
        for key in ("user_id", "position", "model")
        if key in table.column_names
    ]
    return table.sort_by(keys)


def scores_are_finite(table: pa.Table, columns: Sequence[str]) -> bool:
    """Whether every score of these columns is a number."""
    return all(np.isfinite(_array(table, name)).all() for name in columns)


def count_users(scores_dir: str | Path) -> dict[str, int]:
    """How many users were judged, and how many had too few events."""
    judged = _array(load_table(scores_dir, USERS), JUDGED_ROWS) > 0
    return {
        "judged": int(judged.sum()),
        "left_out": int((~judged).sum()),
    }


def meta_updates(scores_dir: str | Path) -> Figures:
    """What became of the meta state, by model."""
    rows = load_table(scores_dir, META_UPDATES).to_pylist()
    return {row.pop("model"): row for row in rows}


def stream_figures(
    stream: pa.Table, draws: int, seed: int = 0
) -> tuple[Figures, Figures]:
    """Figures of each regime over the stream, and the lifts between them.

    Args:
        stream: The table `stream`.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        `{regime: {auc, wgauc: interval, ndcg_at_10, log_loss: number}}` and
        `{lift: {auc, wgauc: interval}}`, intervals as `{value, low, high}`.
    """
    rows = _rows(stream)
    scores = _scores(stream, (JOINT, OFFLINE, ONLINE, LAST_BLESSED))
    lifts = {
        name: pair
        for name, pair in LIFTS.items()
        if all(regime in scores for regime in pair)
    }
    intervals = bootstrap(rows, scores, lifts, draws, seed)
    figures = {
        name: {
            **_of(intervals, name),
            "ndcg_at_10": _number(metrics.ndcg(rows.label, score, rows.group)),
            "log_loss": _number(metrics.log_loss(rows.label, score)),
        }
        for name, score in scores.items()
    }
    return figures, {name: _of(intervals, name) for name in lifts}


def window_figures(stream: pa.Table, draws: int) -> list[Figures]:
    """Figures window by window: how a stream gets better, or does not."""
    windows = _array(stream, "window")
    found = []
    for window in np.unique(windows):
        chosen = stream.filter(pa.array(windows == window))
        regimes = _scores(chosen, (JOINT, OFFLINE, ONLINE, LAST_BLESSED))
        found.append(
            {
                "window": int(window),
                "rows": chosen.num_rows,
                **_figures_of(chosen, regimes, draws),
            }
        )
    return found


def few_shot_figures(few_shot: pa.Table, draws: int) -> Figures:
    """Figures of one query set after k events, for each k, and of `joint`."""
    columns = {JOINT: JOINT} | {
        str(k): few_shot_column(k) for k in protocol.FEW_SHOT_SUPPORT_SIZES
    }
    scores = {name: _array(few_shot, c) for name, c in columns.items()}
    return {
        "rows": few_shot.num_rows,
        "by_k": _figures_of(few_shot, scores, draws),
    }


def _figures_of(
    table: pa.Table, scores: Mapping[str, NDArray[Any]], draws: int
) -> Figures:
    intervals = bootstrap(_rows(table), scores, draws=draws)
    return {name: _of(intervals, name) for name in scores}


def _rows(table: pa.Table) -> Rows:
    _, user = np.unique(_array(table, "user_id"), return_inverse=True)
    window = (
        _array(table, "window")
        if "window" in table.column_names
        else np.zeros(table.num_rows, np.int64)
    )
    return Rows(user, window, _array(table, "label"))


def _scores(table: pa.Table, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    return {n: _array(table, n) for n in names if n in table.column_names}


def _array(table: pa.Table, name: str) -> NDArray[Any]:
    return table.column(name).to_numpy()


def _of(intervals: Mapping[str, Mapping[str, Interval]], name: str) -> Figures:
    return {
        figure: {
            key: _number(value)
            for key, value in dataclasses.asdict(by_name[name]).items()
        }
        for figure, by_name in intervals.items()
    }


def _number(value: float) -> float | None:
    """A number as JSON knows it; a figure of one class only has none."""
    return float(value) if math.isfinite(value) else None
