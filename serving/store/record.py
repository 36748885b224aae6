"""One user's record: adaptive weights, where they come from, how they go on.

The bytes, integers as LEB128 varints unless a width is given:

    format (1 byte), dtype of the weights (1 byte)
    user id, model name                     length and UTF-8 each
    fingerprint digest (16 bytes)
    sequence, support count, updated (ms since 1970)
    number of weights, weights              4 or 2 bytes each
    number of reservoir events, each: 4 x length of item id + label code,
        item id, and the label as float32 if it is neither 0 nor 1
    number of recent event ids, 4-byte hash of each
    CRC32 of everything before (4 bytes)

33 weights as float32 with 16 events, or as float16 with 30, stay below 400
bytes.
"""

import dataclasses
import hashlib
import math
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import SupportEvent
from serving.errors import RecordError

_FORMAT = 1
_DTYPES: tuple[np.dtype[np.floating[Any]], ...] = (
    np.dtype("<f4"),
    np.dtype("<f2"),
)
_DIGEST_BYTES = 16
_HASH_BYTES = 4
_CRC = struct.Struct("<I")
_FLOAT = struct.Struct("<f")
_LABELS = (0.0, 1.0)
_OTHER_LABEL = len(_LABELS)


def fingerprint_digest(fingerprint: str) -> bytes:
    """Returns the 16 bytes by which a record names a fingerprint."""
    return hashlib.blake2b(
        fingerprint.encode(), digest_size=_DIGEST_BYTES
    ).digest()


def event_hash(event_id: str) -> int:
    """Returns the 32-bit hash by which a record remembers an event id.

    Against the few dozen ids a record keeps, a new id is mistaken for a known
    one about once in 100 million events.
    """
    digest = hashlib.blake2b(event_id.encode(), digest_size=_HASH_BYTES)
    return int.from_bytes(digest.digest(), "little")


@dataclasses.dataclass(frozen=True)
class UserKey:
    """Whose record, and for which model.

    Attributes:
        model: Name the model is served under; holds no NUL.
        user_id: The user.
    """

    model: str
    user_id: str

    def to_bytes(self) -> bytes:
        """Returns the key as stored; unique because models hold no NUL."""
        return f"{self.model}\0{self.user_id}".encode()


@dataclasses.dataclass(frozen=True, eq=False)
class UserRecord:
    """What is stored of one user under one model.

    Attributes:
        key: Owner and model.
        fingerprint: `fingerprint_digest` of the fixed part that the weights
            were learned for; they are never applied under another.
        sequence: 1 for the first record of a user, then one more each time.
        support_count: How many events the weights rest on.
        weights: Adaptive weights, finite, float32 or float16, shape [P].
        reservoir: The user's own events that are kept, oldest first.
        recent_events: `event_hash` of the newest event ids, oldest first.
        updated_ms: When it was written, milliseconds since 1970, UTC.
    """

    key: UserKey
    fingerprint: bytes
    sequence: int
    support_count: int
    weights: NDArray[np.floating[Any]]
    reservoir: tuple[SupportEvent, ...] = ()
    recent_events: tuple[int, ...] = ()
    updated_ms: int = 0

    def fits(self, fingerprint: str, num_adaptive: int) -> bool:
        """Whether the weights may be applied under a fixed part."""
        return self.fingerprint == fingerprint_digest(
            fingerprint
        ) and self.weights.shape == (num_adaptive,)

    def to_bytes(self) -> bytes:
        """Encodes the record.

        Raises:
            RecordError: It holds weights that are not finite or of another
                dtype, or a fingerprint that is no digest.
        """
        dtype = self.weights.dtype
        if dtype not in _DTYPES or self.weights.ndim != 1:
            raise RecordError(
                f"Weights of dtype {dtype} and shape {self.weights.shape} "
                "can't be stored; use a float32 or float16 vector."
            )
        if not np.isfinite(self.weights).all():
            raise RecordError(
                f"Weights of user {self.key.user_id!r} are not finite and "
                "are not stored. Look at the model's inner loop."
            )
        if len(self.fingerprint) != _DIGEST_BYTES:
            raise RecordError(
                "A record's fingerprint must come from fingerprint_digest()."
            )
        out = bytearray((_FORMAT, _DTYPES.index(dtype)))
        _put_text(out, self.key.user_id)
        _put_text(out, self.key.model)
        out += self.fingerprint
        for number in (self.sequence, self.support_count, self.updated_ms):
            _put_varint(out, number)
        _put_varint(out, len(self.weights))
        out += self.weights.tobytes()
        _put_varint(out, len(self.reservoir))
        for event in self.reservoir:
            _put_event(out, event)
        _put_varint(out, len(self.recent_events))
        out += np.array(self.recent_events, "<u4").tobytes()
        return bytes(out + _CRC.pack(zlib.crc32(out)))

    @classmethod
    def from_bytes(cls, data: bytes, key: UserKey) -> "UserRecord":
        """Decodes a record.

        Args:
            data: What `to_bytes` returned.
            key: Whose record it must be.

        Raises:
            RecordError: The bytes are damaged, or another user's.
        """
        try:
            record = _decode(data)
        except (ValueError, IndexError, struct.error) as error:
            raise RecordError(
                f"The record of user {key.user_id!r} for model "
                f"{key.model!r} is damaged ({error}). It is not used; the "
                "user's next feedback replaces it."
            ) from error
        if record.key != key:
            raise RecordError(
                f"The record found for {key} belongs to {record.key}. It is "
                "not used."
            )
        return record


