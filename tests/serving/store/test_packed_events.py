import contextlib
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.contract.support import SupportEvent
from serving.errors import RecordError
from serving.store.packed_events import (
    PackedEvents,
    pack_events,
    unpack_events,
)

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
# What catalogues really use, and what nearly looks like it.
IDS = st.one_of(
    st.integers(0, 10**20).map(str),
    st.integers(0, 9999).map("{:04d}".format),
    st.integers(0, 99999).map("item-{}".format),
    st.from_regex(re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}"), fullmatch=True),
    st.sampled_from(
        ["", "0", "00", "-1", "+1", "1 ", "\u0663", "\u00b2", "é1"]
    ),
    TEXT,
)
LABELS = st.sampled_from((0.0, 1.0)) | st.floats(width=32, allow_nan=False)


def events_of(ids, labels=(1.0,)):
    return tuple(
        SupportEvent(item_id, labels[place % len(labels)])
        for place, item_id in enumerate(ids)
    )


@st.composite
def id_lists(draw):
    """Ids of one kind, as in a catalogue, or of any."""
    kind = draw(st.sampled_from([*IDS.original_strategies, IDS]))
    return draw(st.lists(kind, max_size=30))


@given(id_lists(), st.lists(LABELS.filter(lambda x: abs(x) < 1e38), min_size=1))
@example(["0"], [1.0])
@example(["7", "07"], [1.0])
@example(["007", "008"], [0.0, 1.0])
@example(["x12", "x13"], [0.25, 0.5, 1.0])
@example(["9" * 18, "1"], [1.0])
@example(["9" * 19, "1"], [1.0])
@example(["10", "1"], [0.5])
def test_events_survive_the_round_trip(ids, labels):
    events = events_of(ids, labels)
    packed = pack_events(events)
    assert unpack_events(packed) == events
    assert PackedEvents(packed) == events
    assert len(PackedEvents(packed)) == len(events)
    assert pack_events(PackedEvents(packed)) == packed


@given(st.binary(max_size=60))
def test_random_bytes_give_events_or_a_value_error(data):
    with contextlib.suppress(ValueError):
        unpack_events(data)


@given(id_lists().filter(bool), st.data())
def test_truncated_bytes_are_rejected(ids, data):
    packed = pack_events(events_of(ids))
    size = data.draw(st.integers(0, len(packed) - 1))
    with pytest.raises(ValueError, match=r"."):
        unpack_events(packed[:size])


@pytest.mark.parametrize(
    ("make_id", "most"),
    [
        # 12 bits an id and 1 a label; the texts alone take 480 bytes.
        (lambda n: str(n * 41), 162),
        (lambda n: f"{n * 41:06d}", 162),
        (lambda n: f"movie-{n * 41}", 170),
        (lambda n: str(10_000_000 + n * 9241), 310),
        (lambda n: f"{n:08x}-{n * 7919:04x}-4000", 1000),
    ],
)
def test_reservoir_takes_few_bytes(make_id, most):
    packed = pack_events(events_of(map(make_id, range(96)), (0.0, 1.0)))
    assert len(packed) <= most


def test_stars_as_labels_take_three_bits_each():
    stars = [star / 5 for star in range(1, 6)]
    plain = len(pack_events(events_of(map(str, range(96)))))
    starred = len(pack_events(events_of(map(str, range(96)), stars)))
    assert starred - plain == 5 * 4 + 2 * 96 // 8


@pytest.mark.parametrize("label", [float("nan"), float("inf"), 1e39])
def test_label_that_is_no_finite_float_is_refused(label):
    with pytest.raises(RecordError, match="'7'"):
        pack_events([SupportEvent("7", label)])
