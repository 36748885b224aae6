"""When each call of the replay is made: the order in which users arrive.

Every call has the time at which a live service would see it. A window is
ranked when its first event comes, and learned from when its last one has
come; the first support set is submitted when its last event has come. Calls
of all users are interleaved by these times. While only per-user weights
learn, the figures would be the same user by user; but once what is learned
from one user changes what the next one starts from, only this order keeps
the future out of the past.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from pipeline.cold_stream import ColdStream, ColdUser

FIRST_SUPPORT = "first_support"
RANK = "rank"
LEARN = "learn"


@dataclasses.dataclass(frozen=True)
class Step:
    """One call that the replay makes for a user.

    Attributes:
        time: When it is made, in seconds since the epoch (UTC).
        arrival: Index of the user in the stream.
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


def user_steps(arrival: int, user: ColdUser) -> list[Step]:
    """Returns one user's calls, in order."""
    support = user.first_support
    steps = []
    if len(support):
        time = int(user.timestamps[support[-1]])
        steps.append(Step(time, arrival, 0, FIRST_SUPPORT, -1, support))
    for window, rows in user.windows:
        first, last = user.timestamps[rows[0]], user.timestamps[rows[-1]]
        for time, kind in ((first, RANK), (last, LEARN)):
            steps.append(
                Step(int(time), arrival, len(steps), kind, window, rows)
            )
    return steps


def timeline(stream: ColdStream) -> list[Step]:
    """Returns the calls of all users in the order in which they are made."""
    steps = [
        step
        for arrival, user in enumerate(stream.users)
        for step in user_steps(arrival, user)
    ]
    steps.sort(key=lambda step: (step.time, step.arrival, step.order))
    return steps
