"""What the event log holds: one user's events of one submission.

The bytes, integers as LEB128 varints unless a width is given:

    head    format (1 byte); model, user id, features: length and bytes each
    event   event id, item id: length and bytes each; timestamp; label code
            (1 byte), and the label as float64 if it is neither 0 nor 1

LMDB keeps head and events as one value with a CRC32 at its end; Redis keeps
each as a field with a CRC32 of its own.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator

from serving.errors import RecordError
from serving.packing import (
    Reader,
    put_bytes,
    put_text,
    put_varint,
    seal,
    unseal,
)
from serving.store.record import UserKey

_FORMAT = 1
_FLOAT = struct.Struct("<d")
_LABELS = (0.0, 1.0)
_OTHER_LABEL = len(_LABELS)
_HASH_BYTES = 8


@dataclasses.dataclass(frozen=True)
class LoggedEvent:
    """Something a user did.

    Attributes:
        event_id: Unique among the user's events; what is sent twice counts
            once.
        item_id: The item.
        label: From 0 (disliked) to 1 (liked).
        timestamp: When, seconds since 1970, UTC.
    """

    event_id: str
    item_id: str
    label: float
    timestamp: int = 0

    def hash(self, key: UserKey) -> bytes:
        """The 8 bytes by which a log remembers a user's event.

        Among 100 million remembered events, a new one is mistaken for a known
        one about once in 200 billion.
        """
        digest = hashlib.blake2b(key.digest, digest_size=_HASH_BYTES)
        digest.update(self.event_id.encode())
        return digest.digest()


@dataclasses.dataclass(frozen=True)
class Submission:
    """What a user did, as it is handed in.

    Attributes:
        key: The user, and the model that learns.
        events: Checked events, oldest first.
        features: What was told of the user with them, for whoever learns;
            the log does not look inside.
    """

    key: UserKey
    events: tuple[LoggedEvent, ...]
    features: bytes = b""


@dataclasses.dataclass(frozen=True)
class LogEntry:
    """A submission as the log holds it, without the events known before.

    Attributes:
        position: Where it is; a user's later entries have greater ones.
        key: The user, and the model that learns.
        events: The events, oldest first; at least one.
        features: As they were handed in.
        claimed: Whether it was delivered to the consumer that appended it.
    """

    position: int
    key: UserKey
    events: tuple[LoggedEvent, ...]
    features: bytes = b""
    claimed: bool = dataclasses.field(default=False, compare=False)


def encode_head(submission: Submission) -> bytes:
    """Encodes all but the events."""
    out = bytearray((_FORMAT,))
    put_text(out, submission.key.model)
    put_text(out, submission.key.user_id)
    put_bytes(out, submission.features)
    return bytes(out)


def encode_event(event: LoggedEvent) -> bytes:
    """Encodes an event."""
    out = bytearray()
    put_text(out, event.event_id)
    put_text(out, event.item_id)
    put_varint(out, event.timestamp)
    if event.label in _LABELS:
        out.append(_LABELS.index(event.label))
    else:
        out.append(_OTHER_LABEL)
        out += _FLOAT.pack(event.label)
    return bytes(out)


def encode_submission(submission: Submission) -> bytes:
    """Encodes a submission as one value."""
    events = map(encode_event, submission.events)
    return seal(bytearray(encode_head(submission) + b"".join(events)))


def decode_submission(position: int, data: bytes) -> LogEntry:
    """Decodes what `encode_submission` made.

    Raises:
        RecordError: The bytes are damaged.
    """
    with _damaged(position):
        reader = Reader(unseal(data))
        key, features = _read_head(reader)
        events = tuple(_read_events(reader))
        return LogEntry(position, key, events, features)


def decode_fields(
    position: int, head: bytes, events: Iterable[bytes]
) -> LogEntry:
    """Decodes a head and events that are sealed one by one.

    Raises:
        RecordError: The bytes are damaged.
    """
    with _damaged(position):
        key, features = _read_head(Reader(unseal(head)))
        found = [_read_events(Reader(unseal(event))) for event in events]
        return LogEntry(position, key, tuple(itertools.chain(*found)), features)


@contextlib.contextmanager
def _damaged(position: int) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise RecordError(
            f"The entry at position {position} of the event log is damaged "
            f"({error}). It is left out."
        ) from error


def _read_head(reader: Reader) -> tuple[UserKey, bytes]:
    form = reader.take(1)[0]
    if form != _FORMAT:
        raise ValueError(f"format {form} is not known")
    return UserKey(reader.text(), reader.text()), reader.bytes()


def _read_events(reader: Reader) -> Iterator[LoggedEvent]:
    while not reader.at_end:
        event_id, item_id = reader.text(), reader.text()
        timestamp = reader.varint()
        code = reader.take(1)[0]
        if code > _OTHER_LABEL:
            raise ValueError(f"label code {code} is not known")
        if code == _OTHER_LABEL:
            (label,) = _FLOAT.unpack(reader.take(_FLOAT.size))
        else:
            label = _LABELS[code]
        yield LoggedEvent(event_id, item_id, label, timestamp)
