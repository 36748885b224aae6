"""Item vectors by expectation-maximization, against loops over rows."""

import dataclasses

import numpy as np
import pytest

from tests.helpers import tiny_world
from trainer import item_factors as module
from trainer import stages
from trainer.baselines.stages import train_maml_all
from trainer.graded_labels import Degrees
from trainer.item_factors import Targets, item_factors
from trainer.stages import (
    StageData,
    starting_factors,
    train_joint,
    train_offline,
)
from trainer.training import adapted_objective

SIZE = 3
CATALOG = tiny_world.make_catalog()


class World:
    """Rows of the very model that is fitted."""

    def __init__(self, users, items, share, noise=0.1, seed=0):
        random = np.random.default_rng(seed)
        w = random.normal(0.0, 0.1, [items, SIZE])
        z = random.normal(size=[users, SIZE])
        bias = random.normal(0.0, 0.1, [users, 1])
        mean = random.normal(0.5, 0.1, items)
        self.truth = bias + mean + z @ w.T
        self.seen = random.uniform(size=[users, items]) < share
        self.user, self.item = np.nonzero(self.seen)
        errors = random.normal(0.0, noise, len(self.user))
        self.target = self.truth[self.seen] + errors
        self.targets = Targets.of(
            self.user, self.item, self.target, (users, items)
        )


class Loops:
    """The same algorithm, row by row."""

    def __init__(self, world, seed):
        items = world.targets.count.shape[1]
        self.world = world
        self.mean = world.target.mean()
        self.noise = world.target.var()
        self.user_bias, self.sw, self.sm = 0.01, np.full(SIZE, 0.0025), 0.01
        draws = np.random.default_rng(seed).normal(0.0, 0.05, [items, SIZE])
        self.x = [np.append(w, self.mean) for w in draws]
        self.v = [np.zeros([SIZE + 1, SIZE + 1]) for _ in range(items)]

    def users(self):
        world, found = self.world, []
        for user in range(world.targets.count.shape[0]):
            precision = np.diag([1.0 / self.user_bias, *np.ones(SIZE)])
            told = np.zeros(SIZE + 1)
            for row in np.flatnonzero(world.user == user):
                w, m = self.x[world.item[row]][:-1], self.x[world.item[row]][-1]
                v = self.v[world.item[row]]
                a = np.append(1.0, w)
                square = np.outer(a, a)
                square[1:, 1:] += v[:-1, :-1]
                crossed = a * m + np.append(0.0, v[:-1, -1])
                precision += square / self.noise
                told += (a * world.target[row] - crossed) / self.noise
            covariance = np.linalg.inv(precision)
            found.append((covariance @ told, covariance))
        return found

    def improve(self):
        world, users = self.world, self.users()
        prior = np.append(1.0 / self.sw, 1.0 / self.sm)
        rows_of = [np.flatnonzero(world.item == i) for i in range(len(self.x))]
        for item, rows in enumerate(rows_of):
            precision, told = (
                np.diag(prior),
                prior * np.append([0.0] * SIZE, self.mean),
            )
            for row in rows:
                y, c = users[world.user[row]]
                h = np.append(y[1:], 1.0)
                square = np.outer(h, h)
                square[:-1, :-1] += c[1:, 1:]
                crossed = h * y[0] + np.append(c[0, 1:], 0.0)
                precision = precision + square / self.noise
                told = told + (h * world.target[row] - crossed) / self.noise
            self.v[item] = np.linalg.inv(precision)
            self.x[item] = self.v[item] @ told
        self._variances(users, [i for i, r in enumerate(rows_of) if len(r)])

    def _variances(self, users, known):
        # By sampling-free moments of each row's error, one row at a time.
        world, errors = self.world, []
        for user, item, target in zip(
            world.user, world.item, world.target, strict=True
        ):
            (y, c), x, v = users[user], self.x[item], self.v[item]
            mean = y[0] + y[1:] @ x[:-1] + x[-1]
            h, w = np.append(y[1:], 1.0), x[:-1]
            spread = h @ v @ h + np.trace(v[:-1, :-1] @ c[1:, 1:])
            a = np.append(1.0, w)
            spread += a @ c @ a
            errors.append(np.square(target - mean) + spread)
        self.noise = np.mean(errors)
        self.user_bias = np.mean([y[0] ** 2 + c[0, 0] for y, c in users])
        own = np.array([self.x[i] for i in known])
        spread = np.array([np.diag(self.v[i]) for i in known])
        second = np.square(own - np.append([0.0] * SIZE, self.mean)) + spread
        self.sw, self.sm = second.mean(axis=0)[:-1], second.mean(axis=0)[-1]


