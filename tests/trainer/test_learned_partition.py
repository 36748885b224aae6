"""The learned partition: closed gates become fixed, all else stays."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.helpers import tiny_world
from trainer import stages
from trainer.adaptive_layers import AdaptiveBias, AdaptiveDense
from trainer.config import GRADIENT, LEARNED, NEWTON
from trainer.errors import PartitionError
from trainer.export import fingerprint
from trainer.learned_partition import AdaptiveMap, reduce_partition
from trainer.outer_loop import MetaLearner
from trainer.partition import Partition, meta_learning
from trainer.stream_validation import StreamFigures, StreamValidation
from trainer.training import TrainingResult

CATALOG = tiny_world.make_catalog()
SOLVERS = pytest.mark.parametrize("solver", [GRADIENT, NEWTON])


def make_model(solver=GRADIENT, **values):
    config = tiny_world.tiny_config(
        partition=LEARNED, solver=solver, adapter_rank=2, **values
    )
    return tiny_world.make_model(config)


def open_gates(model):
    return model.inner_loop.gates().numpy() > 0


def adapt_and_score(model, tasks):
    user = model.user_tower(tasks.user_ids)
    item = model.embed_items(CATALOG.ids, tasks.support.item_row)
    adapted = model.adapt(
        user,
        item,
        tasks.support.label,
        tasks.support.weight,
        model.initial_weights(4),
    )
    return adapted, model.score(user, item, adapted)


@SOLVERS
def test_a_reduced_model_learns_and_scores_as_before(solver):
    model, tasks = make_model(solver), tiny_world.make_tasks(4)
    gates_open = open_gates(model)
    assert 0 < gates_open.sum() < len(gates_open)
    weights, score = adapt_and_score(model, tasks)
    reduce_partition(model, max_bytes=0)
    assert model.partition.size == gates_open.sum()
    fewer, same_score = adapt_and_score(model, tasks)
    np.testing.assert_allclose(
        fewer, weights.numpy()[:, gates_open], rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(same_score, score, rtol=1e-4, atol=1e-4)


@SOLVERS
def test_values_behind_closed_gates_never_leave_the_meta_init(solver):
    model = make_model(solver)
    weights, _ = adapt_and_score(model, tiny_world.make_tasks(4))
    closed = ~open_gates(model)
    initial = model.initial_weights(4).numpy()
    np.testing.assert_array_equal(
        weights.numpy()[:, closed], initial[:, closed]
    )
    assert (weights.numpy()[0] != initial[0]).any()


def test_manifest_lists_only_what_adapts():
    model = make_model()
    before = {p.name: p.size for p in model.partition.parameters}
    gates_open = open_gates(model)
    model.keep_adaptive(gates_open & (np.arange(len(gates_open)) < 5))
    parameters = model.partition.parameters
    assert sum(p.size for p in parameters) == gates_open[:5].sum()
    assert {p.name for p in parameters} < set(before)
    assert model.partition.bytes_per_user == 4 * gates_open[:5].sum()


def test_budget_keeps_the_widest_open_gates():
    model = make_model()
    gates = model.inner_loop.gates().numpy()
    reduce_partition(model, max_bytes=3 * 4 + 2)
    assert model.partition.bytes_per_user == 12
    kept = np.zeros(len(gates), bool)
    kept[np.argsort(-gates)[:3]] = True
    expected = make_model().partition.reduced(kept)
    assert model.partition.parameters == expected.parameters


def set_gates(model, value):
    [gate] = [v for v in model.inner_loop.variables if "gate" in v.name]
    gate.assign(tf.fill(gate.shape, value))
    return gate


def test_nothing_left_is_an_error_that_says_what_to_do():
    model = make_model()
    set_gates(model, -1.0)
    with pytest.raises(PartitionError, match=r"Lower partition_penalty"):
        reduce_partition(model, max_bytes=0)


def test_fixed_entries_count_for_the_fingerprint_and_adaptive_ones_do_not():
    model = make_model()
    set_gates(model, 0.2)
    adapts = np.zeros(model.partition.size, bool)
    adapts[0] = True
    model.keep_adaptive(adapts)
    before = fingerprint(model, CATALOG)
    [scale, *_] = model.partition.layers
    first, second, third = scale.meta_init.numpy()
    scale.meta_init.assign([first + 1, second, third])
    assert fingerprint(model, CATALOG) == before
    scale.meta_init.assign([first, second + 1, third])
    assert fingerprint(model, CATALOG) != before


def test_map_says_which_entries_adapt_and_how_far():
    model = make_model()
    gates_open = open_gates(model)
    sizes = model.inner_loop.step_sizes()
    before = AdaptiveMap.of(model)
    reduce_partition(model, max_bytes=0)
    after = AdaptiveMap.of(model)
    flat = np.concatenate(
        [values.reshape(-1) for values in after.step_sizes.values()]
    )
    np.testing.assert_array_equal(flat > 0, gates_open)
    np.testing.assert_allclose(flat, sizes, rtol=1e-5)
    assert list(after.step_sizes) == list(before.step_sizes)
    assert after.step_sizes["user_output/kernel"].shape == (4, 4)
    stored = json.loads(json.dumps(after.to_dict()))["user_output/kernel"]
    assert stored["shape"] == [4, 4]
    assert len(stored["entries"]) == len(stored["step_size"])
    assert f"{len(stored['entries']):>6} of     16 adapt" in str(after)


def test_penalty_closes_gates_that_nothing_speaks_for():
    """With the penalty far above the loss, all of them."""
    config = tiny_world.tiny_config(partition=LEARNED, partition_penalty=100.0)
    model = tiny_world.make_model(config)
    gate = set_gates(model, 0.2)
    optimizer = tf_keras.optimizers.Adam(0.05)
    tasks = tiny_world.make_tasks(4)
    seen = []
    with meta_learning(model.user_specific_layers):
        learner = MetaLearner(model, CATALOG, config)
        for _ in range(6):
            seen.append(model.inner_loop.gates().numpy())
            with tf.GradientTape() as tape:
                loss = learner.compute_loss(tasks, training=True)
            optimizer.apply_gradients([(tape.gradient(loss, gate), gate)])
    assert (seen[0] == 1).all()
    assert ((seen[2] > 0) & (seen[2] < 1)).all()
    assert not open_gates(model).any()


def test_fixed_presets_are_charged_nothing():
    model = tiny_world.make_model(tiny_world.tiny_config())
    assert float(model.inner_loop.penalty()) == 0.0
    np.testing.assert_array_equal(model.inner_loop.gates(), np.ones(4))


def partly_adaptive():
    """A partition of 2 of 3, none of 2, and 3 of 6 + all of 2 entries."""
    layers = [
        AdaptiveBias(3, name="a"),
        AdaptiveBias(2, name="b"),
        AdaptiveDense(3, 2, name="d"),
    ]
    start = 0.0
    for layer in layers:
        for variable in layer.variables:
            size = int(np.prod(variable.shape))
            values = np.arange(start, start + size).reshape(variable.shape)
            variable.assign(values)
            start += size
    adapts = np.array([1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1], bool)
    return Partition(layers).reduced(adapts), adapts


def test_split_fills_in_what_is_fixed_and_merge_takes_it_out_again():
    partition, adapts = partly_adaptive()
    assert [(p.name, p.shape, p.offset) for p in partition.parameters] == [
        ("a", (2,), 0),
        ("d/kernel", (3,), 2),
        ("d/bias", (2,), 5),
    ]
    flat = np.array([[10, 20, 30, 40, 50, 60, 70]], np.float32)
    split = partition.split(tf.constant(flat))
    assert split["a"].numpy().tolist() == [[10.0, 1.0, 20.0]]
    assert split["d/kernel"].numpy().tolist() == [
        [[5.0, 30.0], [40.0, 8.0], [9.0, 50.0]]
    ]
    assert split["d/bias"].numpy().tolist() == [[60.0, 70.0]]
    assert "b" not in split
    np.testing.assert_array_equal(partition.merge(split), flat)
    np.testing.assert_array_equal(partition.meta_init(), np.arange(13)[adapts])


def test_a_partition_can_be_reduced_again():
    partition, adapts = partly_adaptive()
    again = partition.reduced(np.array([0, 1, 0, 1, 0, 0, 1], bool))
    np.testing.assert_array_equal(again.meta_init(), [2.0, 7.0, 12.0])
    assert again.size == 3
    assert adapts.sum() == 7


def test_offline_stage_hands_on_a_model_within_the_budget(monkeypatch):
    """Judged as it is handed on, not as it was before the cut."""
    before = StreamFigures({"joint": 0.0}, {"joint": 0.0})
    monkeypatch.setattr(
        stages, "train", lambda *_: TrainingResult(before, 20, 30)
    )
    episodes = tiny_world.as_dataset(
        [tiny_world.make_episode(range(40), seed) for seed in range(6)]
    )
    config = tiny_world.tiny_config(
        partition=LEARNED, num_inner_steps=1, max_bytes_per_user=8
    )
    model, result = stages.train_offline(
        stages.StageData(episodes, episodes, tiny_world.SPACE, CATALOG), config
    )
    assert model.partition.bytes_per_user == 8
    assert (result.best_step, result.steps) == (20, 30)
    judged = StreamValidation(model, episodes, tiny_world.SPACE, CATALOG, 6)
    assert result.figures == judged.evaluate()
