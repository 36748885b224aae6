"""Who has which entries of a log that one process reads, and until when."""

import time
from collections.abc import Iterable
from typing import NamedTuple


class _Lease(NamedTuple):
    consumer: str
    ends: float


class Leases:
    """Deliveries that are not acknowledged yet, by position.

    They are not stored: when the process is gone, so are its consumers, and
    what they had is free for others at once. Not safe across threads.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._leases: dict[bytes, _Lease] = {}

    def give(self, consumer: str, positions: Iterable[bytes]) -> None:
        """Leases entries to a consumer."""
        lease = _Lease(consumer, time.monotonic() + self._seconds)
        for position in positions:
            self._leases[position] = lease

    def end(self, positions: Iterable[bytes]) -> None:
        """Ends leases; positions without one are left alone."""
        for position in positions:
            self._leases.pop(position, None)

    def holder(self, position: bytes) -> str | None:
        """Returns who has an entry; None if nobody has it any more."""
        lease = self._leases.get(position)
        if lease is None or lease.ends <= time.monotonic():
            return None
        return lease.consumer
