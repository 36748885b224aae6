"""Training/serving skew: what is served against what was evaluated.

The offline evaluator and the replay answer the same rows with the same
model, one in process and in batches, the other over gRPC and one user at a
time, through store and codecs. Any difference beyond rounding is a defect.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import SkewError
from pipeline.evaluation import Evaluation
from pipeline.replay import ReplayResult
from serving.contract import metrics
from serving.contract.labels import liked
from serving.contract.regimes import REGIMES

MAX_SKEW = 1e-3


@dataclasses.dataclass(frozen=True)
class Skew:
    """Differences on the users that both have judged, by regime.

    Attributes:
        auc: |AUC served - AUC evaluated|.
        score: Largest |logit served - logit evaluated|.
        worst_user: The user with that logit.
        users: How many users were compared.
    """

    auc: Mapping[str, float]
    score: Mapping[str, float]
    worst_user: Mapping[str, str]
    users: int


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows in an order that depends on nothing but what they are."""

    keys: list[tuple[str, int, str, float]]
    scores: Mapping[str, NDArray[np.float64]]


def measure_skew(result: ReplayResult, evaluation: Evaluation) -> Skew:
    """Compares served scores with the offline evaluator's, row by row.

    Either may have judged a part of the users only; the others' rows are
    left out.

    Args:
        result: The replay.
        evaluation: The offline evaluation.

    Returns:
        The differences.

    Raises:
        SkewError: They have no user in common, or other rows of one.
    """
    served, evaluated = _served_rows(result), _evaluated_rows(evaluation)
    common = {k[0] for k in served.keys} & {k[0] for k in evaluated.keys}
    if not common:
        raise SkewError(
            "The replay and the offline evaluation judged no user in common, "
            "so they can't be compared. They come from different runs: name "
            "the evaluation of the model that is served."
        )
    served, evaluated = _of(common, served), _of(common, evaluated)
    if served.keys != evaluated.keys:
        only = set(served.keys) ^ set(evaluated.keys)
        example = min(only, default=min(served.keys))
        raise SkewError(
            f"The replay judged {len(served.keys)} rows and the offline "
            f"evaluation {len(evaluated.keys)} of the same users; user "
            f"{example[0]!r}, window {example[1]}, item {example[2]!r} is in "
            "one of them only. They come from different examples, or cut "
            "the stream differently."
        )
    labels = np.array([key[3] for key in served.keys])
    auc, score, worst = {}, {}, {}
    for regime in REGIMES:
        ours, theirs = served.scores[regime], evaluated.scores[regime]
        auc[regime] = (
            abs(metrics.auc(labels, ours) - metrics.auc(labels, theirs))
            if len(np.unique(liked(labels))) > 1
            # Few users may like everything, which leaves no AUC to differ.
            else 0.0
        )
        distance = np.abs(ours - theirs)
        score[regime] = float(distance.max())
        worst[regime] = served.keys[int(distance.argmax())][0]
    return Skew(auc, score, worst, len(common))


def check_skew(skew: Skew) -> None:
    """Tells whether what is served is what was evaluated.

    Raises:
        SkewError: The AUC differs by more than `MAX_SKEW` in some regime.
    """
    # Written so that NaN counts as skew.
    skewed = [r for r, value in skew.auc.items() if not value <= MAX_SKEW]
    if skewed:
        figures = ", ".join(
            f"{r} by {skew.auc[r]:.4f} (scores of user "
            f"{skew.worst_user[r]!r} by up to {skew.score[r]:.3g})"
            for r in skewed
        )
        raise SkewError(
            "Training/serving skew: on the same rows of "
            f"{skew.users} users the AUC served differs from the one "
            f"evaluated offline: {figures}; the limit is {MAX_SKEW}. Look "
            "for a user feature lost on the way to the gateway, another "
            "model version, or feedback learned differently; start with the "
            "rows of the user named here."
        )


def _served_rows(result: ReplayResult) -> _Rows:
    users = np.array(result.user_ids, object)[result.rows.user]
    return _sorted(
        users,
        result.rows.window,
        result.item_ids,
        result.rows.label,
        result.scores,
    )


def _evaluated_rows(evaluation: Evaluation) -> _Rows:
    columns = {
        name: evaluation.stream.column(name).to_numpy()
        for name in ("user_id", "window", "item_id", "label", *REGIMES)
    }
    return _sorted(
        columns["user_id"],
        columns["window"],
        columns["item_id"],
        columns["label"],
        {r: columns[r].astype(np.float64) for r in REGIMES},
    )


def _sorted(
    users: NDArray[np.object_],
    windows: NDArray[np.integer[Any]],
    items: NDArray[np.object_],
    labels: NDArray[np.generic],
    scores: Mapping[str, NDArray[np.float64]],
) -> _Rows:
    keys = [
        (str(user), int(window), str(item), float(label))
        for user, window, item, label in zip(
            users, windows, items, labels, strict=True
        )
    ]
    # An item that stands in a window twice has the same score both times.
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return _Rows(
        [keys[index] for index in order],
        {regime: values[order] for regime, values in scores.items()},
    )


def _of(users: set[str], rows: _Rows) -> _Rows:
    kept = [i for i, key in enumerate(rows.keys) if key[0] in users]
    return _Rows(
        [rows.keys[index] for index in kept],
        {regime: values[kept] for regime, values in rows.scores.items()},
    )
