"""Support sets, event by event."""

from hypothesis import given
from hypothesis import strategies as st

from serving.contract.support import SupportEvent, merge_support

BATCHES = st.lists(st.integers(0, 12), max_size=12)


def stream(sizes, capacity):
    """Merges batches of the given sizes; yields (all events, merged)."""
    seen, reservoir, count = [], (), 0
    for size in sizes:
        new = [
            SupportEvent(f"i{len(seen) + n}", float(n % 2)) for n in range(size)
        ]
        seen = seen + new
        merged = merge_support(reservoir, new, count, capacity)
        yield seen, new, merged
        reservoir, count = merged.reservoir, merged.count


@given(BATCHES, st.integers(0, 20))
def test_all_events_seen_are_counted(sizes, capacity):
    for seen, _, merged in stream(sizes, capacity):
        assert merged.count == len(seen)


@given(BATCHES, st.integers(0, 20))
def test_the_most_recent_events_are_kept(sizes, capacity):
    for seen, _, merged in stream(sizes, capacity):
        oldest = max(0, len(seen) - capacity)
        assert list(merged.reservoir) == seen[oldest:]


@given(BATCHES, st.integers(0, 20))
def test_a_support_set_is_what_was_kept_and_then_what_is_new(sizes, capacity):
    kept = ()
    for _, new, merged in stream(sizes, capacity):
        assert merged.events == (*kept, *new)
        kept = merged.reservoir


@given(BATCHES)
def test_everything_is_learned_from_while_it_fits(sizes):
    for seen, _, merged in stream(sizes, capacity=1000):
        assert list(merged.events) == seen


def test_capacity_zero_learns_from_new_events_alone():
    *_, (seen, new, merged) = stream([5, 3], capacity=0)
    assert merged.events == tuple(new)
    assert merged.reservoir == ()
    assert merged.count == len(seen) == 8
