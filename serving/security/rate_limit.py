"""How much feedback one user may send.

One token bucket per user, by the generic cell rate algorithm (ITU-T I.371):
the moment at which the user's bucket is full again is all there is to know,
one number. A bucket that is full again is forgotten at no loss, so the
memory needed follows from how many users are active at once, and is bounded
besides.
"""

import collections
import time
from collections.abc import Callable

from serving.errors import InvalidRequestError, RateLimitedError

MAX_USERS = 100_000


class FeedbackRateLimit:
    """Counts the events of each user; lives inside one event loop."""

    def __init__(
        self,
        events_per_second: float,
        burst: int,
        max_users: int = MAX_USERS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets it up with every bucket full.

        Args:
            events_per_second: How quickly a bucket fills.
            burst: Events that a full bucket holds.
            max_users: Users remembered. Beyond them those longest unheard of
                start anew: under an attack with made-up users, which no limit
                per user can help against, the others go on undisturbed.
            clock: Seconds from any start.
        """
        self._seconds_per_event = 1.0 / events_per_second
        self._burst = burst
        self._max_users = max_users
        self._clock = clock
        self._full_at: collections.OrderedDict[str, float] = (
            collections.OrderedDict()
        )

    def __len__(self) -> int:
        """Users remembered."""
        return len(self._full_at)

    def check(self, user_id: str, num_events: int) -> None:
        """Looks whether there is room for events, and takes none.

        Raises:
            RateLimitedError: As `spend` does.
            InvalidRequestError: As `spend` does.
        """
        self._full_after(user_id, num_events, self._clock())

    def spend(self, user_id: str, num_events: int) -> None:
        """Takes events out of a user's bucket: all of them, or none.

        Raises:
            RateLimitedError: There are too few left; says when there will
                be enough.
            InvalidRequestError: So many never fit.
        """
        now = self._clock()
        self._full_at[user_id] = self._full_after(user_id, num_events, now)
        self._full_at.move_to_end(user_id)
        self._forget(now)

    def _full_after(self, user_id: str, num_events: int, now: float) -> float:
        """Returns when the bucket is full again if events are taken out."""
        if num_events > self._burst:
            raise InvalidRequestError(
                f"{num_events} events at once are more than the "
                f"{self._burst} that one user may send (--feedback-burst)."
            )
        full_at = (
            max(self._full_at.get(user_id, now), now)
            + num_events * self._seconds_per_event
        )
        wait = full_at - now - self._burst * self._seconds_per_event
        # As much as rounding can bring about.
        if wait > 1e-6:
            raise RateLimitedError(
                f"User {user_id!r} sends more than "
                f"{1 / self._seconds_per_event:g} events a second; there is "
                f"room for these {num_events} in {wait:.1f} s.",
                wait,
            )
        return full_at

    def _forget(self, now: float) -> None:
        # None is left where buckets fill at once: the limit is then off.
        while self._full_at:
            oldest, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._max_users:
                return
            del self._full_at[oldest]
