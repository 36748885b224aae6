import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import RecordError
from serving.event_log import LogEntry, LoggedEvent, Submission
from serving.event_log.entry import (
    decode_fields,
    decode_submission,
    encode_events,
    encode_head,
    encode_submission,
)
from serving.packing import seal
from serving.store import UserKey

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
EVENTS = st.builds(
    LoggedEvent,
    TEXT,
    TEXT,
    st.sampled_from((0.0, 1.0)) | st.floats(0, 1),
    st.integers(0, 2**63),
)
SUBMISSIONS = st.builds(
    Submission,
    st.builds(UserKey, TEXT, TEXT),
    st.lists(EVENTS, max_size=5).map(tuple),
    st.binary(max_size=20),
)


@given(SUBMISSIONS, st.integers(0, 2**63))
def test_submission_survives_the_round_trip(submission, position):
    expected = LogEntry(
        position, submission.key, submission.events, submission.features
    )
    whole = encode_submission(submission)
    assert decode_submission(position, whole) == expected
    head = seal(bytearray(encode_head(submission)))
    events = [seal(bytearray(encode_events([e]))) for e in submission.events]
    assert decode_fields(position, head, events) == expected


@given(SUBMISSIONS, st.data())
def test_any_flipped_bit_is_rejected(submission, data):
    encoded = bytearray(encode_submission(submission))
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    encoded[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(RecordError, match="position 7"):
        decode_submission(7, bytes(encoded))


@given(SUBMISSIONS, st.data())
def test_any_truncation_is_rejected(submission, data):
    encoded = encode_submission(submission)
    size = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(RecordError):
        decode_submission(7, encoded[:size])


@given(st.binary(max_size=60))
def test_random_bytes_are_rejected_even_with_a_checksum(data):
    try:
        decode_submission(7, seal(bytearray(data)))
    except RecordError:
        return
    # What is not rejected has a meaning: format, texts, and whole events.
    assert data[:1] == b"\x01"


def test_ids_of_users_and_models_have_hashes_of_their_own():
    event = LoggedEvent("e", "i", 1.0)
    keys = [UserKey("m", "u"), UserKey("m", "v"), UserKey("n", "u")]
    assert len({event.hash(key) for key in keys}) == 3
    assert len(event.hash(keys[0])) == 8
