"""When each call of a stream is made: the order in which users arrive.

Every call has the time at which a live service would see it. A window is
ranked when its first event comes, and learned from when its last one has
come; the first support set is learned from when its last event has come.
Calls of all users are interleaved by these times. While only per-user weights
learn, the figures would be the same user by user; but as what is learned from
one user changes what the next one starts from, only this order keeps the
future out of the past.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from serving.contract.protocol import first_support_rows, stream_windows

FIRST_SUPPORT = "first_support"
RANK = "rank"
LEARN = "learn"


class StreamUser(Protocol):
    """What the order of calls depends on."""

    @property
    def user_id(self) -> str:
        """The user's id."""

    @property
    def positions(self) -> NDArray[np.int64]:
        """Place of each row's event, shape [rows], not decreasing."""

    @property
    def timestamps(self) -> NDArray[np.int64]:
        """Seconds since the epoch (UTC), shape [rows]."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One call that is made for a user.

    Attributes:
        time: When it is made, in seconds since the epoch (UTC).
        arrival: Place of the user among those who arrive.
        order: Place among the user's own calls; breaks ties of time.
        kind: `FIRST_SUPPORT`, `RANK` or `LEARN`.
        window: Index of the window; -1 for the first support set.
        rows: Indices of the user's rows that the call is about.
    """

    time: int
    arrival: int
    order: int
    kind: str
    window: int
    rows: NDArray[np.int64]


def arrival_order(users: Sequence[StreamUser]) -> list[int]:
    """Returns users' indices by the time of the first event, then by id."""
    return sorted(
        range(len(users)),
        key=lambda index: (
            int(users[index].timestamps[0]),
            users[index].user_id,
        ),
    )


def user_steps(arrival: int, user: StreamUser) -> list[Step]:
    """Returns one user's calls, in order."""
    support = first_support_rows(user.positions)
    steps = []
    if len(support):
        time = int(user.timestamps[support[-1]])
        steps.append(Step(time, arrival, 0, FIRST_SUPPORT, -1, support))
    for window, rows in stream_windows(user.positions):
        first, last = user.timestamps[rows[0]], user.timestamps[rows[-1]]
        for time, kind in ((first, RANK), (last, LEARN)):
            steps.append(
                Step(int(time), arrival, len(steps), kind, window, rows)
            )
    return steps


def timeline(users: Sequence[StreamUser]) -> list[Step]:
    """Returns the calls of all users in the order in which they are made.

    Args:
        users: In the order of arrival; `Step.arrival` is an index of these.
    """
    steps = [
        step
        for arrival, user in enumerate(users)
        for step in user_steps(arrival, user)
    ]
    steps.sort(key=lambda step: (step.time, step.arrival, step.order))
    return steps
