"""Presets against NumPy: what adapts, what it does, what it costs."""

import numpy as np
import pytest
import tensorflow as tf

from serving.contract.features import USER_ROW
from tests.helpers import tiny_world
from tests.helpers.numpy_user_head import NumpyUser
from trainer.config import (
    LEARNED,
    PARTITION_PRESETS,
    USER_OUTPUT,
    USER_TOWER,
    TrainerConfig,
)
from trainer.errors import PartitionError
from trainer.features import FeatureSpace
from trainer.towers import UserTower
from trainer.two_tower import PartitionedTwoTower
from trainer.user_head import PRESETS, bytes_by_preset

CATALOG = tiny_world.make_catalog()
EVERY_PRESET = pytest.mark.parametrize("preset", PARTITION_PRESETS)
AFFINE = [preset for preset in PARTITION_PRESETS if preset != USER_TOWER]


def make_model(preset, **values):
    config = tiny_world.tiny_config(partition=preset, adapter_rank=2, **values)
    return tiny_world.make_model(config)


def some_weights(model, num_users, seed=5):
    random = np.random.default_rng(seed)
    shape = num_users, model.partition.size
    return random.normal(0.0, 0.7, shape).astype(np.float32)


def test_every_preset_is_declared():
    assert set(PRESETS) == set(PARTITION_PRESETS)


@EVERY_PRESET
def test_own_vector_and_bias_follow_the_documented_formula(preset):
    model = make_model(preset)
    user = model.user_tower(tiny_world.make_user_ids(4))
    weights = some_weights(model, 4)
    own = tf.concat(model.personalize(user, weights), axis=1)
    users = NumpyUser.all_of(model, user, preset)
    expected = [
        one.own(w.astype(np.float64))
        for one, w in zip(users, weights, strict=True)
    ]
    np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5)


@EVERY_PRESET
def test_new_model_says_what_its_towers_say(preset):
    config = tiny_world.tiny_config(partition=preset)
    model = PartitionedTwoTower(tiny_world.SPACE, config)
    user = model.user_tower(tiny_world.make_user_ids(4))
    own = model.personalize(user, model.initial_weights(4))
    np.testing.assert_allclose(own.vector, user.vector, atol=1e-6)
    np.testing.assert_allclose(own.bias, user.bias, atol=1e-6)


@EVERY_PRESET
def test_each_user_has_its_own_vector_and_items_are_the_same_for_all(preset):
    model = make_model(preset)
    user = model.user_tower(tiny_world.make_user_ids(3))
    items = model.item_tower(CATALOG.ids)
    own = model.personalize(user, some_weights(model, 3))
    rows = tf.tile(tf.range(tiny_world.NUM_ITEMS)[tf.newaxis], [3, 1])
    score = model.score(user, items.gather(rows), some_weights(model, 3))
    expected = own.vector @ tf.transpose(items.vector[:-1])
    expected += own.bias + items.bias[:-1, 0]
    np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-5)


@EVERY_PRESET
def test_alone_as_in_a_batch(preset):
    model = make_model(preset)
    user = model.user_tower(tiny_world.make_user_ids(4))
    weights = some_weights(model, 4)
    together = tf.concat(model.personalize(user, weights), axis=1)
    for number in range(4):
        one = slice(number, number + 1)
        alone = tf.nest.map_structure(lambda t, one=one: t[one], user)
        own = tf.concat(model.personalize(alone, weights[one]), axis=1)
        np.testing.assert_allclose(own, together[one], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("preset", AFFINE)
def test_score_is_affine_in_all_adaptive_weights_together(preset):
    """What the closed-form solver stands on."""
    model = make_model(preset)
    user = model.user_tower(tiny_world.make_user_ids(3))
    a, b = some_weights(model, 3, seed=1), some_weights(model, 3, seed=2)

    def own(weights):
        return tf.concat(model.personalize(user, weights), axis=1).numpy()

    np.testing.assert_allclose(
        own(0.3 * a + 0.7 * b), 0.3 * own(a) + 0.7 * own(b), atol=1e-4
    )


def test_whole_user_tower_is_not_affine():
    model = make_model(USER_TOWER)
    user = model.user_tower(tiny_world.make_user_ids(3))
    zero, some = np.zeros([3, model.partition.size]), some_weights(model, 3)

    def vector(weights):
        return model.personalize(user, tf.constant(weights, tf.float32)).vector

    middle = (vector(zero) + vector(some)) / 2
    assert np.abs(vector(some / 2) - middle).max() > 0.1


@EVERY_PRESET
def test_sizes_are_known_before_a_model_is_made(preset):
    config = tiny_world.tiny_config(partition=preset, adapter_rank=2)
    model = tiny_world.make_model(config)
    sizes = bytes_by_preset(model.user_tower, config)
    assert sizes[preset] == model.partition.bytes_per_user
    assert sizes[preset] == model.partition.meta_init().shape[0] * 4


def test_presets_are_listed_from_small_to_large():
    config = TrainerConfig()
    tower = UserTower(tiny_world.SPACE, config)
    sizes = bytes_by_preset(tower, config)
    fixed = [sizes[p] for p in PARTITION_PRESETS if p != LEARNED]
    assert fixed == sorted(fixed)


def test_preset_over_the_budget_is_refused_with_those_that_fit():
    with pytest.raises(PartitionError) as error:
        make_model(USER_OUTPUT, max_bytes_per_user=20)
    message = str(error.value)
    assert "'user_output' needs 80 bytes" in message
    assert "max_bytes_per_user is 20" in message
    for preset, fits in (
        ("user_bias (4)", True),
        ("low_rank (12)", True),
        ("user_offset (16)", True),
        ("learned (reduced to 20", True),
        ("user_scale", False),
        ("user_tower", False),
    ):
        assert (preset in message) == fits


def test_preset_of_exactly_the_budget_is_taken():
    model = make_model(USER_OUTPUT, max_bytes_per_user=80)
    assert model.partition.bytes_per_user == 80


@EVERY_PRESET
def test_users_without_features_can_adapt_too(preset):
    space = FeatureSpace(
        (),
        tiny_world.SPACE.item_features,
        tiny_world.SPACE.num_ids,
        tiny_world.SPACE.num_item_indices,
    )
    config = tiny_world.tiny_config(partition=preset)
    model = PartitionedTwoTower(space, config)
    user = model.user_tower({USER_ROW: tf.zeros([2, 1], tf.int64)})
    weights = some_weights(model, 2)
    own = tf.concat(model.personalize(user, weights), axis=1).numpy()
    assert np.abs(own[0] - own[1]).max() > 0.01


def test_interaction_head_is_a_dense_layer_on_the_product_of_vectors():
    model = make_model("interaction_head")
    user = model.user_tower(tiny_world.make_user_ids(2))
    items = model.item_tower(CATALOG.ids).gather(tf.constant([[1, 2], [3, 4]]))
    weights = some_weights(model, 2)
    found = model.score(user, items, weights)
    [layer] = model.user_head.adaptive_layers
    for number in range(2):
        product = user.vector[number] * items.vector[number]
        kernel = tf.repeat(weights[number : number + 1, :3, None], 2, axis=0)
        bias = tf.repeat(weights[number : number + 1, 3:], 2, axis=0)
        expected = layer(product, kernel, bias) + items.bias[number]
        expected += user.bias[number]
        np.testing.assert_allclose(
            found[number], expected[:, 0], rtol=1e-5, atol=1e-5
        )
