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


@given(BATCHES, st.integers(1, 20))
def test_weights_count_for_all_events_seen(sizes, capacity):
    for seen, _, merged in stream(sizes, capacity):
        assert merged.count == len(seen)
        assert len(merged.weights) == len(merged.events)
        assert abs(sum(merged.weights) - merged.count) < 1e-9 * (
            1 + merged.count
        )


@given(BATCHES, st.integers(0, 20))
def test_the_most_recent_events_are_kept(sizes, capacity):
    for seen, _, merged in stream(sizes, capacity):
        oldest = max(0, len(seen) - capacity)
        assert list(merged.reservoir) == seen[oldest:]


@given(BATCHES, st.integers(0, 20))
def test_support_set_ends_with_the_new_events_at_full_weight(sizes, capacity):
    kept = ()
    for _, new, merged in stream(sizes, capacity):
        assert merged.events == (*kept, *new)
        assert merged.weights[len(kept) :] == (1.0,) * len(new)
        assert len(set(merged.weights[: len(kept)])) <= 1
        kept = merged.reservoir


@given(BATCHES)
def test_nothing_is_reweighted_while_everything_fits(sizes):
    for seen, _, merged in stream(sizes, capacity=1000):
        assert list(merged.events) == seen
        assert merged.weights == (1.0,) * len(seen)


def test_capacity_zero_learns_from_new_events_alone():
    *_, (seen, new, merged) = stream([5, 3], capacity=0)
    assert merged.events == tuple(new)
    assert merged.weights == (1.0,) * 3
    assert merged.reservoir == ()
    assert merged.count == len(seen) == 8
