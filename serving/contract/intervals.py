"""Intervals of the protocol's figures.

Bootstrapped over users, because a user's rows are not independent.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.contract.labels import liked
from serving.contract.metrics import (
    Floats,
    Ints,
    Labels,
    group_aucs,
    weighted_auc,
)


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95% interval.

    Attributes:
        value: The figure on all users.
        low: 2.5th percentile over the bootstrap draws.
        high: 97.5th percentile.
    """

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """The same in another unit, say points for a factor of 100."""
        return Interval(
            self.value * factor, self.low * factor, self.high * factor
        )

    def between(self, form: str) -> str:
        """Its ends for people, as `form` formats them; "-" without any."""
        if math.isnan(self.low) or math.isnan(self.high):
            return "-"
        return f"{self.low:{form}} to {self.high:{form}}"


@dataclasses.dataclass(frozen=True)
class Rows:
    """Judged rows, the same ones for every model.

    Attributes:
        user: Dense user index of each row, from 0, shape [rows].
        window: Window (or 0) of each row, shape [rows].
        label: 0 or 1, shape [rows].
    """

    user: Ints
    window: Ints
    label: Labels

    @property
    def group(self) -> Ints:
        """Group id of each row: one per (user, window)."""
        return self.user * (int(self.window.max(initial=0)) + 1) + self.window


def bootstrap(
    rows: Rows,
    scores: Mapping[str, Floats],
    lifts: Mapping[str, tuple[str, str]] | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Interval]]:
    """AUC and wGAUC of several models with intervals over users.

    Each draw takes users with replacement, the same ones for every model, so
    that the interval of a difference is paired.

    Args:
        rows: The judged rows.
        scores: Each model's scores of those rows, shape [rows].
        lifts: Name of a difference to (model, minus this model).
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        `{"auc": {name: Interval}, "wgauc": {name: Interval}}` with the names
        of `scores` and `lifts`; lifts in the figure's own unit (not points).
    """
    num_users = int(rows.user.max()) + 1
    table = {
        name: draw_figures(
            drawn_figures(rows, np.asarray(score)), num_users, draws, seed
        )
        for name, score in scores.items()
    }
    for name, (model, minus) in (lifts or {}).items():
        table[name] = table[model] - table[minus]
    return {
        figure: {
            name: interval_of(values[:, column])
            for name, values in table.items()
        }
        for column, figure in enumerate(("auc", "wgauc"))
    }


def draw_figures(
    figures: Callable[[Floats], Sequence[float]],
    num_users: int,
    draws: int,
    seed: int,
) -> Floats:
    """Figures of bootstrap draws of users, with replacement.

    The same seed draws the same users, so differences of what two calls
    return are paired.

    Args:
        figures: Figures, given how often each user counts, shape [users].
        num_users: How many users there are.
        draws: Bootstrap draws.
        seed: Seed of the draws.

    Returns:
        Shape [draws + 1, figures]: first of all users as they are, then of
        each draw; NaN for a single user, whom every draw would be.
    """
    random = np.random.default_rng(seed)
    table = [figures(np.ones(num_users))]
    if num_users == 1:
        return np.array([*table, *draws * [[np.nan] * len(table[0])]])
    for _ in range(draws):
        drawn = random.integers(0, num_users, num_users)
        counts = np.bincount(drawn, minlength=num_users)
        table.append(figures(counts.astype(float)))
    return np.array(table)


def interval_of(values: Floats) -> Interval:
    """The interval of one figure of `draw_figures`, shape [draws + 1]."""
    if np.isnan(values[1:]).all():
        return Interval(float(values[0]), float("nan"), float("nan"))
    low, high = np.nanpercentile(values[1:], (2.5, 97.5))
    return Interval(float(values[0]), float(low), float(high))


def drawn_figures(
    rows: Rows, score: Floats
) -> Callable[[Floats], tuple[float, float]]:
    """AUC and wGAUC of one model as a function of how often users count.

    Args:
        rows: The judged rows.
        score: The model's scores of them, shape [rows].
    """
    positive = liked(rows.label)
    group_to_user = int(rows.window.max(initial=0)) + 1
    _, rank = np.unique(score, return_inverse=True)
    values, groups = group_aucs(rows.label, score, rows.group)
    group_user = groups // group_to_user

    def figures(user_weights: Floats) -> tuple[float, float]:
        pooled = weighted_auc(rank, positive, user_weights[rows.user])
        weight = user_weights[group_user]
        total = weight.sum()
        inside = (values * weight).sum() / total if total else float("nan")
        return pooled, float(inside)

    return figures
