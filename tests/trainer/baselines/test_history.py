"""The pooled history is a set of labelled, weighted events."""

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_world
from trainer.baselines.history import (
    HistoryLearner,
    HistoryScorer,
    HistoryTwoTower,
)
from trainer.tasks import LabelledRows

CATALOG = tiny_world.make_catalog()
CANDIDATES = np.arange(8, dtype=np.int32)[np.newaxis]


@pytest.fixture(scope="module")
def scorer():
    """A model with all parameters random."""
    model = HistoryTwoTower(tiny_world.SPACE, CATALOG, tiny_world.tiny_config())
    made = HistoryScorer(model)
    made.learn(made.begin(tiny_world.make_user_ids(1)), rows([0], [1]))
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0.0, 0.5, variable.shape))
    return made


def rows(items, labels, weights=None):
    weights = [1.0] * len(items) if weights is None else weights
    return LabelledRows(
        np.array([items], np.int32),
        np.array([labels], np.float32),
        np.array([weights], np.float32),
    )


def score(scorer, *history):
    state = scorer.begin(tiny_world.make_user_ids(1))
    for support in history:
        state = scorer.learn(state, support)
    return scorer.score(state, CANDIDATES).numpy()


def test_the_order_of_events_does_not_matter_but_their_labels_do(scorer):
    found = score(scorer, rows([1, 2, 5], [1, 0, 1]))
    turned = score(scorer, rows([5, 1, 2], [1, 1, 0]))
    np.testing.assert_allclose(found, turned, rtol=1e-5)
    other = score(scorer, rows([1, 2, 5], [1, 1, 1]))
    assert np.abs(found - other).max() > 1e-3


def test_a_weight_counts_as_so_many_equal_events(scorer):
    found = score(scorer, rows([1, 2], [1, 0], [2.0, 1.0]))
    expected = score(scorer, rows([1, 2, 1], [1, 0, 1]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_padding_and_no_event_at_all_say_nothing(scorer):
    known = rows([1, 2], [1, 0])
    padded = rows([1, 2, 7], [1, 0, 1], [1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        score(scorer, padded), score(scorer, known), rtol=1e-5
    )
    nothing = rows([3], [1], [0.0])
    np.testing.assert_array_equal(score(scorer, nothing), score(scorer))


def test_the_newest_history_replaces_the_earlier_one(scorer):
    whole = rows([1, 2, 5], [1, 0, 1])
    np.testing.assert_array_equal(
        score(scorer, rows([1], [1]), whole), score(scorer, whole)
    )


def test_everything_is_trained():
    config = tiny_world.tiny_config(dropout=0.2, item_l2=0.1)
    model = HistoryTwoTower(tiny_world.SPACE, CATALOG, config)
    learner = HistoryLearner(model, config)
    tasks = tiny_world.make_tasks(num_users=3)
    learner.compute_loss(tasks)
    # The last layer starts at zero and would hide those before it.
    for variable in model.variables:
        variable.assign(tf.random.normal(variable.shape, seed=1))
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(tasks, training=True)
    gradients = tape.gradient(loss, learner.trainable_variables)
    assert len(gradients) == len(model.trainable_variables)
    assert all(gradient is not None for gradient in gradients)
