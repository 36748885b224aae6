"""From the cells of a dataset to the figures of the protocol."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.quality.inputs import Judged
from benchmarks.quality.intervals import Draws, only
from benchmarks.quality.outcome import Outcome, Scores

# Lifts that are asked for, of those whose regimes were scored.
LIFTS = (
    ("offline", "joint"),
    ("online", "offline"),
    ("online", "joint"),
    ("offline", "joint_finetune"),
    ("offline", "history_offline"),
    ("offline", "maml_all_offline"),
    ("online", "joint_finetune_online"),
    ("online", "history"),
    ("online", "maml_all"),
    ("online", "online_per_user"),
    ("online", "oracle"),
)
FEW_SHOT_LIFTS = tuple(
    ("offline", other)
    for other in ("joint", "joint_finetune", "history", "maml_all")
)
_CURVE_SHARE = 5

BySeed = Mapping[str, Sequence[Scores]]


def by_regime(outcomes: Mapping[str, Sequence[Outcome]]) -> BySeed:
    """Stream scores of each seed by regime."""
    scores: dict[str, list[Scores]] = {}
    for of_training in outcomes.values():
        for outcome in of_training:
            for regime, column in outcome.stream.items():
                scores.setdefault(regime, []).append(column)
    return scores


def stream_figures(
    judged: Judged, scores: BySeed, draws: int
) -> dict[str, Any]:
    """Regimes, lifts, `gap closed`, and regimes window by window."""
    rows = judged.stream_rows
    drawn = Draws(rows, scores, draws)
    document: dict[str, Any] = {
        "users": int(rows.user.max()) + 1,
        "rows": len(rows.label),
        "regimes": {name: drawn.figures(name) for name in drawn.regimes},
        "lifts": {
            f"{regime}_minus_{minus}": drawn.lift(regime, minus)
            for regime, minus in LIFTS
            if {regime, minus} <= scores.keys()
        },
    }
    if {"online", "joint", "oracle"} <= scores.keys():
        document["gap_closed"] = drawn.gap_closed("online", "joint", "oracle")
    document["windows"] = []
    for window in np.unique(rows.window):
        chosen = rows.window == window
        part = Draws(
            only(rows, chosen),
            {name: [s[chosen] for s in of] for name, of in scores.items()},
            max(1, draws // _CURVE_SHARE),
        )
        document["windows"].append(
            {
                "window": int(window),
                "rows": int(chosen.sum()),
                "regimes": {name: part.figures(name) for name in part.regimes},
            }
        )
    return document


def few_shot_figures(
    judged: Judged, outcomes: Mapping[str, Sequence[Outcome]], draws: int
) -> dict[str, Any]:
    """Each regime by k, and what ours has over the others."""
    rows = judged.few_shot_rows
    if not len(rows.label):
        return {"rows": 0, "by_k": {}, "lifts": {}}
    present = only(rows, np.ones(len(rows.label), bool))
    by_k: dict[int, dict[str, list[Scores]]] = {}
    for of_training in outcomes.values():
        for outcome in of_training:
            for regime, sizes in outcome.few_shot.items():
                for size, column in sizes.items():
                    regimes = by_k.setdefault(size, {})
                    regimes.setdefault(regime, []).append(column)
    document: dict[str, Any] = {
        "rows": len(rows.label),
        "by_k": {},
        "lifts": {},
    }
    for size, scores in sorted(by_k.items()):
        drawn = Draws(present, scores, draws)
        document["by_k"][str(size)] = {
            name: drawn.figures(name) for name in drawn.regimes
        }
        document["lifts"][str(size)] = {
            f"{regime}_minus_{minus}": drawn.lift(regime, minus)
            for regime, minus in FEW_SHOT_LIFTS
            if {regime, minus} <= scores.keys()
        }
    return document


def preset_figures(
    judged: Judged, outcomes: Mapping[str, Sequence[Outcome]], draws: int
) -> dict[str, Any]:
    """Bytes per user and figures of ours by partition preset."""
    document = {}
    for name, of in outcomes.items():
        scores = by_regime({name: of})
        drawn = Draws(judged.stream_rows, scores, draws)
        document[name] = {
            "bytes_per_user": of[0].info["bytes_per_user"],
            "regimes": {n: drawn.figures(n) for n in drawn.regimes},
        }
    return document


def costs(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """Bytes per user, seconds and steps of each training, over its seeds."""
    names = ("bytes_per_user", "adapt_seconds", "seconds", "best_step", "steps")
    return {
        training: {
            name: float(np.mean([outcome.info[name] for outcome in of]))
            for name in names
            if all(name in outcome.info for outcome in of)
        }
        for training, of in outcomes.items()
    }
