"""The quality protocol: splits by user, support sets, windows, query sets.

One set of rules for trainer, evaluator, benchmark and the served system, so
that a figure means the same wherever it is printed.

A row is one (user, item, label) that a model scores. `position` is the
0-based place of the row's event in its user's order (timestamp, ties by item
id); the sampled negatives of an implicit event carry their event's position.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

META_TRAIN = "meta_train"
META_VALID = "meta_valid"
META_TEST = "meta_test"
SPLITS = (META_TRAIN, META_VALID, META_TEST)

MIN_JUDGED_EVENTS = 30

FIRST_SUPPORT_EVENTS = 10
WINDOW_EVENTS = 10
MAX_WINDOWS = 8

FEW_SHOT_SUPPORT_SIZES = (0, 1, 3, 5, 10, 20)
# Half-open range of positions: events 21 to 70 of the user.
FEW_SHOT_QUERY_EVENTS = (20, 70)

# What the paper (arXiv 1912.04108, abstract) reports, in AUC points.
PAPER_LIFT_OFFLINE = 2.48
PAPER_LIFT_ONLINE = 2.46


def split_of_bucket(bucket: int, num_events: int) -> str:
    """Returns the split of a user.

    Args:
        bucket: `fingerprint64(user_id) % 100`.
        num_events: How many events the user has. Users with fewer than
            `MIN_JUDGED_EVENTS` are never judged and stay in `meta_train`.

    Returns:
        One of `SPLITS`.
    """
    if bucket < 70 or num_events < MIN_JUDGED_EVENTS:
        return META_TRAIN
    return META_VALID if bucket < 80 else META_TEST


class StreamWindow(NamedTuple):
    """Rows of one window of a user's stream.

    Attributes:
        number: 0 for the first judged window.
        rows: Indices of the window's rows, in order.
    """

    number: int
    rows: NDArray[np.int64]


def first_support_rows(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the indices of the rows of a user's first support set."""
    return np.flatnonzero(positions < FIRST_SUPPORT_EVENTS)


def stream_windows(positions: NDArray[np.int64]) -> list[StreamWindow]:
    """Cuts one user's rows into the judged windows of the stream.

    Events 1 to 10 are the first support set and not judged; then come up to
    `MAX_WINDOWS` windows of `WINDOW_EVENTS` events, of which the last may be
    shorter.

    Args:
        positions: Positions of the user's rows, shape [rows], any order.

    Returns:
        The windows in order, none of them empty.
    """
    window = (positions - FIRST_SUPPORT_EVENTS) // WINDOW_EVENTS
    judged = (positions >= FIRST_SUPPORT_EVENTS) & (window < MAX_WINDOWS)
    return [
        StreamWindow(int(index), np.flatnonzero(judged & (window == index)))
        for index in np.unique(window[judged])
    ]


def few_shot_rows(
    positions: NDArray[np.int64], support_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cuts one user's rows into a support set of k events and the query set.

    The query set does not depend on k; the support set is the k events right
    before it.

    Args:
        positions: Positions of the user's rows, shape [rows], any order.
        support_size: k, in events.

    Returns:
        Row indices of the support set and of the query set.
    """
    start, stop = FEW_SHOT_QUERY_EVENTS
    support = (positions >= start - support_size) & (positions < start)
    query_set = (positions >= start) & (positions < stop)
    return np.flatnonzero(support), np.flatnonzero(query_set)
