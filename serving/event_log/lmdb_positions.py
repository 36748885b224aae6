"""Positions in an LMDB event log, as it stores them.

A position is the time in milliseconds times 2^20, or one more than the last;
the bytes are in the same order as the numbers.
"""

from serving.event_log.entry import LogEntry
from serving.event_log.event_log import POSITION_TIME_BITS
from serving.store.tombstone import now_ms

_POSITION_BYTES = 8

# Before all others.
NO_POSITION = bytes(_POSITION_BYTES)


def position_of(entry: LogEntry) -> bytes:
    """Returns an entry's position as it is stored."""
    return _stored(entry.position)


def number_of(position: bytes) -> int:
    """Returns the position that is stored so, as an entry has it."""
    return int.from_bytes(position, "big")


def after(position: bytes) -> bytes:
    """Returns the position that follows."""
    return _stored(number_of(position) + 1)


def first_position(moment_ms: int) -> bytes:
    """Returns the first position of a millisecond since 1970."""
    return _stored(max(moment_ms, 0) << POSITION_TIME_BITS)


def position_now(last: bytes) -> bytes:
    """Returns the position of what comes now.

    Args:
        last: The position of what came last.
    """
    return max(after(last), first_position(now_ms()))


def _stored(number: int) -> bytes:
    return number.to_bytes(_POSITION_BYTES, "big")
