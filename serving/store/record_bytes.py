"""A user's record as bytes, which is how all stores have it.

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

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import RecordError
from serving.packing import Reader, put_bytes, put_varint, seal, unseal
from serving.store.packed_events import PackedEvents, pack_events
from serving.store.record import (
    DIGEST_BYTES,
    UserKey,
    UserRecord,
    VersionWeights,
)

RECORD_FORMAT = 3

_DTYPES: tuple[np.dtype[np.floating[Any]], ...] = (
    np.dtype("<f4"),
    np.dtype("<f2"),
)
_FIXED = struct.Struct(f"<{DIGEST_BYTES}sQQ")


def encode_record(record: UserRecord) -> bytes:
    """Encodes a record.

    Raises:
        RecordError: It holds weights that are not finite or of another
            dtype, a fingerprint that is no digest, or negative numbers.
    """
    try:
        return _encoded(record)
    except (ValueError, struct.error) as error:
        raise RecordError(
            f"The record of user {record.key.user_id!r} can't be stored: "
            f"{error}."
        ) from error


def _encoded(record: UserRecord) -> bytes:
    out = bytearray((RECORD_FORMAT,))
    put_varint(out, record.sequence)
    out += _FIXED.pack(
        record.key.digest, record.updated_ms, record.log_position
    )
    put_varint(out, record.support_count)
    put_varint(out, len(record.versions))
    for version in record.versions:
        _put_version(out, version, record.key)
    put_bytes(out, pack_events(record.reservoir))
    put_bytes(out, record.features)
    return seal(out)


def _put_version(out: bytearray, version: VersionWeights, key: UserKey) -> None:
    weights = version.weights
    if weights.dtype not in _DTYPES or weights.ndim != 1:
        raise RecordError(
            f"Weights of dtype {weights.dtype} and shape {weights.shape} "
            "can't be stored; use a float32 or float16 vector."
        )
    if not np.isfinite(weights).all():
        raise RecordError(
            f"Weights of user {key.user_id!r} are not finite and "
            "are not stored. Look at the model's inner loop."
        )
    if len(version.fingerprint) != DIGEST_BYTES:
        raise RecordError(
            "A record's fingerprint must come from fingerprint_digest()."
        )
    out += version.fingerprint
    put_varint(out, version.support_count)
    put_varint(out, 2 * len(weights) + _DTYPES.index(weights.dtype))
    out += weights.tobytes()


def decode_record(data: bytes, key: UserKey) -> UserRecord:
    """Decodes a record.

    Args:
        data: What `encode_record` returned.
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
    fingerprint = reader.take(DIGEST_BYTES)
    support_count = reader.varint()
    size, code = divmod(reader.varint(), 2)
    dtype = _DTYPES[code]
    weights: NDArray[np.floating[Any]] = np.frombuffer(
        reader.take(size * dtype.itemsize), dtype
    )
    return VersionWeights(fingerprint, weights, support_count)
