"""Entries as a Redis stream holds them, and as its scripts answer.

An entry has the fields user `u`, head `h`, and an event `e` for each that was
new. Its id is the position: milliseconds, and a number within them.
"""

import logging
from collections.abc import Sequence
from typing import Any

from serving.errors import RecordError
from serving.event_log.entry import (
    LogEntry,
    LoggedEvent,
    Submission,
    decode_fields,
    encode_events,
    encode_head,
)
from serving.event_log.event_log import POSITION_TIME_BITS, Appended
from serving.packing import seal
from serving.store.tombstone import deleted

_log = logging.getLogger(__name__)


def append_arguments(submission: Submission) -> list[bytes | str | int]:
    """Returns what the script `APPEND` is told of a submission."""
    key = submission.key
    head = seal(bytearray(encode_head(submission)))
    arguments: list[bytes | str | int] = [
        key.digest,
        head,
        len(submission.events),
    ]
    for event in submission.events:
        arguments.append(event.hash(key))
        arguments.append(seal(bytearray(encode_events([event]))))
    return arguments


def appended(submission: Submission, reply: Sequence[Any]) -> Appended:
    """Returns what a reply of `APPEND` stands for."""
    key = submission.key
    if reply[0] == b"deleted":
        return deleted(key)
    if reply[0] == b"known":
        return None
    entry_id, claimed, *places = reply
    events: tuple[LoggedEvent, ...] = tuple(
        submission.events[place] for place in places
    )
    return LogEntry(
        _position(entry_id), key, events, submission.features, bool(claimed)
    )


def decode_entry(entry_id: bytes, fields: Sequence[bytes]) -> LogEntry | None:
    """Decodes a stream's entry; None if it is damaged."""
    values: dict[bytes, list[bytes]] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        values.setdefault(name, []).append(value)
    try:
        return decode_fields(
            _position(entry_id), values[b"h"][0], values.get(b"e", [])
        )
    except (RecordError, KeyError) as error:
        _log.warning("Left out: %s", error)
        return None


def owner_of(fields: Sequence[bytes]) -> bytes:
    """Returns the digest of the user whose entry has the fields."""
    return dict(zip(fields[::2], fields[1::2], strict=True)).get(b"u", b"")


def entry_id_of(position: int) -> str:
    """Returns the id of the entry at a position."""
    milliseconds, number = divmod(position, 1 << POSITION_TIME_BITS)
    return f"{milliseconds}-{number}"


def _position(entry_id: bytes) -> int:
    milliseconds, _, number = entry_id.partition(b"-")
    return (int(milliseconds) << POSITION_TIME_BITS) + int(number)