@pytest.mark.parametrize("block", [4, 1000])
def test_rounds_are_those_of_loops_over_rows(block, monkeypatch):
    monkeypatch.setattr(module, "_PER_BLOCK", block)
    world = World(users=9, items=6, share=0.6)
    loops = Loops(world, seed=5)
    for _ in range(3):
        loops.improve()
    p = loops.mean
    kappa = 1.0 / (p * (1.0 - p))
    expected = np.array(loops.x)
    found = item_factors(world.targets, SIZE, rounds=3, seed=5)
    np.testing.assert_allclose(
        found.vector, expected[:, :-1] * np.sqrt(kappa / loops.noise), rtol=1e-8
    )
    np.testing.assert_allclose(
        found.bias, np.log(p / (1 - p)) + kappa * (expected[:, -1] - p)
    )


def test_planted_items_are_found():
    world = World(users=300, items=40, share=0.4)
    p = world.target.mean()
    found = item_factors(world.targets, SIZE, rounds=30, seed=0)
    kappa = 1.0 / (p * (1.0 - p))
    # What the rows of some users leave open, others' vectors tell.
    hidden = ~world.seen

    def error(vectors):
        errors = []
        for user in range(100):
            seen = world.seen[user]
            features = np.column_stack([np.ones(40), vectors])
            told = (
                world.truth[user]
                - p
                - (found.bias - np.log(p / (1 - p))) / kappa
            )
            weights, *_ = np.linalg.lstsq(
                np.vstack([features[seen], 0.1 * np.eye(features.shape[1])]),
                np.append(told[seen], np.zeros(features.shape[1])),
                rcond=None,
            )
            errors.append((features @ weights - told)[hidden[user]])
        return np.concatenate(errors).std()

    # 0.17 is what these items differ by for a user, past its bias.
    assert error(found.vector) < 0.05
    assert error(np.zeros_like(found.vector)) > 0.12


def test_vectors_have_in_logits_the_posterior_that_they_had_in_targets():
    """With a prior precision of 1, and 1 / kappa told by each event."""
    world = World(users=30, items=12, share=0.7)
    model = module._Model(world.targets, SIZE, seed=0)
    for _ in range(4):
        model.improve()
    factors = model.in_logits()
    w = model.x[:5, :SIZE]
    away = np.array([0.3, -0.2, 0.5, 0.1, -0.4])
    z = np.linalg.solve(w.T @ w + model.noise * np.eye(SIZE), w.T @ away)
    p = world.target.mean()
    kappa = 1.0 / (p * (1.0 - p))
    v = factors.vector[:5]
    own = np.linalg.solve(v.T @ v / kappa + np.eye(SIZE), v.T @ away)
    np.testing.assert_allclose(v @ own, kappa * (w @ z))


def test_every_round_is_told(caplog):
    world = World(users=5, items=4, share=0.9)
    with caplog.at_level("INFO", "trainer.progress"):
        item_factors(world.targets, SIZE, rounds=3, seed=0)
    told = [record.getMessage() for record in caplog.records]
    assert [line.split("  ")[0] for line in told] == [
        f"item vectors: round {done} of 3" for done in (1, 2, 3)
    ]


def test_item_without_rows_has_no_vector_and_the_mean_bias():
    world = World(users=20, items=5, share=0.8)
    targets = Targets.of(world.user, world.item, world.target, (20, 7))
    found = item_factors(targets, SIZE, rounds=5, seed=0)
    p = world.target.mean()
    assert not found.vector[5:].any()
    np.testing.assert_allclose(found.bias[5:], np.log(p / (1 - p)))
    assert found.vector[:5].all()


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_targets_that_are_all_the_same_give_finite_vectors(target):
    user, item = np.divmod(np.arange(40), 8)
    targets = Targets.of(user, item, np.full(40, target), (5, 8))
    found = item_factors(targets, SIZE, rounds=20, seed=0)
    assert np.isfinite(found.vector).all()
    assert np.isfinite(found.bias).all()
    assert (np.sign(found.bias) == np.sign(target - 0.5)).all()


