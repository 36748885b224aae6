"""The figures of a run, and `summary.json`.

Every figure comes from row-level scores by `serving.contract.metrics`, the
same functions that the offline evaluator uses, so that a difference between
the two can only come from the scores.
"""

import dataclasses
import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.replay import ReplayResult
from pipeline.skew import MAX_SKEW, Skew
from pipeline.stored_bytes import BytesPerUser
from pipeline.user_means import log_loss_of_user, mean_figures, ndcg_of_user
from serving.contract import protocol
from serving.contract.intervals import Interval, bootstrap
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES

# A lift is (regime, minus this regime); the paper reports these two.
LIFTS = {OFFLINE: (OFFLINE, JOINT), ONLINE: (ONLINE, OFFLINE)}
PAPER_LIFT = {
    OFFLINE: protocol.PAPER_LIFT_OFFLINE,
    ONLINE: protocol.PAPER_LIFT_ONLINE,
}
_POINTS = 100.0
_DRAWS = 1000


@dataclasses.dataclass(frozen=True)
class Latency:
    """Percentiles of a call's latency, in milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, milliseconds: NDArray[np.float64]) -> "Latency":
        """Percentiles of calls, shape [calls]; NaN if there were none."""
        if not len(milliseconds):
            return cls(float("nan"), float("nan"))
        p50, p99 = np.percentile(milliseconds, (50, 99))
        return cls(float(p50), float(p99))


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a run achieved, as measured on the served system.

    Attributes:
        dataset: Name of the dataset's spec.
        revision: Of the code that ran.
        created: When, ISO 8601 in UTC.
        auc: AUC by regime.
        wgauc: wGAUC by regime.
        ndcg: NDCG@10 inside each window, by regime.
        log_loss: In nats, by regime.
        lift: AUC of `offline` over `joint` and of `online` over `offline`,
            in points, paired over users.
        wgauc_lift: The same for wGAUC.
        bytes_per_user: `weights`: adaptive weights alone; `record`: all
            that the store keeps of a user (a mean).
        rank_ms: Latency of Rank.
        feedback_ms: Latency of SubmitFeedback.
        stage_seconds: Time of each stage of the run.
        counts: Users, windows, rows, positives, calls, degraded answers.
        model_versions: `model/version` that answered.
        skew: Against the offline evaluation; None if there is none.
    """

    dataset: str
    revision: str
    created: str
    auc: Mapping[str, Interval]
    wgauc: Mapping[str, Interval]
    ndcg: Mapping[str, Interval]
    log_loss: Mapping[str, Interval]
    lift: Mapping[str, Interval]
    wgauc_lift: Mapping[str, Interval]
    bytes_per_user: BytesPerUser
    rank_ms: Latency
    feedback_ms: Latency
    stage_seconds: Mapping[str, float]
    counts: Mapping[str, int]
    model_versions: tuple[str, ...]
    skew: Skew | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary as JSON-ready values.

        Figures by regime are plain numbers, their intervals stand beside
        them under `<figure>_interval`; lifts are `{value, low, high}`.
        """
        values = dataclasses.asdict(self)
        for figure in ("auc", "wgauc", "ndcg", "log_loss"):
            intervals: Mapping[str, Interval] = getattr(self, figure)
            values[figure] = {r: i.value for r, i in intervals.items()}
            values[f"{figure}_interval"] = {
                r: [i.low, i.high] for r, i in intervals.items()
            }
        values["paper_lift"] = dict(PAPER_LIFT)
        values["skew"] = dict(self.skew.auc) if self.skew else {}
        values["score_skew"] = dict(self.skew.score) if self.skew else {}
        values["max_skew"] = MAX_SKEW
        return values


def summarize(
    result: ReplayResult,
    *,
    dataset: str,
    revision: str,
    stage_seconds: Mapping[str, float],
    bytes_per_user: BytesPerUser,
    skew: Skew | None = None,
) -> Summary:
    """Works out the figures of a replay.

    Args:
        result: The replay.
        dataset: Name of the dataset's spec.
        revision: Of the code that ran.
        stage_seconds: Time of each stage.
        bytes_per_user: See `Summary`.
        skew: What `measure_skew` found, if there is an evaluation.

    Returns:
        The summary.
    """
    rows = result.rows
    lifts = {f"{name}_lift": pair for name, pair in LIFTS.items()}
    drawn = bootstrap(rows, result.scores, lifts, draws=_DRAWS)

    def by_regime(figure: str) -> dict[str, Interval]:
        return {regime: drawn[figure][regime] for regime in REGIMES}

    def in_points(figure: str) -> dict[str, Interval]:
        return {
            name: drawn[figure][f"{name}_lift"].scaled(_POINTS)
            for name in LIFTS
        }

    auc = by_regime("auc")
    return Summary(
        dataset=dataset,
        revision=revision,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        ),
        auc=auc,
        wgauc=by_regime("wgauc"),
        ndcg=mean_figures(result, ndcg_of_user, _DRAWS),
        log_loss=mean_figures(result, log_loss_of_user, _DRAWS),
        lift=in_points("auc"),
        wgauc_lift=in_points("wgauc"),
        bytes_per_user=bytes_per_user,
        rank_ms=Latency.of(result.rank_ms),
        feedback_ms=Latency.of(result.feedback_ms),
        stage_seconds=dict(stage_seconds),
        counts={
            "users": len(result.user_ids),
            "windows": len(np.unique(rows.group)),
            "rows": len(rows.label),
            "positives": int(np.asarray(rows.label).sum()),
            "rank_calls": len(result.rank_ms),
            "feedback_calls": len(result.feedback_ms),
            "degraded": result.degraded,
        },
        model_versions=result.model_versions,
        skew=skew,
    )


def write_summary(summary: Summary, path: str | os.PathLike[str]) -> None:
    """Writes `summary.json`, whole or not at all."""
    target = Path(path)
    text = json.dumps(_finite(summary.to_dict()), indent=2) + "\n"
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)


def _finite(value: Any) -> Any:
    """NaN is not JSON; a figure that has no value is written as null."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
