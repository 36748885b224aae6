"""The protocol's figures: AUC, wGAUC, NDCG@10, log loss.

All take rows as parallel arrays: `labels` (0 to 1; what counts is liked or
not), `scores` (logits; only their order matters but for the log loss) and,
where grouped, integer group ids. `intervals` tells how far to trust them.
"""

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
    return weighted_auc(inverse, positive, weights)


def weighted_auc(
    score_rank: Ints, positive: NDArray[np.bool_], weights: Floats
) -> float:
    """AUC from dense score ranks, so that draws need not sort again.

    Args:
        score_rank: Place of each row's score among all of them, from 0, shape
            [rows]; equal scores share one.
        positive: Shape [rows].
        weights: How often each row counts, shape [rows].

    Returns:
        The AUC, or NaN if one class is absent.
    """
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
