"""Figures over seeds with intervals over users.

A figure is the mean over the seeds; a bootstrap draw takes users with
replacement, the same ones for every regime and seed, so that the interval of a
difference, or of `gap closed`, is paired.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract import metrics
from serving.contract.intervals import (
    Interval,
    Rows,
    draw_figures,
    drawn_figures,
    interval_of,
)

AUC, WGAUC, NDCG, LOG_LOSS = FIGURES = (
    "auc",
    "wgauc",
    "ndcg_at_10",
    "log_loss",
)

Floats = NDArray[np.floating[Any]]

# Score columns that are an order and no logits.
_NO_PROBABILITIES = ("popularity",)


class Draws:
    """Figures of several regimes, on all users and on draws of them."""

    def __init__(
        self,
        rows: Rows,
        scores: Mapping[str, Sequence[Floats]],
        draws: int,
    ) -> None:
        """Draws.

        Args:
            rows: The judged rows.
            scores: By regime, the scores of each seed, shape [rows] each.
            draws: How many times users are drawn.
        """
        num_users = int(rows.user.max()) + 1
        self._table: dict[str, Floats] = {}
        for name, by_seed in scores.items():
            tables = [
                draw_figures(_figures(rows, score), num_users, draws, 0)
                for score in by_seed
            ]
            table = np.mean(tables, axis=0)
            if name in _NO_PROBABILITIES:
                table[:, FIGURES.index(LOG_LOSS)] = np.nan
            self._table[name] = table

    @property
    def regimes(self) -> list[str]:
        """Whose figures these are."""
        return list(self._table)

    def figures(self, regime: str) -> dict[str, dict[str, float | None]]:
        """All figures of a regime, as intervals."""
        return {
            figure: as_json(interval_of(self._of(regime, figure)))
            for figure in FIGURES
        }

    def lift(
        self, regime: str, minus: str
    ) -> dict[str, dict[str, float | None]]:
        """What a regime has over another one, paired."""
        return {
            figure: as_json(
                interval_of(self._of(regime, figure) - self._of(minus, figure))
            )
            for figure in FIGURES
        }

    def gap_closed(
        self, regime: str, floor: str, ceiling: str
    ) -> dict[str, dict[str, float | None]]:
        """(regime - floor) / (ceiling - floor), of AUC and wGAUC."""
        return {
            figure: as_json(
                interval_of(
                    (self._of(regime, figure) - self._of(floor, figure))
                    / (self._of(ceiling, figure) - self._of(floor, figure))
                )
            )
            for figure in (AUC, WGAUC)
        }

    def _of(self, regime: str, figure: str) -> Floats:
        return self._table[regime][:, FIGURES.index(figure)]


def _figures(rows: Rows, score: Floats) -> Any:
    """All figures of one model as a function of how often users count."""
    ranking = drawn_figures(rows, score)
    ndcgs, groups = metrics.group_ndcgs(rows.label, score, rows.group)
    windows = int(rows.window.max(initial=0)) + 1
    ndcg_user = groups // windows
    logits = np.asarray(score, float)
    losses = np.logaddexp(0.0, logits) - np.asarray(rows.label) * logits
    user_loss = np.bincount(rows.user, losses)
    user_rows = np.bincount(rows.user)

    def figures(user_weights: Floats) -> list[float]:
        weight = user_weights[ndcg_user]
        return [
            *ranking(user_weights),
            float((ndcgs * weight).sum() / weight.sum()),
            float((user_loss @ user_weights) / (user_rows @ user_weights)),
        ]

    return figures


def as_json(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, which knows no NaN."""
    return {
        name: float(value) if np.isfinite(value) else None
        for name, value in dataclasses.asdict(interval).items()
    }


def only(rows: Rows, chosen: NDArray[np.bool_]) -> Rows:
    """Some of the rows; users who have none of them are not counted."""
    _, user = np.unique(rows.user[chosen], return_inverse=True)
    return Rows(user, rows.window[chosen], rows.label[chosen])
