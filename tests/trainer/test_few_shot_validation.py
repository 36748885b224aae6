"""Few-shot figures in one batch against a loop over users."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from tests.helpers import tiny_world
from trainer.errors import EpisodeDataError
from trainer.few_shot_validation import few_shot_figures
from trainer.scorer import TwoTowerScorer

CATALOG = tiny_world.make_catalog()
SIZES = (0, 1, 3, 5, 10, 20)


@pytest.fixture(scope="module")
def model():
    return tiny_world.make_model(tiny_world.tiny_config())


def figures(model, users, max_users=100):
    return few_shot_figures(
        TwoTowerScorer(model, CATALOG),
        tiny_world.as_dataset(users),
        tiny_world.SPACE,
        max_users,
    )


def slow_scores(model, episode, size):
    """One user alone: learn from `size` events, then score the query set."""
    ids = {
        name: tf.constant(episode[name])[tf.newaxis]
        for name in ("gender", "hobbies")
    }
    ids["user_row"] = tf.zeros([1, 1], tf.int64)
    user = model.user_tower(ids)
    position = episode["position"]

    def rows(start, stop):
        return np.flatnonzero((position >= start) & (position < stop))

    def items(chosen):
        row = tf.constant([episode["item_row"][chosen]])
        return model.embed_items(CATALOG.ids, row)

    support, query_set = rows(20 - size, 20), rows(20, 70)
    weights = model.initial_weights(1)
    if len(support):
        weights = model.adapt(
            user,
            items(support),
            tf.constant([episode["label"][support]]),
            tf.ones([1, len(support)]),
            weights,
        )
    scores = model.score(user, items(query_set), weights).numpy()[0]
    return episode["label"][query_set], scores


def check(model, users, found):
    """Compares with the users one by one, by scikit-learn."""
    assert set(found.auc) == set(found.wgauc) == set(SIZES)
    for size in SIZES:
        judged = [slow_scores(model, user, size) for user in users]
        pooled = roc_auc_score(*map(np.concatenate, zip(*judged, strict=True)))
        inside = [roc_auc_score(*j) for j in judged if len(set(j[0])) == 2]
        assert found.auc[size] == pytest.approx(pooled, abs=1e-6)
        assert found.wgauc[size] == pytest.approx(np.mean(inside), abs=1e-6)


def test_figures_equal_a_loop_over_users(model):
    users = [
        tiny_world.make_episode(
            np.repeat(np.arange(events), rows), seed=10 + seed
        )
        for seed, (events, rows) in enumerate([(30, 1), (120, 1), (33, 3)])
    ]
    found = figures(model, users)
    check(model, users, found)
    assert len(set(found.auc.values())) == len(SIZES)
    both = [*found.auc.values(), *found.wgauc.values()]
    assert found.objective == pytest.approx(np.mean(both))


def test_more_events_than_there_are_means_all_there_are(model):
    # Nothing is known of these users before event 18.
    users = [
        tiny_world.make_episode(range(18, 40), seed=seed) for seed in range(3)
    ]
    found = figures(model, users)
    check(model, users, found)
    assert found.auc[3] == found.auc[5] == found.auc[20] != found.auc[1]


def test_user_of_one_class_counts_in_auc_alone(model):
    users = [tiny_world.make_episode(range(40), seed=s) for s in range(3)]
    likes_all = {**users[0], "label": np.ones(40, np.float32)}
    check(model, [likes_all, *users], figures(model, [likes_all, *users]))


def test_users_without_a_query_set_are_not_judged(model):
    users = [tiny_world.make_episode(range(40), seed=s) for s in range(3)]
    few = [tiny_world.make_episode(range(n), seed=9) for n in (0, 1, 20)]
    found = figures(model, [*few, *users])
    for size in SIZES:
        assert found.auc[size] == pytest.approx(
            figures(model, users).auc[size], abs=1e-6
        )


def test_only_the_first_users_are_looked_at(model):
    users = [tiny_world.make_episode(range(40), seed=s) for s in range(3)]
    assert figures(model, users, 2) == figures(model, users[:2])


@pytest.mark.parametrize(
    "users",
    [
        [],
        [tiny_world.make_episode(range(20))],
        [tiny_world.make_episode(range(40), label=np.ones(40, np.float32))],
    ],
)
def test_nothing_to_judge_is_an_error_that_says_what_is_needed(model, users):
    with pytest.raises(EpisodeDataError, match="events 21 to 70"):
        figures(model, users)
