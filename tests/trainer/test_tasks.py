"""Sampled tasks, row by row, against what the users' episodes hold.

The row of a user's item in these episodes is user * 1000 + row, so that each
sampled row tells where it is from.
"""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_world
from trainer.tasks import sample_tasks

# Per user: how many rows each event has. 7 is a user with few events.
ROWS_OF_EVENTS = [
    [1] * 40,
    [5] * 40,
    [1, 3, 2] * 15,
    [2] * 15,
    [1] * 12 + [9] + [1] * 10,
    [4] * 8 + [1] * 30,
    [1] * 31,
    [1, 2],
]


@dataclasses.dataclass(frozen=True)
class Task:
    """One sampled task: rows of its user, without padding."""

    user: int
    support: np.ndarray
    support_weight: np.ndarray
    query_set: np.ndarray
    positions: np.ndarray


def make_users(all_rows=ROWS_OF_EVENTS):
    return [
        tiny_world.make_episode(
            np.repeat(np.arange(len(rows)), rows),
            seed=user,
            item_row=(user * 1000 + np.arange(sum(rows))).astype(np.int32),
            label=(np.arange(sum(rows)) % 3 == 0).astype(np.float32),
            gender=np.array([user]),
        )
        for user, rows in enumerate(all_rows)
    ]


def sample(config, batches=12, users=None):
    users = make_users() if users is None else users
    dataset = sample_tasks(
        tiny_world.as_dataset(users), tiny_world.SPACE, config
    )
    for batch in dataset.take(batches):
        user_ids, support, query_set = tf.nest.map_structure(
            lambda t: t.numpy(), batch
        )
        for rows in (support, query_set):
            assert rows.item_row.shape == rows.label.shape == rows.weight.shape
            assert len(rows.label) == config.meta_batch_size
        assert support.label.shape[1] == config.support_rows
        assert query_set.label.shape[1] == config.query_rows
        for index in range(config.meta_batch_size):
            user = int(user_ids["gender"][index, 0])
            parts = []
            for rows in (support, query_set):
                real = rows.weight[index] > 0
                row = rows.item_row[index][real] - 1000 * user
                label = users[user]["label"][row]
                np.testing.assert_array_equal(rows.label[index][real], label)
                parts += [row, rows.weight[index][real]]
            assert (parts[3] == 1.0).all()
            yield Task(user, *parts[:3], users[user]["position"])


CONFIG = tiny_world.tiny_config(
    meta_batch_size=16,
    support_rows=12,
    query_rows=10,
    first_support_share=0.0,
    max_support_events=80,
)


def test_support_set_is_what_came_right_before_the_query_set():
    cuts = set()
    for task in sample(CONFIG):
        first = task.query_set[0]
        cuts.add((task.user, first))
        last_rows = np.arange(first - len(task.support), first)
        np.testing.assert_array_equal(task.support, last_rows)
        stop = min(first + 10, len(task.positions))
        np.testing.assert_array_equal(task.query_set, np.arange(first, stop))
    assert {user for user, _ in cuts} == set(range(8))
    assert len(cuts) > 60


def test_no_event_is_in_both_sets():
    for task in sample(CONFIG):
        if len(task.support):
            assert (
                task.positions[task.support].max()
                < task.positions[task.query_set].min()
            )


def rows_of_events_before(task, events):
    """How many rows the last `events` events before the cut have."""
    cut = task.positions[task.query_set[0]]
    inside = (task.positions >= cut - events) & (task.positions < cut)
    return int(inside.sum())


def test_support_set_has_whole_events_or_as_many_rows_as_fit():
    sizes = set()
    for task in sample(CONFIG):
        cut = task.positions[task.query_set[0]]
        possible = [
            min(rows_of_events_before(task, n), CONFIG.support_rows)
            for n in range(min(cut, 80) + 1)
        ]
        assert len(task.support) in possible
        assert (task.support_weight == 1).all()
        sizes.add(len(task.support))
    assert sizes >= {0, 1, CONFIG.support_rows}


def test_support_set_has_no_more_events_than_the_largest_size():
    config = dataclasses.replace(CONFIG, max_support_events=2)
    sizes = set()
    for task in sample(config):
        events = set(task.positions[task.support])
        sizes.add(len(events))
    assert sizes == {0, 1, 2}


def test_query_set_is_never_empty():
    for task in sample(CONFIG):
        rows = len(task.positions)
        assert 1 <= len(task.query_set) <= 10
        if max(ROWS_OF_EVENTS[task.user]) == 1 and rows >= 5:
            assert len(task.query_set) >= 5


def test_first_support_share_of_one_learns_from_ten_events():
    config = dataclasses.replace(CONFIG, first_support_share=1.0)
    for task in sample(config):
        rows = rows_of_events_before(task, 10)
        assert len(task.support) == min(rows, config.support_rows)


def test_same_seed_samples_the_same_tasks():
    def flat(seed):
        config = dataclasses.replace(CONFIG, seed=seed)
        return [
            (task.user, task.query_set[0], len(task.support))
            for task in sample(config, batches=4)
        ]

    assert flat(1) == flat(1)
    assert flat(1) != flat(2)


def test_each_batch_is_cut_anew():
    users = make_users(ROWS_OF_EVENTS[:1])
    firsts = {t.query_set[0] for t in sample(CONFIG, 12, users)}
    assert len(firsts) > 25


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_users_are_drawn_by_events_to_the_power_of_the_weight(power):
    config = dataclasses.replace(
        CONFIG, user_weight_power=power, meta_batch_size=300
    )
    users = make_users([[1] * 10, [1] * 40, [1] * 160])
    drawn = np.bincount([t.user for t in sample(config, 4, users)])
    share = np.array([10, 40, 160]) ** power
    np.testing.assert_allclose(
        drawn / drawn.sum(), share / share.sum(), atol=0.05
    )


def test_users_of_a_mixed_log_are_drawn_by_its_weight():
    config = dataclasses.replace(
        CONFIG, user_weight_power=0.5, meta_batch_size=300
    )
    users = make_users([[1] * 40, [1] * 40, [1] * 90])
    users[1]["draw_weight"] = np.float32(0.25)
    drawn = np.bincount([t.user for t in sample(config, 4, users)])
    share = np.sqrt([40, 40, 90]) * [1, 0.25, 1]
    np.testing.assert_allclose(
        drawn / drawn.sum(), share / share.sum(), atol=0.05
    )