def _decode(data: bytes) -> UserRecord:
    body = data[: -_CRC.size]
    if _CRC.unpack(data[-_CRC.size :])[0] != zlib.crc32(body):
        raise ValueError("the checksum does not match")
    if body[0] != _FORMAT:
        raise ValueError(f"format {body[0]} is not known")
    dtype = _DTYPES[body[1]]
    reader = _Reader(body, 2)
    user_id, model = reader.text(), reader.text()
    fingerprint = reader.take(_DIGEST_BYTES)
    sequence, support_count = reader.varint(), reader.varint()
    updated_ms = reader.varint()
    weights: NDArray[np.floating[Any]] = np.frombuffer(
        reader.take(reader.varint() * dtype.itemsize), dtype
    )
    reservoir = tuple(reader.event() for _ in range(reader.varint()))
    hashes = np.frombuffer(reader.take(reader.varint() * _HASH_BYTES), "<u4")
    if reader.place != len(body):
        raise ValueError("there are bytes left over")
    return UserRecord(
        key=UserKey(model, user_id),
        fingerprint=fingerprint,
        sequence=sequence,
        support_count=support_count,
        weights=weights,
        reservoir=reservoir,
        recent_events=tuple(hashes.tolist()),
        updated_ms=updated_ms,
    )


class _Reader:
    """Reads a record's parts one after the other."""

    def __init__(self, data: bytes, place: int) -> None:
        self._data = data
        self.place = place

    def take(self, size: int) -> bytes:
        part = self._data[self.place : self.place + size]
        if len(part) != size:
            raise ValueError("it ends too early")
        self.place += size
        return part

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self._data[self.place]
            self.place += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7

    def text(self) -> str:
        return self.take(self.varint()).decode()

    def event(self) -> SupportEvent:
        size, code = divmod(self.varint(), 4)
        item_id = self.take(size).decode()
        if code == _OTHER_LABEL:
            return SupportEvent(item_id, *_FLOAT.unpack(self.take(_FLOAT.size)))
        return SupportEvent(item_id, _LABELS[code])


def _put_varint(out: bytearray, number: int) -> None:
    if number < 0:
        raise RecordError(f"A record can't hold the negative count {number}.")
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def _put_text(out: bytearray, text: str) -> None:
    encoded = text.encode()
    _put_varint(out, len(encoded))
    out += encoded


def _put_event(out: bytearray, event: SupportEvent) -> None:
    if not math.isfinite(event.label):
        raise RecordError(
            f"The label {event.label} of item {event.item_id!r} is not "
            "finite and is not stored."
        )
    item_id = event.item_id.encode()
    plain = event.label in _LABELS
    code = _LABELS.index(event.label) if plain else _OTHER_LABEL
    _put_varint(out, 4 * len(item_id) + code)
    out += item_id
    if not plain:
        out += _FLOAT.pack(event.label)
