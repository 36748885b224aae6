"""What the event log holds: one user's events of one submission.

The bytes, integers as LEB128 varints unless a width is given:

    head    format (1 byte); model, user id, features: length and bytes each
    events  their number; all event ids, then all item ids, as one text:
            length and bytes; the first timestamp of all; and four columns:
            characters of each event id and of each item id, seconds since
            that timestamp, labels
    column  type (1 byte, as `struct` calls it), the numbers

LMDB keeps head and events as one value with a CRC32 at its end; Redis keeps
head and each event as fields with a CRC32 of their own. Workers read a lot of
them, and columns are read at once.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

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

_FORMAT = 2
# Types of columns, and how many bits each has for an integer.
_INTEGERS = {"B": 8, "H": 16, "I": 32, "Q": 64}
_FLOAT = "d"
_HASH_BYTES = 8


class LoggedEvent(NamedTuple):
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


def encode_events(events: Sequence[LoggedEvent]) -> bytes:
    """Encodes events."""
    out = bytearray()
    put_varint(out, len(events))
    if not events:
        return bytes(out)
    event_ids, item_ids, labels, timestamps = zip(*events, strict=True)
    put_text(out, "".join((*event_ids, *item_ids)))
    first = min(timestamps)
    put_varint(out, first)
    _put_column(out, list(map(len, event_ids)))
    _put_column(out, list(map(len, item_ids)))
    _put_column(out, [timestamp - first for timestamp in timestamps])
    _put_column(out, labels)
    return bytes(out)


def _put_column(out: bytearray, numbers: Sequence[float]) -> None:
    """Appends numbers in as few bytes each as the largest needs."""
    code, column = _FLOAT, numbers
    integers = list(map(int, numbers))
    if integers == list(numbers):
        bits = max(integers).bit_length()
        code = next(code for code, most in _INTEGERS.items() if bits <= most)
        column = integers
    out += code.encode()
    out += struct.pack(f"<{len(column)}{code}", *column)


def encode_submission(submission: Submission) -> bytes:
    """Encodes a submission as one value."""
    events = encode_events(submission.events)
    return seal(bytearray(encode_head(submission) + events))


def decode_submission(position: int, data: bytes) -> LogEntry:
    """Decodes what `encode_submission` made.

    Raises:
        RecordError: The bytes are damaged.
    """
    with _damaged(position):
        reader = Reader(unseal(data))
        key, features = _read_head(reader)
        events = _read_events(reader)
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


def _read_events(reader: Reader) -> tuple[LoggedEvent, ...]:
    count = reader.varint()
    if not count:
        reader.end()
        return ()
    texts, first = reader.text(), reader.varint()
    lengths = [*_read_column(reader, count), *_read_column(reader, count)]
    ends = list(itertools.accumulate(lengths, initial=0))
    if ends[-1] != len(texts):
        raise ValueError("the ids are not of the length they should have")
    ids = [texts[a:b] for a, b in itertools.pairwise(ends)]
    timestamps = [first + after for after in _read_column(reader, count)]
    labels = map(float, _read_column(reader, count))
    reader.end()
    return tuple(map(LoggedEvent, ids[:count], ids[count:], labels, timestamps))


def _read_column(reader: Reader, count: int) -> tuple[Any, ...]:
    code = reader.take(1).decode()
    if code not in _INTEGERS and code != _FLOAT:
        raise ValueError(f"columns of type {code!r} are not known")
    column = f"<{count}{code}"
    return struct.unpack(column, reader.take(struct.calcsize(column)))
