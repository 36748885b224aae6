"""Inner and outer loop against a NumPy oracle and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from tests.helpers import tiny_world
from tests.helpers.numpy_targets import targets
from tests.helpers.numpy_two_tower import NumpyTwoTower
from trainer.outer_loop import MetaLearner
from trainer.tasks import LabelledRows
from trainer.two_tower import PartitionedTwoTower

CATALOG = tiny_world.make_catalog()
CATALOG_IDS = {name: ids.numpy() for name, ids in CATALOG.ids.items()}
PARTITIONS = ["user_bias", "user_offset"]


def to_numpy(tasks):
    return tf.nest.map_structure(
        lambda t: t.numpy().astype(
            np.float64 if t.dtype.is_floating else np.int64
        ),
        tasks,
    )


def start_somewhere(model, num_users):
    """Stored weights, that is not the meta-initialization."""
    random = np.random.default_rng(5)
    shape = num_users, model.partition.size
    return tf.constant(random.normal(size=shape), tf.float32)


def adapt(model, tasks, start):
    return model.adapt(
        model.user_tower(tasks.user_ids),
        model.embed_items(CATALOG.ids, tasks.support.item_row),
        tasks.support.label,
        tasks.support.weight,
        start,
    ).numpy()


def oracle_adapt(oracle, tasks, start):
    support = to_numpy(tasks.support)
    return [
        oracle.adapt(
            oracle.embed_user(
                {n: ids[user].numpy() for n, ids in tasks.user_ids.items()}
            ),
            oracle.embed_items(CATALOG_IDS, support.item_row[user]),
            support.label[user],
            support.weight[user],
            np.asarray(start[user], np.float64),
        )
        for user in range(len(start))
    ]


@pytest.mark.parametrize("steps", [0, 1, 2, 6])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_adapted_weights_follow_the_documented_formula(partition, steps):
    config = tiny_world.tiny_config(partition=partition, num_inner_steps=steps)
    model = tiny_world.make_model(config)
    tiny_world.shift_targets(model)
    model.inner_loop.carried_share.assign(0.4)
    tasks = tiny_world.make_tasks(5)
    oracle = NumpyTwoTower.of(model, tiny_world.SPACE)
    for start in (start_somewhere(model, 5), model.initial_weights(5)):
        np.testing.assert_allclose(
            adapt(model, tasks, start),
            oracle_adapt(oracle, tasks, start),
            rtol=1e-5,
            atol=1e-5,
        )


def outer_gradients(model, tasks, config):
    """Loss, and gradients in the order of `NumpyTwoTower.arrays`."""
    learner = MetaLearner(model, CATALOG, config)
    meta_inits = [layer.meta_init for layer in model.partition.layers]
    loop = model.inner_loop
    fixed = [*model.user_tower.weights, *model.item_tower.weights]
    learned = [loop.log_inner_lr, loop.log_precision, loop.log_curvature]
    learned += [loop.taste_shift, loop.liked_shift]
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(tasks)
    gradients = tape.gradient(
        loss, [*fixed, *meta_inits, *learned], unconnected_gradients="zero"
    )
    gradients = [tf.convert_to_tensor(g).numpy() for g in gradients]
    start, stop = len(fixed), len(fixed) + len(meta_inits)
    meta_init = np.concatenate(gradients[start:stop])
    return loss.numpy(), [*gradients[:start], meta_init, *gradients[stop:]]


def finite_differences(oracle, loss, step=1e-6):
    """Central differences of a loss by every parameter of the oracle."""
    result = []
    for array in oracle.arrays():
        flat = array.reshape(-1)
        slopes = np.empty_like(flat)
        for index, value in enumerate(flat.copy()):
            flat[index] = value + step
            above = loss()
            flat[index] = value - step
            slopes[index] = (above - loss()) / (2 * step)
            flat[index] = value
        result.append(slopes.reshape(array.shape))
    return result


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_outer_gradients_are_slopes_of_the_outer_loss(partition, first_order):
    """First-order: of the outer loss with the support gradients constant."""
    config = tiny_world.tiny_config(
        partition=partition, first_order=first_order
    )
    model = tiny_world.make_model(config)
    tiny_world.shift_targets(model)
    tasks = tiny_world.make_tasks(3)
    found_loss, found = outer_gradients(model, tasks, config)
    oracle = NumpyTwoTower.of(model, tiny_world.SPACE)
    constants = [[] for _ in range(3)] if first_order else None

    def loss():
        return oracle.outer_loss(
            CATALOG_IDS, to_numpy(tasks), config.zero_shot_weight, constants
        )

    assert found_loss == pytest.approx(loss(), rel=1e-5)
    expected = finite_differences(oracle, loss)
    for gradient, slopes in zip(found, expected, strict=True):
        np.testing.assert_allclose(gradient, slopes, rtol=1e-3, atol=2e-5)
    *others, taste_shift, liked_shift = expected
    # Without second derivatives targets are not learned; biases have no taste.
    seen = [] if first_order else [liked_shift]
    seen += [] if first_order or partition == "user_bias" else [taste_shift]
    assert min(np.abs(slopes).max() for slopes in others + seen) > 5e-4


def test_first_order_changes_gradients_but_not_the_loss():
    """Without it the test above could pass with one of them ignored."""
    results = []
    for first_order in (False, True):
        config = tiny_world.tiny_config(first_order=first_order)
        model = tiny_world.make_model(config)
        results.append(outer_gradients(model, tiny_world.make_tasks(3), config))
    (second_loss, second), (first_loss, first) = results
    assert second_loss == first_loss
    for a, b in zip(second[:-5], first[:-5], strict=True):
        assert np.abs(a - b).max() > 1e-4


def test_users_of_a_batch_are_independent():
    model = tiny_world.make_model(tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(6)
    start = start_somewhere(model, 6)
    together = adapt(model, tasks, start)
    for user in range(6):
        [alone] = tf.nest.map_structure(
            lambda t, one=slice(user, user + 1): t[one], [tasks]
        )
        np.testing.assert_allclose(
            adapt(model, alone, start[user : user + 1])[0],
            together[user],
            rtol=1e-5,
            atol=1e-6,
        )


def test_user_without_support_keeps_exactly_the_meta_init():
    model = tiny_world.make_model(tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(3)
    adapted = adapt(model, tasks, model.initial_weights(3))
    meta_init = model.partition.meta_init().numpy()
    assert not tasks.support.weight[-1].numpy().any()
    np.testing.assert_array_equal(adapted[-1], meta_init)
    assert np.abs(adapted[0] - meta_init).max() > 0.01


def test_user_without_support_moves_toward_the_meta_init():
    model = tiny_world.make_model(tiny_world.tiny_config())
    start = start_somewhere(model, 3)
    adapted = adapt(model, tiny_world.make_tasks(3), start)
    meta_init = model.partition.meta_init().numpy()
    assert (
        np.abs(adapted[-1] - meta_init) < np.abs(start[-1] - meta_init)
    ).all()


def with_support(tasks, change):
    return tasks._replace(support=LabelledRows(*map(change, tasks.support)))


def test_order_of_support_rows_does_not_matter():
    model = tiny_world.make_model(tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(4)
    start = start_somewhere(model, 4)
    backwards = with_support(tasks, lambda t: t[:, ::-1])
    np.testing.assert_allclose(
        adapt(model, backwards, start), adapt(model, tasks, start), atol=1e-5
    )


@pytest.mark.parametrize("item_row", [0, tiny_world.NUM_ITEMS])
@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_weight_zero_do_not_matter(item_row, label):
    model = tiny_world.make_model(tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(4)
    start = start_somewhere(model, 4)
    added = iter((item_row, label, 0))
    padded = with_support(
        tasks,
        lambda t: tf.pad(t, [[0, 0], [2, 3]], constant_values=next(added)),
    )
    np.testing.assert_allclose(
        adapt(model, padded, start), adapt(model, tasks, start), atol=1e-6
    )


def test_a_row_of_weight_two_counts_like_two_rows():
    model = tiny_world.make_model(tiny_world.tiny_config())
    tasks = tiny_world.make_tasks(4)
    start = start_somewhere(model, 4)
    twice = with_support(tasks, lambda t: tf.repeat(t, 2, axis=1))
    weight = tasks.support.weight * 2
    heavy = tasks._replace(support=tasks.support._replace(weight=weight))
    np.testing.assert_allclose(
        adapt(model, twice, start), adapt(model, heavy, start), atol=1e-5
    )


def test_many_small_steps_end_at_the_minimum_of_the_objective():
    model = tiny_world.make_model(tiny_world.tiny_config(num_inner_steps=300))
    loop = model.inner_loop
    loop.log_inner_lr.assign(np.full([300, 4], np.log(0.5)))
    loop.log_curvature.assign(tf.zeros(loop.log_curvature.shape))
    tasks = tiny_world.make_tasks(3)
    oracle = NumpyTwoTower.of(model, tiny_world.SPACE)
    support = to_numpy(tasks.support)
    precision = np.exp(oracle.log_precision)
    adapted = adapt(model, tasks, start_somewhere(model, 3))
    for number in range(3):
        user = oracle.embed_user(
            {n: ids[number].numpy() for n, ids in tasks.user_ids.items()}
        )
        items = oracle.embed_items(CATALOG_IDS, support.item_row[number])
        weight = support.weight[number]
        taste, liked = targets(
            support.label[number], oracle.taste_shift, oracle.liked_shift
        )

        def objective(
            weights, user=user, items=items, t=taste, k=liked, n=weight
        ):
            logits = oracle.score(user, items, weights)
            drawn = t * (items[0] @ weights[1:]) + k * weights[0]
            away = weights - oracle.meta_init
            return n @ (np.logaddexp(0, logits) - drawn) + 0.5 * (
                precision @ away**2
            )

        minimum = optimize.minimize(objective, np.zeros(4), tol=1e-10)
        np.testing.assert_allclose(adapted[number], minimum.x, atol=1e-4)


def test_new_models_start_from_zero_weights():
    model = PartitionedTwoTower(tiny_world.SPACE, tiny_world.tiny_config())
    np.testing.assert_array_equal(model.initial_weights(2), np.zeros([2, 4]))


def test_a_meta_state_given_replaces_the_models_own():
    """As an online meta-update does, which never touches the variables."""
    model = tiny_world.make_model(tiny_world.tiny_config())
    other = tiny_world.make_model(tiny_world.tiny_config(), seed=3)
    tasks = tiny_world.make_tasks(3)
    start = start_somewhere(model, 3)
    state = other.partition.meta_init(), other.inner_loop.log_inner_lr
    given = model.adapt(
        model.user_tower(tasks.user_ids),
        model.embed_items(CATALOG.ids, tasks.support.item_row),
        tasks.support.label,
        tasks.support.weight,
        start,
        meta_init=state[0],
        log_inner_lr=state[1],
    )
    oracle = NumpyTwoTower.of(model, tiny_world.SPACE)
    oracle.meta_init, oracle.log_inner_lr = (t.numpy() for t in state)
    np.testing.assert_allclose(
        given, oracle_adapt(oracle, tasks, start), rtol=1e-5, atol=1e-5
    )
