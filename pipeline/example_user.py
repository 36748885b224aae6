"""One user's adaptation, followed through the gateway for the report.

The candidates are items of the user's own last window that the user had not
met before: nothing is learned from them before the last ranking, and what
the user did with them is known. If adapting works, the liked ones rise. The
user is the typical one: among those with the longest streams, the one whose
gain in log loss is the median.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from components.cold_users import ColdUser
from pipeline.cold_stream import ColdStream
from pipeline.replay import ReplayResult
from pipeline.replay_session import Session
from serving.contract.labels import liked
from serving.contract.regimes import JOINT, ONLINE

MAX_CANDIDATES = 10
# The trace's own users; ONLINE's have already learned everything.
_REGIME = "example"


@dataclasses.dataclass(frozen=True)
class UserTrace:
    """How the ranks of fixed candidates moved while a user was learned.

    Attributes:
        user: The user.
        first_items: Items of the first support set, in order.
        first_labels: Their labels, shape [first items].
        candidates: Items of the last window, in the order of `labels`.
        labels: Whether the user liked each candidate, shape [candidates].
        events_seen: Events learned from before each ranking, shape [steps].
        scores: Logits, shape [steps, candidates].
    """

    user: ColdUser
    first_items: tuple[str, ...]
    first_labels: NDArray[np.float32]
    candidates: tuple[str, ...]
    labels: NDArray[np.float32]
    events_seen: NDArray[np.int64]
    scores: NDArray[np.float64]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each candidate after each step, from 1; [steps, items]."""
        order = np.argsort(-self.scores, axis=1, kind="stable")
        return np.argsort(order, axis=1, kind="stable") + 1


def trace_example_user(
    session: Session, stream: ColdStream, result: ReplayResult
) -> UserTrace | None:
    """Follows the typical user's adaptation through the gateway.

    Args:
        session: The replay's session; the trace uses ids of its own in it.
        stream: The cold users.
        result: The replay, from which the typical user is chosen.

    Returns:
        The trace, or None if no user's candidates hold both classes.
    """
    user = _typical_user(stream, result)
    if user is None:
        return None
    *earlier, _ = user.windows
    candidates = _candidate_rows(user)
    item_ids = user.item_ids[candidates].tolist()
    support = user.first_support
    scores = [session.rank(_REGIME, user, item_ids)]
    seen = [0]
    for rows in (support, *(window.rows for window in earlier)):
        session.submit(_REGIME, user, rows)
        scores.append(session.rank(_REGIME, user, item_ids))
        seen.append(int(user.positions[rows[-1]]) + 1)
    return UserTrace(
        user=user,
        first_items=tuple(user.item_ids[support]),
        first_labels=user.labels[support],
        candidates=tuple(item_ids),
        labels=user.labels[candidates],
        events_seen=np.array(seen),
        scores=np.array(scores),
    )


def _typical_user(stream: ColdStream, result: ReplayResult) -> ColdUser | None:
    """The user of median gain among those with the longest streams."""
    able = [
        arrival
        for arrival, user in enumerate(stream.users)
        if len(np.unique(user.labels[_candidate_rows(user)])) == 2
    ]
    if not able:
        return None
    most = max(len(stream.users[arrival].windows) for arrival in able)
    able = [a for a in able if len(stream.users[a].windows) == most]
    labels = np.asarray(result.rows.label, np.float64)

    def losses(regime: str) -> NDArray[np.float64]:
        logits = result.scores[regime]
        loss: NDArray[np.float64] = np.logaddexp(0.0, logits)
        return loss - labels * logits

    gain = np.bincount(result.rows.user, losses(JOINT) - losses(ONLINE))
    able.sort(key=lambda arrival: gain[arrival])
    return stream.users[able[len(able) // 2]]


def _candidate_rows(user: ColdUser) -> NDArray[np.int64]:
    """Rows of the last window: new items, as even a share as there can be."""
    rows = user.windows[-1].rows
    met = set(user.item_ids[: rows[0]])
    new = []
    for row in rows:
        if user.item_ids[row] not in met:
            met.add(user.item_ids[row])
            new.append(row)
    good = [row for row in new if liked(user.labels[row])]
    other = [row for row in new if not liked(user.labels[row])]
    half = MAX_CANDIDATES // 2
    take = min(len(good), max(half, MAX_CANDIDATES - len(other)))
    kept = good[:take] + other[: MAX_CANDIDATES - take]
    return np.array(sorted(kept), dtype=np.int64)
