"""Degrees of labels, against closed forms and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from serving.contract.labels import liked
from tests.helpers import tiny_world
from tests.helpers.numpy_targets import targets as numpy_targets
from trainer.config import GRADIENT, NEWTON
from trainer.embedded import Embedded
from trainer.episodes import LABEL
from trainer.graded_labels import KNOTS, Degrees, knot_shares
from trainer.support_loss import GradedSupport, SupportGradient
from trainer.two_tower import PartitionedTwoTower

STARS = np.array([0, 1 / 6, 1 / 3, 0.5, 1.0])


def episodes_of(users):
    return tf.data.Dataset.from_generator(
        lambda: ({LABEL: labels} for labels in users),
        output_signature={LABEL: tf.TensorSpec([None], tf.float32)},
    )


def test_targets_have_the_moments_of_liked_or_not():
    labels = np.random.default_rng(0).choice(STARS, 500).astype(np.float32)
    degrees = Degrees.of(episodes_of(np.split(labels, [10, 200])), 0.75, 1.0)
    targets = degrees.taste(tf.constant(labels)).numpy()
    kinds = liked(labels)
    assert targets.mean() == pytest.approx(kinds.mean(), abs=1e-5)
    assert targets.std() == pytest.approx(kinds.std(), abs=1e-5)


def test_targets_of_five_stars_are_as_far_apart_as_the_stars():
    labels = np.random.default_rng(1).choice(STARS, 500).astype(np.float32)
    degrees = Degrees.of(episodes_of([labels]), 0.75, 1.0)
    steps = np.diff(degrees.taste(tf.constant(STARS, tf.float32)))
    assert steps == pytest.approx(np.full(4, steps.mean()), rel=1e-4)
    assert steps.mean() > 0


def test_weight_0_sees_liked_or_not_alone():
    labels = np.random.default_rng(2).choice(STARS, 500).astype(np.float32)
    degrees = Degrees.of(episodes_of([labels]), 0.75, 0.0)
    assert np.array_equal(degrees.taste(tf.constant(labels)), liked(labels))


@pytest.mark.parametrize("liked_from", [0.2, 0.5, 0.75])
def test_labels_of_0_and_1_are_their_own_targets(liked_from):
    labels = np.array([0, 1, 1, 1, 0, 1], np.float32)
    degrees = Degrees.of(episodes_of([labels]), liked_from, 0.5)
    targets = degrees.taste(tf.constant(labels)).numpy()
    assert targets == pytest.approx(labels, abs=1e-6)


@pytest.mark.parametrize("labels", [[], [0.0], [1.0, 1.0], [0.5, 0.5]])
def test_labels_that_are_all_the_same_are_not_scaled(labels):
    episodes = episodes_of([np.array(labels, np.float32)])
    assert Degrees.of(episodes, 0.75, 0.5) == Degrees(0.75)


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


def learned(solver, labels, degrees=None):
    config = tiny_world.tiny_config(solver=solver)
    tf.keras.utils.set_random_seed(3)
    model = PartitionedTwoTower(tiny_world.SPACE, config, degrees)
    tasks = tiny_world.make_tasks(len(labels))
    items = model.embed_items(
        tiny_world.make_catalog().ids, tasks.support.item_row
    )
    return model.adapt(
        model.user_tower(tasks.user_ids),
        items,
        tf.constant(labels, tf.float32),
        tasks.support.weight,
        model.initial_weights(len(labels)),
    ).numpy()


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_users_who_liked_the_same_by_other_degrees_are_told_apart(solver):
    plain = tiny_world.make_tasks(4).support.label.numpy()
    random = np.random.default_rng(4)
    graded = np.where(
        plain >= 0.5,
        random.choice(STARS[3:], plain.shape),
        random.choice(STARS[:3], plain.shape),
    )
    degrees = Degrees(liked_from=0.75, start=-0.5, slope=1.7)
    seeing = learned(solver, graded, degrees)
    assert not np.allclose(seeing, learned(solver, plain, degrees), atol=1e-4)


@given(st.floats(0.0, 1.0, width=32))
def test_corrections_are_linear_between_the_knots_of_a_side(label):
    corrections = np.random.default_rng(5).normal(size=len(KNOTS))
    found = knot_shares(tf.constant(label)).numpy() @ corrections
    side = slice(3, 6) if label >= 0.5 else slice(0, 3)
    assert found == pytest.approx(
        np.interp(label, KNOTS[side], corrections[side]), abs=1e-5
    )


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_targets_at_the_knots_can_be_read(solver):
    model = tiny_world.make_model(tiny_world.tiny_config(solver=solver))
    tiny_world.shift_targets(model)
    loop = model.inner_loop
    told = loop.label_targets()
    assert told["label"] == [0.0, 0.25, 0.5, 0.5, 0.75, 1.0]
    label = np.array([0.0, 0.25, 0.4999999, 0.5, 0.75, 1.0])
    taste, liked = numpy_targets(
        label, loop.taste_shift.numpy(), loop.liked_shift.numpy()
    )
    assert told["taste"] == pytest.approx(taste, abs=1e-3)
    assert told["liked"] == pytest.approx(liked, abs=1e-3)
