import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract.support import SupportEvent
from serving.errors import RecordError
from serving.store import (
    UserKey,
    UserRecord,
    VersionWeights,
    fingerprint_digest,
)
from serving.store.record_bytes import decode_record, encode_record

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
FLOATS = {
    dtype: st.floats(width=width, allow_nan=False, allow_infinity=False)
    for dtype, width in (("float32", 32), ("float16", 16))
}
LABELS = st.sampled_from((0.0, 1.0)) | st.floats(0, 1, width=32)


DIGESTS = st.binary(min_size=8, max_size=8)


@st.composite
def versions(draw):
    dtype = draw(st.sampled_from(sorted(FLOATS)))
    return VersionWeights(
        draw(DIGESTS),
        np.array(draw(st.lists(FLOATS[dtype], max_size=20)), dtype),
        draw(st.integers(0, 2**63)),
    )


@st.composite
def records(draw):
    latest = draw(versions())
    return UserRecord(
        key=UserKey(draw(TEXT).replace("\0", ""), draw(TEXT)),
        fingerprint=latest.fingerprint,
        sequence=draw(st.integers(0, 2**63)),
        support_count=latest.support_count,
        weights=latest.weights,
        reservoir=tuple(
            SupportEvent(*event)
            for event in draw(st.lists(st.tuples(TEXT, LABELS), max_size=10))
        ),
        updated_ms=draw(st.integers(0, 2**50)),
        earlier=tuple(draw(st.lists(versions(), max_size=2))),
        log_position=draw(st.integers(0, 2**63)),
        features=draw(st.binary(max_size=40)),
    )


def as_values(record):
    values = {
        field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
        if field.name not in ("weights", "earlier")
    }
    weights = [
        (v.fingerprint, v.weights.dtype, v.weights.tolist(), v.support_count)
        for v in record.versions
    ]
    return values, weights


@given(records())
def test_record_survives_the_round_trip(record):
    decoded = decode_record(encode_record(record), record.key)
    assert as_values(decoded) == as_values(record)


@given(records(), st.data())
def test_any_flipped_bit_is_rejected(record, data):
    encoded = bytearray(encode_record(record))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(RecordError):
        decode_record(bytes(encoded), record.key)


@given(records(), st.data())
def test_any_truncation_is_rejected(record, data):
    encoded = encode_record(record)
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(RecordError):
        decode_record(encoded[:size], record.key)


@given(records(), st.binary(min_size=1, max_size=8))
def test_bytes_after_the_record_are_rejected(record, rest):
    with pytest.raises(RecordError):
        decode_record(encode_record(record) + rest, record.key)


@given(st.binary(max_size=200))
def test_random_bytes_are_rejected(data):
    with pytest.raises(RecordError):
        decode_record(data, UserKey("m", "u"))


def usual_record(reservoir, **changes):
    """A record as the movie models have it: 17 weights, 192 events."""
    return UserRecord(
        key=UserKey("adaptower", "123456"),
        fingerprint=fingerprint_digest("f" * 64),
        sequence=1000,
        support_count=5000,
        weights=np.linspace(-1, 1, 17, dtype=np.float32),
        reservoir=reservoir,
        updated_ms=1_800_000_000_000,
        log_position=1_800_000_000_000 << 20,
        **changes,
    )


MOVIES = tuple(SupportEvent(str(i * 21), float(i % 2)) for i in range(192))


def test_usual_record_stays_below_450_bytes():
    record = usual_record(MOVIES)
    assert len(encode_record(record)) < 450
    told = dataclasses.replace(record, features=bytes(60))
    assert len(encode_record(told)) == len(encode_record(record)) + 60


def test_version_to_go_back_to_costs_little_more_than_its_weights():
    record = usual_record(MOVIES)
    earlier = record.earlier_than(fingerprint_digest("g"))
    two = dataclasses.replace(record, earlier=earlier)
    extra = len(encode_record(two)) - len(encode_record(record))
    assert extra <= record.weights.nbytes + 12


def test_double_weights_are_refused():
    record = UserRecord(
        key=UserKey("m", "u"),
        fingerprint=fingerprint_digest("f"),
        sequence=1,
        support_count=1,
        weights=np.zeros(3),
    )
    with pytest.raises(RecordError, match="float64"):
        encode_record(record)
