"""The stream of a model in training against one written in NumPy."""

import dataclasses

import numpy as np
import pytest

from serving.contract.guard import Adapted, Guard
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_gradient import MetaGradient
from serving.contract.online_stream import score_online
from serving.contract.protocol import stream_windows
from serving.contract.support import SupportEvent
from tests.helpers import tiny_world
from tests.helpers.numpy_two_tower import NumpyTwoTower
from trainer.online_stream import exported_state, score_arrivals
from trainer.scorer import Learning, TwoTowerScorer, score_stream
from trainer.stream import StreamUsers, stream_steps

CATALOG = tiny_world.make_catalog()
CONFIG = OnlineMetaConfig(
    tasks_per_update=2,
    held_back_share=0.4,
    held_back_tasks=3,
    min_held_back_tasks=1,
    outer_lr=0.05,
)
OFF = dataclasses.replace(CONFIG, enabled=False)


@pytest.fixture(scope="module")
def model():
    return tiny_world.make_model(tiny_world.tiny_config(num_inner_steps=2))


@pytest.fixture(scope="module")
def users():
    sizes = [(30, 1), (32, 2), (5, 1), (45, 1), (38, 1), (33, 1)]
    return StreamUsers.read(
        tiny_world.as_dataset(
            [
                tiny_world.make_episode(
                    np.repeat(np.arange(events), rows), seed=10 + seed
                )
                for seed, (events, rows) in enumerate(sizes)
            ]
        ),
        tiny_world.SPACE,
        100,
    )


@pytest.fixture(scope="module")
def arrivals(users):
    ids = [f"user {number}" for number in range(len(users))]
    times = [
        500 * number + 20 * position
        for number, position in enumerate(users.position)
    ]
    return ids, times


@dataclasses.dataclass
class NumpyUser:
    user_id: str
    item_row: np.ndarray
    label: np.ndarray
    positions: np.ndarray
    timestamps: np.ndarray

    def events(self, rows):
        return [
            SupportEvent(int(self.item_row[r]), float(self.label[r]))
            for r in rows
        ]


class NumpyModel:
    """One user at a time, in float64; gradients by finite differences."""

    def __init__(self, model, users):
        self._oracle = NumpyTwoTower.of(model, tiny_world.SPACE)
        ids = {name: values.numpy() for name, values in users.ids.items()}
        self._embedded = [
            self._oracle.embed_user({n: v[user] for n, v in ids.items()})
            for user in range(len(users))
        ]
        catalog = {name: values.numpy() for name, values in CATALOG.ids.items()}
        rows = np.arange(tiny_world.NUM_ITEMS + 1)
        self._items = self._oracle.embed_items(catalog, rows)
        self._users = users

    def _rows(self, events):
        rows = [event.item_id for event in events]
        items = self._items[0][rows], self._items[1][rows]
        label = np.array([event.label for event in events])
        return items, label, np.ones(len(label))

    def _adapt(self, user, rows, start, meta_init, log_inner_lr):
        self._oracle.meta_init = meta_init
        self._oracle.log_inner_lr = log_inner_lr
        return self._oracle.adapt(self._embedded[user], *rows, start)

    def adapt(self, users, supports, weights, state):
        at = [np.float64(value) for value in state.inputs().values()]
        adapted, means, losses = [], [], []
        width = max(len(support.events) for support in supports)
        for u, s, w in zip(users, supports, weights, strict=True):
            rows = self._rows(s.events)
            adapted.append(self._adapt(u, rows, w, *at))
            items, label, share = rows
            by_weights = []
            for own in (w, adapted[-1], at[0]):
                logits = self._oracle.score(self._embedded[u], items, own)
                by_weights.append(np.logaddexp(0.0, logits) - label * logits)
            means.append(by_weights[:2] @ share / share.sum())
            padding = [(0, 0), (0, width - len(label))]
            losses.append(np.pad(by_weights[::2], padding))
        return Adapted(
            np.array(adapted),
            *np.transpose(means),
            *np.swapaxes(losses, 0, 1),
        )

    def rank(self, users, rows, weights):
        scores = []
        for user, chosen, own in zip(users, rows, weights, strict=True):
            at = self._users.item_row[user][chosen]
            items = self._items[0][at], self._items[1][at]
            scores.append(self._oracle.score(self._embedded[user], items, own))
        return scores

    def _loss(self, task, meta_init, log_inner_lr):
        support = self._rows(task.support)
        weights = self._adapt(
            task.context, support, meta_init, meta_init, log_inner_lr
        )
        items, label, _ = self._rows(task.query_set)
        logits = self._oracle.score(
            self._embedded[task.context], items, weights
        )
        return (np.logaddexp(0.0, logits) - label * logits).mean()

    def meta_gradient(self, tasks, state, step=1e-5):
        at = [np.array(v, np.float64) for v in state.inputs().values()]
        slopes = [np.empty_like(array) for array in at]
        for array, slope in zip(at, slopes, strict=True):
            for place in np.ndindex(*array.shape):
                value, sums = array[place], []
                for moved in (value + step, value - step):
                    array[place] = moved
                    sums.append(sum(self._loss(task, *at) for task in tasks))
                array[place] = value
                slope[place] = (sums[0] - sums[1]) / (2 * step)
        losses = np.array([self._loss(task, *at) for task in tasks])
        return MetaGradient(*slopes, losses)


