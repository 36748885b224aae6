"""Degrees of labels, against closed forms and finite differences."""

import numpy as np
import pytest
import tensorflow as tf

from serving.contract.labels import liked
from tests.helpers import tiny_world
from trainer.config import GRADIENT, NEWTON
from trainer.episodes import LABEL
from trainer.graded_labels import Degrees
from trainer.support_loss import GradedSupport, SupportGradient
from trainer.towers import Embedded
from trainer.two_tower import PartitionedTwoTower

STARS = np.array([0, 1 / 6, 1 / 3, 0.5, 1.0])


def episodes_of(users):
    return tf.data.Dataset.from_generator(
        lambda: ({LABEL: labels} for labels in users),
        output_signature={LABEL: tf.TensorSpec([None], tf.float32)},
    )


def test_means_and_deviations_are_those_of_each_kind():
    labels = np.random.default_rng(0).choice(STARS, 500).astype(np.float32)
    degrees = Degrees.of(episodes_of(np.split(labels, [10, 200])))
    kinds = labels[labels < 0.5], labels[labels >= 0.5]
    assert degrees.means == pytest.approx([kind.mean() for kind in kinds])
    assert degrees.deviations == pytest.approx([kind.std() for kind in kinds])


def test_labels_of_0_and_1_deviate_by_nothing():
    for labels in ([1.0, 1.0], [0.0, 1.0, 0.0], [0.0], []):
        episodes = episodes_of([np.array(labels, np.float32)])
        assert Degrees.of(episodes).deviations == (0.0, 0.0)


def test_targets_are_liked_or_not_on_average_and_rise_with_the_label():
    labels = np.random.default_rng(1).choice(STARS, 1000).astype(np.float32)
    kinds = liked(labels)
    degrees = Degrees.of(episodes_of([labels]))
    targets = degrees.taste(tf.constant(labels), tf.constant(0.2)).numpy()
    for kind in (False, True):
        of_kind = targets[kinds == kind]
        assert of_kind.mean() == pytest.approx(float(kind), abs=1e-5)
        assert of_kind.std() == pytest.approx(0.2, abs=1e-5)
    by_star = degrees.taste(tf.constant(STARS, tf.float32), 0.2).numpy()
    assert np.all(np.diff(by_star) > 0)


def test_gradient_is_that_of_the_graded_loss():
    random = np.random.default_rng(2)
    vector, own = random.normal(size=(6, 3)), random.normal(size=4)
    taste, kind = random.uniform(-0.2, 1.2, 6), random.integers(0, 2, 6)
    weight, bias = random.uniform(0, 2, 6), random.normal(size=6)

    def loss(own):
        liking = vector @ own[:3]
        logit = liking + own[3] + bias
        drawn = taste * liking + kind * own[3]
        return np.sum(weight * (np.logaddexp(0, logit) - drawn))

    eye = 1e-6 * np.eye(4)
    expected = [(loss(own + e) - loss(own - e)) / 2e-6 for e in eye]
    batch = [
        tf.constant(array[np.newaxis], tf.float32)
        for array in (vector, bias[:, np.newaxis], taste, kind, weight, own)
    ]
    support = GradedSupport(Embedded(*batch[:2]), *batch[2:5])
    gradient = SupportGradient(
        lambda weights: Embedded(weights[:, :3], weights[:, 3:]), support
    )
    assert gradient(batch[5])[0].numpy() == pytest.approx(expected, abs=1e-4)


def learned(solver, labels, degrees=None, **values):
    config = tiny_world.tiny_config(solver=solver, **values)
    tf.keras.utils.set_random_seed(3)
    model = PartitionedTwoTower(tiny_world.SPACE, config, degrees)
    tasks = tiny_world.make_tasks(len(labels))
    items = model.embed_items(
        tiny_world.make_catalog().ids, tasks.support.item_row
    )
    start = model.initial_weights(len(labels))
    return model.adapt(
        model.user_tower(tasks.user_ids),
        items,
        tf.constant(labels, tf.float32),
        tasks.support.weight,
        start,
    ).numpy()


def labels_like(tasks_labels):
    random = np.random.default_rng(4)
    return np.where(
        tasks_labels >= 0.5,
        random.choice(STARS[3:], tasks_labels.shape),
        random.choice(STARS[:3], tasks_labels.shape),
    )


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_degrees_change_taste_and_weight_0_does_not_see_them(solver):
    plain = tiny_world.make_tasks(4).support.label.numpy()
    graded = labels_like(plain)
    degrees = Degrees((1 / 6, 0.75), (0.1, 0.25))
    blind = learned(solver, graded, degrees, degree_weight=0.0)
    assert np.array_equal(blind, learned(solver, plain))
    seeing = learned(solver, graded, degrees)
    assert not np.allclose(seeing, blind, atol=1e-4)


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_labels_of_0_and_1_are_learned_as_if_there_were_no_degrees(solver):
    plain = tiny_world.make_tasks(4).support.label.numpy()
    assert np.array_equal(
        learned(solver, plain, degree_weight=2.0),
        learned(solver, plain, degree_weight=0.0),
    )
