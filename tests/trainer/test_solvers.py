"""Both solvers on every preset, against NumPy, SciPy and finite differences."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from tests.helpers import tiny_world
from tests.helpers.numpy_user_head import NumpyUser, all_supports
from trainer.config import (
    GRADIENT,
    LEARNED,
    NEWTON,
    PARTITION_PRESETS,
    USER_TOWER,
)
from trainer.newton_solver import NewtonSolver
from trainer.support_loss import mean_over_events

CATALOG = tiny_world.make_catalog()
AFFINE = [preset for preset in PARTITION_PRESETS if preset != USER_TOWER]
STEPS = 8


@dataclasses.dataclass
class World:
    """A model, tasks, and the same in NumPy."""

    preset: str
    model: Any
    tasks: Any
    user: Any
    item: Any

    def adapt(self, start, **state):
        support = self.tasks.support
        return self.model.adapt(
            self.user, self.item, support.label, support.weight, start, **state
        )

    @property
    def oracle(self):
        support = self.tasks.support
        users = NumpyUser.all_of(self.model, self.user, self.preset)
        solver = self.model.inner_loop
        supports = all_supports(
            solver, self.item, support.label, support.weight
        )
        return list(zip(users, supports, strict=True))


def make_world(preset, solver, num_users=4, shifted=True, **values):
    config = tiny_world.tiny_config(
        partition=preset,
        solver=solver,
        adapter_rank=2,
        **{"num_inner_steps": STEPS, **values},
    )
    model = tiny_world.make_model(config)
    if shifted:
        tiny_world.shift_targets(model)
    # Random kernels of the hidden layer would make steps jump.
    model.inner_loop.log_precision.assign_add(
        tf.ones_like(model.inner_loop.log_precision)
    )
    tasks = tiny_world.make_tasks(num_users)
    return World(
        preset,
        model,
        tasks,
        model.user_tower(tasks.user_ids),
        model.embed_items(CATALOG.ids, tasks.support.item_row),
    )


def float64(tensor):
    return np.array(tensor, np.float64)


def start_somewhere(world):
    shape = world.tasks.support.label.shape[0], world.model.partition.size
    random = np.random.default_rng(5)
    return random.normal(0.0, 0.3, shape).astype(np.float32)


def numpy_inner_loop(loop, gates, meta_init, user, support, start):
    """The docstring of `trainer.inner_loop`, one user."""
    precision = np.exp(float64(loop.log_precision))
    curvature = np.exp(float64(loop.log_curvature))
    scale = 1 / (precision + curvature * support.weight.sum())
    share = float64(loop.carried_share)
    weights = meta_init + share * (float64(start) - meta_init)
    for log_lr in float64(loop.log_inner_lr):
        by_own = support.gradient(user.own(weights))
        gradient = by_own @ user.jacobian(weights)
        gradient = gradient + precision * (weights - meta_init)
        weights = weights - np.exp(log_lr) * gates * scale * gradient
    return weights


@pytest.mark.parametrize("preset", PARTITION_PRESETS)
def test_gradient_steps_follow_the_documented_formula(preset):
    world = make_world(preset, GRADIENT, num_inner_steps=3)
    start = start_somewhere(world)
    world.model.inner_loop.carried_share.assign(0.4)
    gates = float64(world.model.inner_loop.gates())
    if preset == LEARNED:
        assert (gates == 0).any()
        assert (gates > 0).any()
    expected = [
        numpy_inner_loop(
            world.model.inner_loop,
            gates,
            float64(world.model.partition.meta_init()),
            *one,
            start[number],
        )
        for number, one in enumerate(world.oracle)
    ]
    np.testing.assert_allclose(
        world.adapt(start), expected, rtol=2e-3, atol=2e-3
    )


def objective(world, variance, meta_init, user, support):
    """Regularized loss of the weights that have a prior variance."""
    free = variance > 0

    def value(some):
        weights = meta_init.copy()
        weights[free] += some
        return support.loss(user.own(weights)) + 0.5 * np.sum(
            some**2 / variance[free]
        )

    return value, free


@pytest.mark.parametrize("preset", AFFINE)
def test_newton_finds_the_minimum_of_the_regularized_loss(preset):
    world = make_world(preset, NEWTON)
    loop, model = world.model.inner_loop, world.model
    variance = float64(loop.gates()) / np.exp(float64(loop.log_precision))
    meta_init = float64(model.partition.meta_init())
    found = world.adapt(start_somewhere(world)).numpy()
    for number, (user, support) in enumerate(world.oracle):
        value, free = objective(world, variance, meta_init, user, support)
        minimum = optimize.minimize(value, np.zeros(free.sum()), tol=1e-12)
        expected = meta_init.copy()
        expected[free] += minimum.x
        np.testing.assert_allclose(found[number], expected, atol=1e-4)


def test_minimum_does_not_depend_on_where_a_user_starts():
    world = make_world("user_scale", NEWTON)
    from_init = world.adapt(world.model.initial_weights(4))
    elsewhere = world.adapt(start_somewhere(world))
    np.testing.assert_array_equal(from_init, elsewhere)


@pytest.mark.parametrize("strength", [30.0, 1e4])
def test_newton_survives_data_that_no_prior_tames(strength):
    """Heavy weights far from the start, where plain Newton steps diverge."""
    # With targets beyond 0 and 1 there is no minimum without a prior.
    world = make_world("user_offset", NEWTON, shifted=False, num_inner_steps=12)
    support = world.tasks.support
    world.tasks = world.tasks._replace(
        support=support._replace(weight=support.weight * strength)
    )
    adapted = world.adapt(world.model.initial_weights(4))

    def loss(weights):
        losses = world.model.event_loss(
            world.user, world.item, support.label, weights
        )
        return mean_over_events(losses, support.weight * strength).numpy()

    assert np.isfinite(adapted).all()
    before = loss(world.model.initial_weights(4))
    assert (loss(adapted)[:-1] < before[:-1]).all()


def both_solvers(presets):
    return [
        (preset, solver)
        for preset in presets
        for solver in (GRADIENT, NEWTON)
        if (preset, solver) != (USER_TOWER, NEWTON)
    ]


@pytest.mark.parametrize(("preset", "solver"), both_solvers(PARTITION_PRESETS))
def test_user_without_events_keeps_exactly_the_meta_init(preset, solver):
    world = make_world(preset, solver)
    initial = world.model.initial_weights(4)
    adapted = world.adapt(initial).numpy()
    assert not world.tasks.support.weight[-1].numpy().any()
    np.testing.assert_array_equal(adapted[-1], initial[-1])
    assert np.abs(adapted[0] - initial[0]).max() > 0.01


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_support_of_one_class_moves_scores_that_way_and_no_further(
    solver, label
):
    """Without a prior the best bias would be infinite."""
    world = make_world("user_offset", solver)
    support = world.tasks.support
    support = support._replace(label=tf.fill(support.label.shape, label))
    world.tasks = world.tasks._replace(support=support)
    initial = world.model.initial_weights(4)
    adapted = world.adapt(initial)

    def score(weights):
        logits = world.model.score(world.user, world.item, weights)
        return (logits * support.weight).numpy().sum(axis=1)[:-1]

    moved = score(adapted) - score(initial)
    assert (moved > 0).all() if label else (moved < 0).all()
    assert np.abs(adapted).max() < 10


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_padding_changes_nothing(solver):
    world = make_world("user_scale", solver)
    start = start_somewhere(world)
    plain = world.adapt(start)
    fill = iter((tiny_world.NUM_ITEMS, 1.0, 0.0))
    support = type(world.tasks.support)(
        *(
            tf.pad(t, [[0, 0], [1, 2]], constant_values=next(fill))
            for t in world.tasks.support
        )
    )
    world.tasks = world.tasks._replace(support=support)
    world.item = world.model.embed_items(CATALOG.ids, support.item_row)
    np.testing.assert_allclose(world.adapt(start), plain, atol=1e-5)


@pytest.mark.parametrize("solver", [GRADIENT, NEWTON])
def test_a_user_alone_learns_as_in_a_batch(solver):
    world = make_world("user_scale", solver)
    start = start_somewhere(world)
    together = world.adapt(start).numpy()
    for number in range(4):
        one = slice(number, number + 1)
        alone = World(
            world.preset,
            world.model,
            *tf.nest.map_structure(
                lambda t, one=one: t[one],
                (world.tasks, world.user, world.item),
            ),
        )
        np.testing.assert_allclose(
            alone.adapt(start[one])[0], together[number], atol=1e-5
        )


def probe(size):
    """What adapted weights are judged by: a fixed direction."""
    return np.random.default_rng(1).normal(size=size)


def slopes(function, at, step):
    result = np.zeros_like(at)
    for index in np.ndindex(at.shape):
        away = np.zeros_like(at)
        away[index] = step
        result[index] = function(at + away) - function(at - away)
    return result / (2 * step)


@pytest.mark.parametrize(
    "preset", ["low_rank", "interaction_head", "user_scale", "user_output"]
)
def test_meta_gradients_of_gradient_steps_are_slopes(preset):
    world = make_world(preset, GRADIENT, num_users=2, num_inner_steps=2)
    model = world.model
    meta_init = tf.constant(model.partition.meta_init())
    log_lr = tf.constant(model.inner_loop.log_inner_lr)
    judge = probe(model.partition.size)
    with tf.GradientTape() as tape:
        tape.watch([meta_init, log_lr])
        adapted = world.adapt(
            tf.tile(meta_init[tf.newaxis], [2, 1]),
            meta_init=meta_init,
            log_inner_lr=log_lr,
        )
        value = tf.reduce_sum(adapted * judge.astype(np.float32))
    by_init, by_lr = tape.gradient(value, [meta_init, log_lr])

    oracle = world.oracle

    def loss(init, lr):
        loop = Frozen(model.inner_loop, lr)
        return sum(
            judge @ numpy_inner_loop(loop, 1.0, init, *one, init)
            for one in oracle
        )

    init, lr = float64(meta_init), float64(log_lr)
    np.testing.assert_allclose(
        by_init, slopes(lambda i: loss(i, lr), init, 1e-5), rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(
        by_lr, slopes(lambda r: loss(init, r), lr, 1e-5), rtol=1e-3, atol=1e-3
    )


class Frozen:
    """A gradient loop with other step sizes."""

    def __init__(self, loop, log_inner_lr):
        self.log_precision = loop.log_precision
        self.log_curvature = loop.log_curvature
        self.log_inner_lr = log_inner_lr
        self.carried_share = loop.carried_share


@pytest.mark.parametrize("preset", ["low_rank", "user_offset", "user_scale"])
def test_meta_gradients_of_newton_are_slopes_of_the_minimum(preset):
    world = make_world(preset, NEWTON, num_users=2)
    model = world.model
    meta_init = tf.constant(model.partition.meta_init())
    log_precision = model.inner_loop.log_precision
    judge = probe(model.partition.size)
    log_precision_start = float64(log_precision)
    with tf.GradientTape() as tape:
        tape.watch([meta_init, log_precision])
        adapted = world.adapt(model.initial_weights(2), meta_init=meta_init)
        value = tf.reduce_sum(adapted * judge.astype(np.float32))
    by_init, by_prior = tape.gradient(value, [meta_init, log_precision])
    oracle = world.oracle

    def loss(init, prior):
        total = 0.0
        for user, support in oracle:
            value, _ = objective(world, np.exp(-prior), init, user, support)

            def slope(some, user=user, support=support):
                own = user.own(init + some)
                by_weights = support.gradient(own) @ user.jacobian(init)
                return by_weights + np.exp(prior) * some

            found = optimize.minimize(
                value,
                np.zeros(len(init)),
                jac=slope,
                method="BFGS",
                options={"gtol": 1e-11},
            )
            total += judge @ (init + found.x)
        return total

    init = float64(meta_init)
    np.testing.assert_allclose(
        by_init,
        slopes(lambda i: loss(i, log_precision_start), init, 1e-4),
        rtol=2e-3,
        atol=2e-3,
    )
    np.testing.assert_allclose(
        by_prior,
        slopes(lambda p: loss(init, p), log_precision_start, 1e-4),
        rtol=2e-3,
        atol=2e-3,
    )


def test_first_order_ignores_how_the_support_gradient_depends_on_the_start():
    """One step from w0: dw/dw0 is 1 - rate * curvature, or 1 first-order."""
    slope = {}
    for first_order in (False, True):
        world = make_world(
            "user_bias",
            GRADIENT,
            num_users=2,
            num_inner_steps=1,
            first_order=first_order,
        )
        meta_init = tf.constant(world.model.partition.meta_init())
        with tf.GradientTape() as tape:
            tape.watch(meta_init)
            start = tf.tile(meta_init[tf.newaxis], [2, 1])
            adapted = world.adapt(start, meta_init=meta_init)[0, 0]
        slope[first_order] = float(tape.gradient(adapted, meta_init)[0])
    loop = world.model.inner_loop
    user, support = world.oracle[0]
    logits = support.events @ user.own(float64(meta_init)) + support.item_bias
    probability = 1 / (1 + np.exp(-logits))
    curvature = support.weight @ (probability * (1 - probability))
    scale = (
        np.exp(loop.log_precision[0])
        + np.exp(loop.log_curvature[0]) * support.weight.sum()
    )
    rate = np.exp(loop.log_inner_lr[0, 0]) / scale
    assert slope[True] == pytest.approx(1.0, abs=1e-5)
    assert slope[False] == pytest.approx(1 - rate * curvature, abs=1e-4)


def test_newton_has_no_step_sizes():
    world = make_world("user_offset", NEWTON)
    assert isinstance(world.model.inner_loop, NewtonSolver)
    assert world.model.inner_loop.log_inner_lr.shape == [0, 4]
