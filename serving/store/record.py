"""One user's record: adaptive weights, where they come from, how they go on.

The bytes, integers as LEB128 varints unless a width is given:

    format (1 byte), sequence
    digest of the owner, updated (ms since 1970), position in the event log
        (8 bytes each)
    support count
    number of weight vectors, each: fingerprint digest (8 bytes), support
        count, 2 x number of weights + dtype, weights (4 or 2 bytes each)
    length of the reservoir, the reservoir as in `packed_events.py`
    length of the features, the features
    CRC32 of everything before (4 bytes)

The sequence comes first because the Lua script of the Redis store compares
it. 17 weights as float32 with a reservoir of 192 numbered items below 4,096
take 435 bytes, and the features what they are.
"""

import dataclasses
import functools
import hashlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import SupportEvent
from serving.errors import RecordError
from serving.packing import Reader, put_bytes, put_varint, seal, unseal
from serving.store.packed_events import PackedEvents, pack_events

RECORD_FORMAT = 3
# The version that serves, the one that follows, one to go back to and one
# more in an experiment.
MAX_VERSIONS = 4

_DTYPES: tuple[np.dtype[np.floating[Any]], ...] = (
    np.dtype("<f4"),
    np.dtype("<f2"),
)
_DIGEST_BYTES = 8
_FIXED = struct.Struct(f"<{_DIGEST_BYTES}sQQ")
_NO_FINGERPRINT = bytes(_DIGEST_BYTES)


@functools.lru_cache(maxsize=64)
def fingerprint_digest(fingerprint: str) -> bytes:
    """Returns the 8 bytes by which a record names a fingerprint."""
    return _digest(fingerprint.encode())


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()


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

    @classmethod
    def from_bytes(cls, data: bytes) -> "UserKey":
        """Returns the key that `to_bytes` stored."""
        model, _, user_id = data.decode().partition("\0")
        return cls(model, user_id)

    @property
    def digest(self) -> bytes:
        """The 8 bytes by which a record names its owner."""
        return _digest(self.to_bytes())


@dataclasses.dataclass(frozen=True, eq=False)
class VersionWeights:
    """A user's weights for one fixed part.

    Attributes:
        fingerprint: `fingerprint_digest` of the fixed part that the weights
            were learned for; they are never applied under another.
        weights: Adaptive weights, finite, float32 or float16, shape [P].
        support_count: How many events they rest on.
    """

    fingerprint: bytes
    weights: NDArray[np.floating[Any]]
    support_count: int


