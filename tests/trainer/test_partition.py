"""The partition, and who may train which part of a model."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tests.helpers import tiny_world
from trainer.adaptive_layers import AdaptiveBias
from trainer.baselines.joint import JointLearner
from trainer.errors import PartitionError
from trainer.outer_loop import MetaLearner
from trainer.partition import Partition, meta_learning
from trainer.plain_rows import sample_rows
from trainer.tasks import sample_tasks

CATALOG = tiny_world.make_catalog()


def make_partition(sizes):
    return Partition(
        [AdaptiveBias(size, name=f"b{n}") for n, size in enumerate(sizes)]
    )


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_split_and_merge_are_inverse(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    partition = make_partition(sizes)
    flat = data.draw(
        st_numpy.arrays(
            np.float32,
            (data.draw(st.integers(0, 4)), sum(sizes)),
            elements=st.floats(-9, 9, width=32),
        )
    )
    split = partition.split(tf.constant(flat))
    assert [split[f"b{n}"].shape[1] for n in range(len(sizes))] == sizes
    np.testing.assert_array_equal(partition.merge(split), flat)
    again = partition.split(partition.merge(split))
    for name, values in split.items():
        np.testing.assert_array_equal(again[name], values)


def test_parameters_lie_one_after_the_other():
    partition = make_partition([1, 4, 2])
    assert [(p.name, p.shape, p.offset) for p in partition.parameters] == [
        ("b0", (1,), 0),
        ("b1", (4,), 1),
        ("b2", (2,), 5),
    ]
    assert partition.size == 7
    assert partition.bytes_per_user == 28


def test_meta_init_lies_as_weights_do():
    partition = make_partition([1, 2])
    partition.layers[0].meta_init.assign([1.0])
    partition.layers[1].meta_init.assign([2.0, 3.0])
    assert partition.meta_init().numpy().tolist() == [1.0, 2.0, 3.0]
    split = partition.split(partition.meta_init()[tf.newaxis])
    for layer in partition.layers:
        np.testing.assert_array_equal(split[layer.name][0], layer.meta_init)


@pytest.mark.parametrize(
    ("partition", "size"), [("user_bias", 1), ("user_offset", 4)]
)
def test_preset_says_how_many_numbers_adapt(partition, size):
    config = tiny_world.tiny_config(partition=partition)
    assert tiny_world.make_model(config).partition.size == size


def test_weights_of_another_size_are_refused_with_both_sizes():
    with pytest.raises(PartitionError, match=r"have 4 .*partition 3 \(b0, b1"):
        make_partition([1, 2]).split(tf.zeros([2, 4]))


def test_missing_parameter_is_named():
    with pytest.raises(PartitionError, match="'b1'"):
        make_partition([1, 2]).merge({"b0": tf.zeros([1, 1])})


def test_partition_without_layers_or_with_twins_is_refused():
    with pytest.raises(PartitionError, match="different names"):
        Partition([])
    with pytest.raises(PartitionError, match="'twin', 'twin'"):
        Partition([AdaptiveBias(1, name="twin"), AdaptiveBias(2, name="twin")])


def test_adaptive_bias_survives_its_config():
    layer = AdaptiveBias(3, name="user_bias")
    again = AdaptiveBias.from_config(layer.get_config())
    assert again.name == "user_bias"
    assert again.meta_init.shape == layer.meta_init.shape
    assert not again.trainable


def split_names(model):
    """Ids of the variables of the fixed and of the user-specific part.

    Without the share that is chosen once training has ended.
    """
    special = {
        id(v) for layer in model.user_specific_layers for v in layer.variables
    }
    chosen = {id(model.inner_loop.carried_share)}
    fixed = {id(v) for v in model.variables} - special
    return fixed, special - chosen


def test_user_specific_layers_are_trainable_only_in_meta_learning():
    model = tiny_world.make_model(tiny_world.tiny_config())
    fixed, special = split_names(model)

    def trainable():
        return {id(v) for v in model.trainable_variables}

    assert special
    assert trainable() == fixed
    with meta_learning(model.user_specific_layers):
        assert trainable() == fixed | special
    assert trainable() == fixed


def test_an_exception_ends_meta_learning_too():
    model = tiny_world.make_model(tiny_world.tiny_config())
    fixed, _ = split_names(model)
    with (
        pytest.raises(ZeroDivisionError),
        meta_learning(model.user_specific_layers),
    ):
        _ = 1 / 0
    assert {id(v) for v in model.trainable_variables} == fixed


def test_layers_that_were_trainable_before_stay_so():
    layer = AdaptiveBias(1, name="bias")
    layer.trainable = True
    with meta_learning([layer]):
        pass
    assert layer.trainable


def fit_and_compare(learner, batches):
    """Names of the variables that moved and of those that are the same."""
    model = learner.two_tower
    before = [v.numpy() for v in model.variables]
    learner.compile(tf_keras.optimizers.Adam(0.01))
    learner.fit(batches, epochs=1, steps_per_epoch=5, verbose=0)
    same, moved = set(), set()
    for variable, value in zip(model.variables, before, strict=True):
        unchanged = np.array_equal(variable.numpy(), value)
        (same if unchanged else moved).add(id(variable))
    return moved, same


def make_episodes():
    return tiny_world.as_dataset(
        [tiny_world.make_episode(range(30), seed) for seed in range(6)]
    )


def test_plain_training_leaves_the_user_specific_part_as_it_is():
    config = tiny_world.tiny_config()
    model = tiny_world.make_model(config)
    moved, same = fit_and_compare(
        JointLearner(model, CATALOG),
        sample_rows(make_episodes(), tiny_world.SPACE, config),
    )
    fixed, special = split_names(model)
    assert moved == fixed
    assert same == special | {id(model.inner_loop.carried_share)}


def test_meta_learning_moves_both_parts():
    config = tiny_world.tiny_config()
    model = tiny_world.make_model(config)
    fixed, special = split_names(model)
    with meta_learning(model.user_specific_layers):
        moved, _ = fit_and_compare(
            MetaLearner(model, CATALOG, config),
            sample_tasks(make_episodes(), tiny_world.SPACE, config),
        )
    assert moved == fixed | special
