"""Published protocols: their figures, and how they cut users."""

import trainer  # noqa: F401 - chooses Keras 2  # isort: skip

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, ndcg_score

from benchmarks.quality.published import absolute_error, top_five
from benchmarks.quality.published_data import RatedUsers, scaled


def make_users(count=400, distinct=False):
    """Users of 15 ratings; if `distinct`, no two of the last ten are equal."""
    random = np.random.default_rng(0)
    rating = [random.integers(1, 6, 15) for _ in range(count)]
    if distinct:
        rating = [
            np.concatenate([r[:5], random.permutation(10) + 1]) for r in rating
        ]
    return RatedUsers(
        ids={"age": random.integers(0, 3, [count, 1])},
        item_row=[np.arange(15, dtype=np.int32) for _ in rating],
        rating=rating,
    )


def test_a_random_order_gets_one_half_and_what_is_published_for_melu():
    users = make_users(20_000)
    scores = np.random.default_rng(1).normal(size=(20_000, 10))
    means = {name: v.mean() for name, v in top_five(users, scores).items()}
    assert means == pytest.approx(
        {"precision": 0.5, "ndcg": 0.5, "mrr": 0.704}, abs=0.01
    )


def test_top_five_equals_sklearn_where_no_ratings_tie():
    users = make_users(50, distinct=True)
    scores = np.random.default_rng(1).normal(size=(50, 10))
    found = top_five(users, scores)
    rating = np.array([r[-10:] for r in users.rating])
    positive = (rating > 5).astype(float)
    expected = [
        ndcg_score(p[np.newaxis], s[np.newaxis], k=5)
        for p, s in zip(positive, scores, strict=True)
    ]
    np.testing.assert_allclose(found["ndcg"], expected)
    for user in range(50):
        hits = positive[user][np.argsort(-scores[user])][:5]
        assert found["precision"][user] == hits.sum() / 5
        ranks = np.flatnonzero(hits)
        expected_mrr = 1 / (ranks[0] + 1) if len(ranks) else 0.0
        assert found["mrr"][user] == pytest.approx(expected_mrr)


def test_the_error_is_that_of_the_expected_rating():
    users = make_users(20)
    rating = np.array([r[-10:] for r in users.rating])
    expected = np.clip(rating + 0.25, 1.001, 4.999)
    share = (expected - 1) / 4
    found = absolute_error(users, np.log(share / (1 - share)))["mae"]
    assert found.mean() == pytest.approx(mean_absolute_error(rating, expected))


def test_labels_of_four_and_five_are_above_a_half():
    assert scaled(np.arange(1, 6)).tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_shuffling_keeps_ratings_with_their_items_and_features_with_users():
    users = make_users(5)
    shuffled = users.shuffled(3).take(np.array([4, 0]))
    for index, user in enumerate((4, 0)):
        pairs = zip(
            shuffled.item_row[index], shuffled.rating[index], strict=True
        )
        expected = zip(users.item_row[user], users.rating[user], strict=True)
        assert sorted(pairs) == sorted(expected)
        assert shuffled.ids["age"][index] == users.ids["age"][user]
    assert not np.array_equal(shuffled.item_row[0], users.item_row[4])


def test_episodes_hold_each_user_whole_in_order():
    users = make_users(3)
    episodes = list(users.episodes())
    assert len(episodes) == 3
    for user, episode in enumerate(episodes):
        assert episode["position"].numpy().tolist() == list(range(15))
        np.testing.assert_array_equal(
            episode["label"], scaled(users.rating[user])
        )
        assert episode["age"].numpy() == users.ids["age"][user]
