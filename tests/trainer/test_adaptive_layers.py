"""Adaptive layers against NumPy, with weights of their own and per user."""

import numpy as np
import pytest
import tensorflow as tf

from trainer.adaptive_layers import (
    AdaptiveBias,
    AdaptiveDense,
    AdaptiveScale,
)
from trainer.low_rank_adapter import LowRankAdapter

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=[3, 4]).astype(np.float32)


def normal(*shape):
    return RANDOM.normal(size=shape).astype(np.float32)


def with_random_variables(layer):
    for variable in layer.variables:
        variable.assign(normal(*variable.shape))
    return layer


def test_bias_adds_and_scale_multiplies_each_users_own():
    own = normal(3, 4)
    bias = AdaptiveBias(4, name="b")
    scale = AdaptiveScale(4, name="s")
    np.testing.assert_array_equal(bias(INPUTS, own), INPUTS + own)
    np.testing.assert_array_equal(scale(INPUTS, own), INPUTS * own)


def test_dense_multiplies_by_each_users_own_kernel():
    kernel, bias = normal(3, 4, 2), normal(3, 2)
    found = AdaptiveDense(4, 2, name="d")(INPUTS, kernel, bias)
    expected = [x @ k + b for x, k, b in zip(INPUTS, kernel, bias, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_adapter_goes_each_users_own_way_along_shared_directions():
    layer = with_random_variables(LowRankAdapter(4, 3, 2, name="a"))
    own = normal(3, 3)
    down, up = layer.down.kernel.numpy(), layer.up.kernel.numpy()
    expected = [
        x @ (down @ np.diag(c) @ up) for x, c in zip(INPUTS, own, strict=True)
    ]
    np.testing.assert_allclose(layer(INPUTS, own), expected, rtol=1e-4)


def all_layers():
    return [
        AdaptiveBias(4, name="bias"),
        AdaptiveScale(4, name="scale"),
        AdaptiveScale(4, name="from_zero", initializer="zeros"),
        AdaptiveDense(4, 2, name="dense"),
        AdaptiveDense(4, 2, name="head", kernel_initializer="ones"),
        LowRankAdapter(4, 3, 2, name="adapter"),
    ]


@pytest.mark.parametrize("layer", all_layers(), ids=lambda layer: layer.name)
def test_layer_survives_its_config(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.name == layer.name
    assert again.trainable == layer.trainable
    assert again.get_config() == layer.get_config()
    assert [v.shape for v in again.variables] == [
        v.shape for v in layer.variables
    ]
    if layer.name != "adapter":
        for a, b in zip(again.variables, layer.variables, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "layer",
    [AdaptiveBias(4, name="b"), AdaptiveScale(4, name="s")],
    ids=["bias", "scale"],
)
def test_new_vector_layers_change_nothing(layer):
    np.testing.assert_array_equal(layer(INPUTS), INPUTS)


@pytest.mark.parametrize(
    "layer",
    [AdaptiveDense(4, 2, name="d"), LowRankAdapter(4, 3, 2, name="a")],
    ids=["dense", "adapter"],
)
def test_new_layers_beside_a_fixed_one_add_nothing(layer):
    np.testing.assert_array_equal(layer(INPUTS), np.zeros([3, 2]))


@pytest.mark.parametrize(
    "layer",
    [
        AdaptiveBias(4, name="b"),
        AdaptiveScale(4, name="s"),
        AdaptiveDense(4, 2, name="d"),
    ],
    ids=["bias", "scale", "dense"],
)
def test_own_variables_count_as_weights_of_every_user(layer):
    with_random_variables(layer)
    per_user = [
        tf.repeat(variable[tf.newaxis], 3, axis=0)
        for variable in layer.adaptive_variables.values()
    ]
    np.testing.assert_allclose(
        layer(INPUTS), layer(INPUTS, *per_user), rtol=1e-5, atol=1e-6
    )


def test_parameters_are_named_for_the_layer():
    assert list(AdaptiveBias(1, name="b").adaptive_variables) == ["b"]
    dense = AdaptiveDense(4, 2, name="d")
    assert list(dense.adaptive_variables) == ["d/kernel", "d/bias"]


def test_only_the_fixed_half_of_an_adapter_is_trained_plainly():
    layer = LowRankAdapter(4, 3, 2, name="a")
    trainable = {id(v) for v in layer.trainable_variables}
    assert trainable == {id(layer.down.kernel), id(layer.up.kernel)}
