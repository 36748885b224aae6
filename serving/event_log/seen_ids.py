"""The event ids that an LMDB log has seen within a window of time.

The window is cut into four, and each part has a database of its own: to
forget the oldest ids is to empty one of five databases, however many there
are, and an id takes 8 bytes and no time beside it.
"""

import time
from typing import Any

from serving.lmdb_file import LmdbFile, Transaction

_PARTS = 4
_RING = _PARTS + 1
_PERIOD = b"period:%d"


class SeenIds:
    """Remembers 8-byte hashes for at least the window, 1.25 times at most."""

    def __init__(self, file: LmdbFile, seconds: float) -> None:
        """Opens the databases.

        Args:
            file: Where they are.
            seconds: The window.
        """
        # Tells which period each part is of.
        self._meta = file.database("meta")
        self._period_seconds = max(seconds, 1e-3) / _PARTS
        self._ring = [file.database(f"seen{part}") for part in range(_RING)]

    def live_parts(self, transaction: Transaction) -> list[Any]:
        """Returns the parts within the window, that of now first.

        The part that begins is emptied of what it held a round ago.
        """
        now = int(time.time() / self._period_seconds)
        parts = []
        # The clock may have been set back a little since the last ids came.
        for period in (now, now + 1, *range(now - 1, now - _RING, -1)):
            place = period % _RING
            name = _PERIOD % place
            known = transaction.get(name, db=self._meta)
            if known == b"%d" % period:
                parts.append(self._ring[place])
            elif period == now:
                transaction.drop(self._ring[place], delete=False)
                transaction.put(name, b"%d" % period, db=self._meta)
                parts.append(self._ring[place])
        return parts


def is_new(
    transaction: Transaction, parts: list[Any], event_hash: bytes
) -> bool:
    """Remembers a hash; returns whether it was not known.

    Args:
        transaction: A write transaction.
        parts: What `SeenIds.live_parts` returned in it.
        event_hash: The hash.
    """
    if any(
        transaction.get(event_hash, db=part) is not None for part in parts[1:]
    ):
        return False
    return transaction.put(event_hash, b"", overwrite=False, db=parts[0])