def test_targets_are_those_of_the_inner_loop_by_item_index():
    config = tiny_world.tiny_config()
    degrees = Degrees(liked_from=0.75, weight=0.5, start=0.1, slope=0.8)
    users = [
        tiny_world.make_episode(
            range(3),
            item_row=np.array([2, 0, 2], np.int32),
            label=np.array([0.2, 1.0, 0.5], np.float32),
        ),
        tiny_world.make_episode([]),
    ]
    targets = Targets.read(
        tiny_world.as_dataset(users), CATALOG, 7, config, degrees
    )
    taste = degrees.taste(np.array([0.2, 1.0, 0.5], np.float32)).numpy()
    index = CATALOG.ids["item_index"].numpy()[:, 0]
    assert targets.count.shape == (2, 7)
    assert targets.count[0, index[2]] == 2
    np.testing.assert_allclose(targets.total[0, index[0]], taste[1])
    np.testing.assert_allclose(targets.total[0, index[2]], taste[0] + taste[2])
    np.testing.assert_allclose(targets.squares, np.square(taste).sum())
    assert not targets.count[1].sum()


def make_data(users=12):
    random = np.random.default_rng(0)
    episodes = [
        tiny_world.make_episode(
            range(40),
            # Half of the users like the even ones, the others the odd ones.
            item_row=(np.arange(40) + 2 * random.integers(0, 9)).astype(
                np.int32
            )
            % tiny_world.NUM_ITEMS,
            label=((np.arange(40) + user) % 2).astype(np.float32),
        )
        for user in range(users)
    ]
    dataset = tiny_world.as_dataset(episodes)
    return StageData(dataset, dataset, tiny_world.SPACE, CATALOG)


def table(model):
    return model.item_tower._id_embedding.embeddings.numpy()


def offline_table(data, config):
    return table(train_offline(data, config)[0])


def maml_all_table(data, config):
    scorer, _ = train_maml_all(data, config)
    return scorer._maml.model._id_embedding.embeddings.numpy()


@pytest.mark.parametrize("trained_table", [offline_table, maml_all_table])
def test_meta_learning_starts_from_factors_and_is_pulled_toward_them(
    trained_table,
):
    data = make_data()
    config = tiny_world.tiny_config(
        warm_start_rounds=4,
        max_steps=30,
        steps_per_evaluation=30,
        outer_lr=0.05,
        ema_momentum=0.5,
        item_l2=100.0,
    )
    start = starting_factors(data, config).table()
    # Steps of such a size lead there and back again from anywhere.
    assert np.abs(start).max() > 0.5
    assert np.abs(trained_table(data, config) - start).max() < 0.1


def test_vectors_worse_than_random_ones_are_left_out(monkeypatch, caplog):
    data = make_data()
    cold = tiny_world.tiny_config(max_steps=1, steps_per_evaluation=1)
    warm = dataclasses.replace(cold, warm_start_rounds=4)
    values = [0.6, 0.7]

    def objective(figures):
        return values.pop(0) if values else adapted_objective(figures)

    monkeypatch.setattr(stages, "adapted_objective", objective)
    with caplog.at_level("INFO", "trainer.results"):
        found = offline_table(data, warm)
    assert not values
    assert "0.6000 on meta_valid, random ones 0.7000" in caplog.text
    np.testing.assert_array_equal(found, offline_table(data, cold))


def test_plain_training_does_not_start_from_factors():
    data = make_data()
    cold, warm = (
        train_joint(
            data,
            tiny_world.tiny_config(
                warm_start_rounds=rounds, max_steps=2, steps_per_evaluation=1
            ),
        )[0]
        for rounds in (0, 3)
    )
    np.testing.assert_array_equal(table(cold), table(warm))
