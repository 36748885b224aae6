import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract.support import SupportEvent
from serving.errors import RecordError
from serving.store import UserKey, UserRecord, fingerprint_digest

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
FLOATS = {
    dtype: st.floats(width=width, allow_nan=False, allow_infinity=False)
    for dtype, width in (("float32", 32), ("float16", 16))
}
LABELS = st.sampled_from((0.0, 1.0)) | st.floats(0, 1, width=32)


@st.composite
def records(draw):
    dtype = draw(st.sampled_from(sorted(FLOATS)))
    return UserRecord(
        key=UserKey(draw(TEXT).replace("\0", ""), draw(TEXT)),
        fingerprint=draw(st.binary(min_size=16, max_size=16)),
        sequence=draw(st.integers(0, 2**63)),
        support_count=draw(st.integers(0, 2**63)),
        weights=np.array(draw(st.lists(FLOATS[dtype], max_size=40)), dtype),
        reservoir=tuple(
            SupportEvent(*event)
            for event in draw(st.lists(st.tuples(TEXT, LABELS), max_size=20))
        ),
        recent_events=tuple(
            draw(st.lists(st.integers(0, 2**32 - 1), max_size=20))
        ),
        updated_ms=draw(st.integers(0, 2**50)),
    )


def as_values(record):
    values = dataclasses.asdict(record)
    weights = values.pop("weights")
    return values, weights.dtype, weights.tolist()


@given(records())
def test_record_survives_the_round_trip(record):
    decoded = UserRecord.from_bytes(record.to_bytes(), record.key)
    assert as_values(decoded) == as_values(record)


@given(records(), st.data())
def test_any_flipped_bit_is_rejected(record, data):
    encoded = bytearray(record.to_bytes())
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(RecordError):
        UserRecord.from_bytes(bytes(encoded), record.key)


@given(records(), st.data())
def test_any_truncation_is_rejected(record, data):
    encoded = record.to_bytes()
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(RecordError):
        UserRecord.from_bytes(encoded[:size], record.key)


@given(records(), st.binary(min_size=1, max_size=8))
def test_bytes_after_the_record_are_rejected(record, rest):
    with pytest.raises(RecordError):
        UserRecord.from_bytes(record.to_bytes() + rest, record.key)


@given(st.binary(max_size=200))
def test_random_bytes_are_rejected(data):
    with pytest.raises(RecordError):
        UserRecord.from_bytes(data, UserKey("m", "u"))


@pytest.mark.parametrize(
    ("dtype", "num_events"), [("float32", 16), ("float16", 30)]
)
def test_usual_record_stays_below_400_bytes(dtype, num_events):
    record = UserRecord(
        key=UserKey("adaptower", "123456"),
        fingerprint=fingerprint_digest("f" * 64),
        sequence=1000,
        support_count=5000,
        weights=np.linspace(-1, 1, 33).astype(dtype),
        reservoir=(SupportEvent("1234", 1.0),) * num_events,
        recent_events=tuple(range(32)),
        updated_ms=1_800_000_000_000,
    )
    assert len(record.to_bytes()) < 400


def test_weights_fit_only_their_own_fingerprint_and_size():
    record = UserRecord(
        key=UserKey("m", "u"),
        fingerprint=fingerprint_digest("mine"),
        sequence=1,
        support_count=1,
        weights=np.zeros(3, np.float32),
    )
    assert record.fits("mine", 3)
    assert not record.fits("other", 3)
    assert not record.fits("mine", 4)


def test_double_weights_are_refused():
    record = UserRecord(
        key=UserKey("m", "u"),
        fingerprint=fingerprint_digest("f"),
        sequence=1,
        support_count=1,
        weights=np.zeros(3),
    )
    with pytest.raises(RecordError, match="float64"):
        record.to_bytes()