def test_scores_equal_the_stream_in_numpy(model, users, arrivals):
    found = score_arrivals(model, CATALOG, users, *arrivals, CONFIG)
    streamed = [
        NumpyUser(*columns)
        for columns in zip(
            arrivals[0],
            users.item_row,
            users.label,
            users.position,
            arrivals[1],
            strict=True,
        )
    ]
    expected = score_online(
        NumpyModel(model, users),
        streamed,
        exported_state(model),
        192,
        CONFIG,
        Guard.of(model.inner_loop.settings(), model.partition.size),
    )
    assert expected.guarded["loss"] > 0
    assert found.progress.promoted == expected.progress.promoted > 0
    assert found.progress.refused == expected.progress.refused
    assert found.progress.max_shift > 0.04
    for user, position in enumerate(users.position):
        windows = stream_windows(position)
        scores = [
            found.windows[window.number][user, : len(window.rows)]
            for window in windows
        ]
        np.testing.assert_allclose(
            np.concatenate([[], *scores]), expected.scores[user], atol=1e-3
        )


def test_without_meta_updates_it_is_the_stream_in_step(
    model, users, arrivals, monkeypatch
):
    """`score_stream` goes through the windows of all users side by side."""
    # It has no guard, and an untrained inner loop overshoots now and then.
    monkeypatch.setattr(Guard, "of", lambda *_: None)
    found = score_arrivals(model, CATALOG, users, *arrivals, OFF)
    expected = score_stream(
        TwoTowerScorer(model, CATALOG),
        users.ids,
        stream_steps(users),
        [Learning.ALWAYS],
    )[Learning.ALWAYS]
    assert len(found.windows) == len(expected) == 4
    for number, (a, b) in enumerate(zip(found.windows, expected, strict=True)):
        for user, position in enumerate(users.position):
            windows = stream_windows(position)
            if number < len(windows):
                size = len(windows[number].rows)
                np.testing.assert_allclose(
                    a[user, :size], b[user, :size], rtol=1e-4, atol=1e-5
                )


def test_users_are_scored_again_from_another_meta_state(model, users, arrivals):
    stream = score_arrivals(model, CATALOG, users, *arrivals, CONFIG)
    newest = stream.progress.current
    again = score_arrivals(
        model, CATALOG, users, *arrivals, OFF, meta_state=newest
    )
    assert again.progress.current is newest
    assert np.abs(again.windows[0] - stream.windows[0]).max() > 1e-4
