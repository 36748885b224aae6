"""The protocol's figures: AUC, wGAUC, NDCG@10, log loss, intervals.

All take rows as parallel arrays: `labels` (0 to 1; what counts is liked or
not), `scores` (logits; only their order matters but for the log loss) and,
where grouped, integer group ids. Intervals are bootstrapped over users,
because a user's rows are not independent.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.labels import liked

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]
# 0 or 1, of any type of number.
Labels = NDArray[np.number[Any]] | NDArray[np.bool_]


def _average_ranks(scores: Floats) -> Floats:
    """Ranks from 1, ties share their mean rank. Shape [rows]."""
    _, inverse, counts = np.unique(
        scores, return_inverse=True, return_counts=True
    )
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def auc(
    labels: Labels,
    scores: Floats,
    weights: Floats | None = None,
) -> float:
    """Area under the ROC curve; ties count one half.

    Args:
        labels: 0 or 1, shape [rows].
        scores: Shape [rows].
        weights: How often each row counts, shape [rows]; once by default.

    Returns:
        The AUC, or NaN if one class is absent.
    """
    positive = liked(labels)
    if weights is None:
        num_positive = int(positive.sum())
        num_negative = len(positive) - num_positive
        if not num_positive or not num_negative:
            return float("nan")
        rank_sum = _average_ranks(np.asarray(scores))[positive].sum()
        wins = rank_sum - num_positive * (num_positive + 1) / 2.0
        return float(wins / (num_positive * num_negative))
    _, inverse = np.unique(scores, return_inverse=True)
    return _weighted_auc(inverse, positive, weights)


def _weighted_auc(
    score_rank: Ints, positive: NDArray[np.bool_], weights: Floats
) -> float:
    """AUC from dense score ranks, so that draws need not sort again."""
    size = int(score_rank.max()) + 1
    positives = np.bincount(score_rank, weights * positive, size)
    negatives = np.bincount(score_rank, weights * ~positive, size)
    total = positives.sum() * negatives.sum()
    if total == 0:
        return float("nan")
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2.0)).sum() / total)


def group_aucs(
    labels: Labels, scores: Floats, groups: Ints
) -> tuple[Floats, Ints]:
    """AUC inside each group that holds both classes.

    Args:
        labels: 0 or 1, shape [rows].
        scores: Shape [rows].
        groups: Non-negative group id of each row, shape [rows].

    Returns:
        The AUCs and the ids of their groups, both of shape [judged groups].
    """
    positive = liked(labels)
    groups = np.asarray(groups)
    if not len(groups):
        return np.empty(0), np.empty(0, np.int64)
    order = np.lexsort((scores, groups))
    group, score, is_positive = groups[order], scores[order], positive[order]
    starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
    sizes = np.diff(np.r_[starts, len(group)])
    # Mean rank inside the group, ties shared: runs of equal (group, score).
    new_run = np.r_[True, (group[1:] != group[:-1]) | (score[1:] != score[:-1])]
    run = np.cumsum(new_run) - 1
    run_start = np.flatnonzero(new_run)
    run_size = np.diff(np.r_[run_start, len(group)])
    rank = (run_start + (run_size + 1) / 2.0)[run] - np.repeat(starts, sizes)
    num_positive = np.add.reduceat(is_positive.astype(float), starts)
    rank_sum = np.add.reduceat(rank * is_positive, starts)
    num_negative = sizes - num_positive
    judged = (num_positive > 0) & (num_negative > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (rank_sum - num_positive * (num_positive + 1) / 2.0) / (
            num_positive * num_negative
        )
    return values[judged], group[starts][judged]


def wgauc(labels: Labels, scores: Floats, groups: Ints) -> float:
    """Mean of the AUCs inside each group (user, window) with both classes."""
    values, _ = group_aucs(labels, scores, groups)
    return float(values.mean()) if len(values) else float("nan")


def group_ndcgs(
    labels: Labels, scores: Floats, groups: Ints, k: int = 10
) -> tuple[Floats, Ints]:
    """NDCG@k inside each group with a positive; ties broken pessimistically.

    Pessimistically: among equal scores negatives stand first, so that a
    constant score earns nothing from the order of its rows.

    Returns:
        NDCGs and their group ids, ascending, shape [judged groups].
    """
    gains = (liked(labels)).astype(float)
    groups = np.asarray(groups)

    def discounted(order: Ints) -> tuple[Floats, Ints]:
        group = groups[order]
        starts = np.flatnonzero(np.r_[True, group[1:] != group[:-1]])
        place = np.arange(len(group)) - np.repeat(
            starts, np.diff(np.r_[starts, len(group)])
        )
        gain = np.where(place < k, gains[order] / np.log2(place + 2.0), 0.0)
        sums: Floats = np.add.reduceat(gain, starts)
        return sums, group[starts]

    got, _ = discounted(np.lexsort((gains, -scores, groups)))
    ideal, group = discounted(np.lexsort((-gains, groups)))
    judged = ideal > 0
    return got[judged] / ideal[judged], group[judged]


def ndcg(labels: Labels, scores: Floats, groups: Ints, k: int = 10) -> float:
    """Mean of `group_ndcgs`; NaN if no group holds a positive."""
    values, _ = group_ndcgs(labels, scores, groups, k)
    return float(values.mean()) if len(values) else float("nan")


def log_loss(labels: Labels, scores: Floats) -> float:
    """Mean binary cross-entropy of logits, in nats."""
    logits = np.asarray(scores, dtype=float)
    losses = np.logaddexp(0.0, logits) - liked(labels) * logits
    return float(losses.mean())


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
        each draw.
    """
    random = np.random.default_rng(seed)
    table = [figures(np.ones(num_users))]
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
        pooled = _weighted_auc(rank, positive, user_weights[rows.user])
        weight = user_weights[group_user]
        total = weight.sum()
        inside = (values * weight).sum() / total if total else float("nan")
        return pooled, float(inside)

    return figures
