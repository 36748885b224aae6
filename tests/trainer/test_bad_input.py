"""Users whose history is no history: each has a defined answer."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_world
from trainer.errors import EpisodeDataError
from trainer.outer_loop import MetaLearner
from trainer.partition import meta_learning
from trainer.plain_rows import sample_rows
from trainer.scorer import TwoTowerScorer
from trainer.stages import StageData, train_joint, train_offline
from trainer.stream_validation import StreamValidation
from trainer.tasks import LabelledRows, sample_tasks

CATALOG = tiny_world.make_catalog()
CONFIG = tiny_world.tiny_config(meta_batch_size=8, support_rows=6, query_rows=5)


def episodes(users):
    return tiny_world.as_dataset(users)


def batches(users, sampler=sample_tasks, count=6):
    dataset = sampler(episodes(users), tiny_world.SPACE, CONFIG)
    return list(dataset.take(count))


def support(item_row, label):
    item_row = np.asarray(item_row, np.int32)
    ones = np.ones_like(item_row, np.float32)
    return LabelledRows(item_row, ones * np.float32(label), ones)


def test_user_without_events_is_never_drawn():
    nobody = tiny_world.make_episode([], gender=np.array([1]))
    users = [
        nobody,
        tiny_world.make_episode(range(3), gender=np.array([0])),
        nobody,
        tiny_world.make_episode(range(9), gender=np.array([2])),
        nobody,
    ]
    for tasks in batches(users):
        assert set(tasks.user_ids["gender"].numpy().flat) <= {0, 2}
        assert (tasks.query_set.weight.numpy().sum(axis=1) > 0).all()
    for user_ids, _ in batches(users, sample_rows):
        assert set(user_ids["gender"].numpy().flat) <= {0, 2}


@pytest.mark.parametrize("users", [[], [tiny_world.make_episode([])]])
@pytest.mark.parametrize("train", [train_offline, train_joint])
@pytest.mark.parametrize("warm_start_rounds", [0, 2])
def test_nobody_with_an_event_in_meta_train_is_an_error(
    users, train, warm_start_rounds
):
    judged = [tiny_world.make_episode(range(40))]
    data = StageData(
        episodes(users), episodes(judged), tiny_world.SPACE, CATALOG
    )
    config = dataclasses.replace(CONFIG, warm_start_rounds=warm_start_rounds)
    with pytest.raises(EpisodeDataError, match="meta_train holds no event"):
        train(data, config)


def test_user_with_one_event_is_judged_on_it_and_learned_from_nothing():
    only = tiny_world.make_episode([0], item_row=np.array([5], np.int32))
    for tasks in batches([only]):
        assert not tasks.support.weight.numpy().any()
        np.testing.assert_array_equal(
            tasks.query_set.weight.numpy().sum(axis=1), 1
        )
        assert set(tasks.query_set.item_row[:, 0].numpy()) == {5}


def test_support_larger_than_the_history_is_the_whole_history():
    config = tiny_world.tiny_config(
        max_support_events=1000, support_rows=50, meta_batch_size=32
    )
    user = tiny_world.make_episode(
        range(7), item_row=np.arange(7, dtype=np.int32)
    )
    sampled = sample_tasks(episodes([user]), tiny_world.SPACE, config)
    sizes = set()
    for tasks in sampled.take(3):
        for rows, weight in zip(
            tasks.support.item_row.numpy(),
            tasks.support.weight.numpy(),
            strict=True,
        ):
            real = rows[weight > 0]
            assert (weight[weight > 0] == 1).all()
            np.testing.assert_array_equal(real, np.arange(len(real)))
            sizes.add(len(real))
    assert sizes >= {0, 1, 2}
    assert max(sizes) <= 6


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_moves_the_scores_towards_it_and_stays_finite(label):
    model = tiny_world.make_model(CONFIG)
    scorer = TwoTowerScorer(model, CATALOG)
    before = scorer.begin(tiny_world.make_user_ids(2))
    rows = np.tile(np.arange(6), (2, 1))
    after = scorer.learn(before, support(rows, label))
    change = scorer.score(after, rows) - scorer.score(before, rows)
    assert np.isfinite(change).all()
    assert (np.sign(np.mean(change, axis=1)) == 2 * label - 1).all()


def test_users_of_one_class_are_left_out_of_wgauc_and_not_of_auc():
    model = tiny_world.make_model(CONFIG)

    def evaluate(users):
        return StreamValidation(
            model, episodes(users), tiny_world.SPACE, CATALOG, 10
        ).evaluate()

    users = [tiny_world.make_episode(range(40), seed=s) for s in range(3)]
    likes_all = {**users[0], "label": np.ones(40, np.float32)}
    with_it, without = evaluate([*users, likes_all]), evaluate(users)
    for name, value in without.wgauc.items():
        assert with_it.wgauc[name] == pytest.approx(value, abs=1e-6)
        assert with_it.auc[name] != without.auc[name]


def test_items_that_nobody_knows_are_all_alike_and_can_be_learned_from():
    model = tiny_world.make_model(CONFIG)
    scorer = TwoTowerScorer(model, CATALOG)
    unknown = np.full((2, 4), CATALOG.unknown_row, np.int32)
    state = scorer.begin(tiny_world.make_user_ids(2))
    for _ in range(3):
        state = scorer.learn(state, support(unknown, 1.0))
    scores = scorer.score(state, unknown).numpy()
    assert np.isfinite(state.weights).all()
    np.testing.assert_array_equal(scores, np.tile(scores[:, :1], (1, 4)))


@pytest.mark.parametrize(
    "episode",
    [
        tiny_world.make_episode([0]),
        tiny_world.make_episode(range(30), label=np.ones(30, np.float32)),
        tiny_world.make_episode(
            range(30),
            item_row=np.full(30, CATALOG.unknown_row, np.int32),
        ),
    ],
    ids=["one event", "one class", "unknown items"],
)
def test_gradients_of_odd_users_are_finite(episode):
    model = tiny_world.make_model(CONFIG)
    learner = MetaLearner(model, CATALOG, CONFIG)
    with meta_learning(model.user_specific_layers):
        for tasks in batches([episode], count=2):
            with tf.GradientTape() as tape:
                loss = learner.compute_loss(tasks)
            assert np.isfinite(loss)
            for gradient in tape.gradient(loss, learner.trainable_variables):
                values = tf.convert_to_tensor(
                    0.0 if gradient is None else gradient
                )
                assert np.isfinite(values).all()