@dataclasses.dataclass(frozen=True, eq=False)
class UserRecord:
    """What is stored of one user under one model.

    The events are kept once, the weights for each of several versions of the
    fixed part: after a rollback those of the old version are still there, and
    what was learned in the meantime is in the reservoir.

    Attributes:
        key: Owner and model.
        fingerprint: `fingerprint_digest` of the fixed part that learned last.
        sequence: 1 for the first record of a user, then one more each time.
        support_count: How many of the user's events were seen.
        weights: What was learned last: adaptive weights, finite, float32 or
            float16, shape [P]; none, shape [0], if that version was retired.
        reservoir: The user's own events that are kept, oldest first.
        updated_ms: When it was written, milliseconds since 1970, UTC.
        earlier: Weights for other fixed parts, those learned last first.
        log_position: Where in the event log the newest of the events is; 0
            if they did not come from a log. What the log delivers at or
            before it is learned already.
        features: What was last told of the user, as the log has it; the
            store does not look inside.
    """

    key: UserKey
    fingerprint: bytes
    sequence: int
    support_count: int
    weights: NDArray[np.floating[Any]]
    reservoir: Sequence[SupportEvent] = ()
    updated_ms: int = 0
    earlier: tuple[VersionWeights, ...] = ()
    log_position: int = 0
    features: bytes = b""

    @property
    def versions(self) -> tuple[VersionWeights, ...]:
        """All the weights, those learned last first."""
        latest = VersionWeights(
            self.fingerprint, self.weights, self.support_count
        )
        return (latest, *self.earlier)

    def weights_for(
        self, fingerprint: str, num_adaptive: int
    ) -> VersionWeights | None:
        """Returns the weights that may be applied under a fixed part."""
        digest = fingerprint_digest(fingerprint)
        for version in self.versions:
            if version.fingerprint == digest:
                fits = version.weights.shape == (num_adaptive,)
                return version if fits else None
        return None

    def earlier_than(self, fingerprint: bytes) -> tuple[VersionWeights, ...]:
        """Returns `earlier` of the record that follows this one.

        Args:
            fingerprint: `fingerprint_digest` of the fixed part that learns.
        """
        others = (
            version
            for version in self.versions
            if version.fingerprint != fingerprint and version.weights.size
        )
        return tuple(others)[: MAX_VERSIONS - 1]

    def without(self, fingerprint: bytes) -> "UserRecord | None":
        """Returns the next record with the weights for a fixed part dropped.

        None if there are no such weights.
        """
        latest = self.fingerprint == fingerprint
        if not any(v.fingerprint == fingerprint for v in self.versions):
            return None
        return dataclasses.replace(
            self,
            sequence=self.sequence + 1,
            fingerprint=_NO_FINGERPRINT if latest else self.fingerprint,
            weights=self.weights[:0] if latest else self.weights,
            earlier=tuple(
                v for v in self.earlier if v.fingerprint != fingerprint
            ),
        )

    def to_bytes(self) -> bytes:
        """Encodes the record.

        Raises:
            RecordError: It holds weights that are not finite or of another
                dtype, a fingerprint that is no digest, or negative numbers.
        """
        try:
            return self._encoded()
        except (ValueError, struct.error) as error:
            raise RecordError(
                f"The record of user {self.key.user_id!r} can't be stored: "
                f"{error}."
            ) from error

    def _encoded(self) -> bytes:
        out = bytearray((RECORD_FORMAT,))
        put_varint(out, self.sequence)
        out += _FIXED.pack(self.key.digest, self.updated_ms, self.log_position)
        put_varint(out, self.support_count)
        put_varint(out, len(self.versions))
        for version in self.versions:
            self._put_version(out, version)
        put_bytes(out, pack_events(self.reservoir))
        put_bytes(out, self.features)
        return seal(out)

    def _put_version(self, out: bytearray, version: VersionWeights) -> None:
        weights = version.weights
        if weights.dtype not in _DTYPES or weights.ndim != 1:
            raise RecordError(
                f"Weights of dtype {weights.dtype} and shape {weights.shape} "
                "can't be stored; use a float32 or float16 vector."
            )
        if not np.isfinite(weights).all():
            raise RecordError(
                f"Weights of user {self.key.user_id!r} are not finite and "
                "are not stored. Look at the model's inner loop."
            )
        if len(version.fingerprint) != _DIGEST_BYTES:
            raise RecordError(
                "A record's fingerprint must come from fingerprint_digest()."
            )
        out += version.fingerprint
        put_varint(out, version.support_count)
        put_varint(out, 2 * len(weights) + _DTYPES.index(weights.dtype))
        out += weights.tobytes()

    @staticmethod
    def from_bytes(data: bytes, key: UserKey) -> "UserRecord":
        """Decodes a record.

        Args:
            data: What `to_bytes` returned.
            key: Whose record it must be.

        Raises:
            RecordError: The bytes are damaged, or another user's.
        """
        try:
            owner, record = _decode(data, key)
        except ValueError as error:
            raise RecordError(
                f"The record of user {key.user_id!r} for model "
                f"{key.model!r} is damaged ({error}). It is not used; the "
                "user's next feedback replaces it."
            ) from error
        if owner != key.digest:
            raise RecordError(
                f"The record found for {key} belongs to another user or "
                "model. It is not used; see who else writes to the store."
            )
        return record


def _decode(data: bytes, key: UserKey) -> tuple[bytes, UserRecord]:
    body = unseal(data)
    if body[0] != RECORD_FORMAT:
        raise ValueError(f"format {body[0]} is not known")
    reader = Reader(body, 1)
    sequence = reader.varint()
    owner, updated_ms, log_position = _FIXED.unpack(reader.take(_FIXED.size))
    support_count = reader.varint()
    versions = tuple(_read_version(reader) for _ in range(reader.varint()))
    if not versions:
        raise ValueError("it has no weights")
    reservoir = PackedEvents(reader.bytes())
    features = reader.bytes()
    reader.end()
    return owner, UserRecord(
        key=key,
        fingerprint=versions[0].fingerprint,
        sequence=sequence,
        support_count=support_count,
        weights=versions[0].weights,
        reservoir=reservoir,
        updated_ms=updated_ms,
        earlier=versions[1:],
        log_position=log_position,
        features=features,
    )


def _read_version(reader: Reader) -> VersionWeights:
    fingerprint = reader.take(_DIGEST_BYTES)
    support_count = reader.varint()
    size, code = divmod(reader.varint(), 2)
    dtype = _DTYPES[code]
    weights: NDArray[np.floating[Any]] = np.frombuffer(
        reader.take(size * dtype.itemsize), dtype
    )
    return VersionWeights(fingerprint, weights, support_count)
