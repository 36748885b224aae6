"""Figures that are means over windows or rows, with intervals over users.

Users are drawn with replacement, as for AUC; a draw adds up what each of its
users has, so that a figure is worked out once per user and not per draw.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.replay import ReplayResult
from serving.contract import metrics
from serving.contract.intervals import Interval, Rows
from serving.contract.labels import liked
from serving.contract.regimes import REGIMES

# Sum of a figure over one user's parts (windows or rows), and their number.
UserFigure = Callable[[Rows, NDArray[np.float64]], tuple[float, int]]


def mean_figures(
    result: ReplayResult, of_user: UserFigure, draws: int
) -> dict[str, Interval]:
    """Works out a figure that is a mean, by regime.

    Args:
        result: The replay.
        of_user: The figure.
        draws: How often users are drawn.

    Returns:
        The figure with its interval by regime.
    """
    rows = result.rows
    order = np.argsort(rows.user, kind="stable")
    starts = np.flatnonzero(np.diff(rows.user[order])) + 1
    users = np.split(order, starts)
    random = np.random.default_rng(0)
    drawn = random.multinomial(
        len(users), np.full(len(users), 1 / len(users)), draws
    )
    figures = {}
    for regime in REGIMES:
        scores = result.scores[regime]
        sums, sizes = np.array(
            [
                of_user(
                    Rows(rows.user[u], rows.window[u], rows.label[u]),
                    scores[u],
                )
                for u in users
            ]
        ).T
        means = (drawn @ sums) / np.maximum(drawn @ sizes, 1)
        low, high = np.percentile(means, (2.5, 97.5))
        if len(users) == 1:
            # Every draw is this user again, and tells of no other.
            low = high = np.nan
        value = sums.sum() / max(sizes.sum(), 1)
        figures[regime] = Interval(float(value), float(low), float(high))
    return figures


def ndcg_of_user(rows: Rows, scores: NDArray[np.float64]) -> tuple[float, int]:
    """Sums NDCG@10 over a user's windows with a positive; a `UserFigure`."""
    windows = len(np.unique(rows.window[liked(rows.label)]))
    if not windows:
        return 0.0, 0
    return metrics.ndcg(rows.label, scores, rows.window) * windows, windows


def log_loss_of_user(
    rows: Rows, scores: NDArray[np.float64]
) -> tuple[float, int]:
    """Sums the log loss, in nats, over a user's rows; a `UserFigure`."""
    size = len(scores)
    return metrics.log_loss(rows.label, scores) * size, size
