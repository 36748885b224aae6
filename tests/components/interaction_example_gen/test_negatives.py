"""Sampled negatives against their distribution in closed form."""

import numpy as np
import pyarrow as pa
import pytest

from components.interaction_example_gen import negatives


def draw(candidates, num_events, count, time=100, item=-1, user=None):
    generator = np.random.default_rng(0)
    return negatives.sample_negatives(
        user_hash=generator.integers(0, 2**63, num_events).astype(np.uint64),
        position=np.arange(num_events) % 7,
        timestamp=np.full(num_events, time),
        user=np.arange(num_events) if user is None else user,
        item=np.full(num_events, item),
        candidates=candidates,
        count=count,
    )


def make_candidates(counts, first_seen, power=0.75):
    statistics = pa.table(
        [
            pa.array([f"i{n}" for n in range(len(counts))]),
            pa.array(counts, pa.int64()),
            pa.array(first_seen, pa.int64()),
        ],
        schema=negatives.STATISTICS,
    )
    return negatives.Candidates.from_statistics(statistics, power)


def test_one_draw_follows_popularity_to_the_power():
    counts = [1, 10, 100, 1000]
    candidates = make_candidates(counts, [1, 2, 3, 4])
    _, choice = draw(candidates, 40_000, count=1)
    found = np.bincount(choice, minlength=4) / len(choice)
    expected = np.array(counts) ** 0.75
    # Four standard errors of a share of 40,000 draws are below 0.01.
    assert found == pytest.approx(expected / expected.sum(), abs=0.01)


def test_items_not_yet_seen_are_never_drawn():
    candidates = make_candidates([1, 1, 1000], [10, 20, 30])
    _, choice = draw(candidates, 1000, count=2, time=29)
    assert set(choice) == {0, 1}
    _, choice = draw(candidates, 1000, count=2, time=30)
    assert set(choice) == {0, 1, 2}


def test_items_of_cold_users_only_are_no_candidates():
    candidates = make_candidates([3, 0, 2], [5, None, 4])
    assert candidates.item_id.to_pylist() == ["i2", "i0"]
    assert candidates.first_seen.tolist() == [4, 5]


def test_what_the_user_takes_at_any_time_is_never_drawn():
    candidates = make_candidates([5] * 6, range(6))
    generator = np.random.default_rng(1)
    item = generator.integers(-1, 6, 300)
    user = np.arange(300) // 3
    event, choice = draw(candidates, 300, 3, item=item, user=user)
    taken = {(u, i) for u, i in zip(user, item, strict=True)}
    assert not taken & set(zip(user[event], choice, strict=True))


def test_an_event_has_fewer_negatives_where_few_items_are_known():
    candidates = make_candidates([5, 5, 5], [1, 1, 1])
    event, choice = draw(candidates, 50, count=4, item=2)
    assert np.bincount(event).tolist() == [2] * 50
    assert set(choice) == {0, 1}


def test_nothing_known_gives_nothing():
    event, choice = draw(make_candidates([], []), 5, count=4)
    assert len(event) == len(choice) == 0


def test_merged_counts_equal_counts_of_everything():
    generator = np.random.default_rng(2)
    shard = pa.table(
        {
            "item_id": [f"i{n}" for n in generator.integers(0, 9, 200)],
            "timestamp": generator.integers(0, 99, 200),
            "split": pa.array(generator.integers(0, 3, 200), pa.int8()),
        }
    )
    parts = [shard.slice(0, 80), shard.slice(80, 1), shard.slice(81)]
    merged = negatives.merge_counts([negatives.count_items(p) for p in parts])
    frame = shard.to_pandas()
    trained = frame[frame["split"] == 0].groupby("item_id")["timestamp"]
    assert merged["item_id"].to_pylist() == sorted(set(frame["item_id"]))
    for row in merged.to_pylist():
        times = trained.indices.get(row["item_id"], [])
        assert row["count"] == len(times)
        if len(times):
            expected = trained.min()[row["item_id"]]
            assert row["first_seen"] == expected
        else:
            assert row["first_seen"] is None
