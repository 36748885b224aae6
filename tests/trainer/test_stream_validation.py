"""The stream in one batch against a loop over users and windows."""

import math

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from serving.contract.support import SupportEvent, merge_support
from tests.helpers import tiny_world
from trainer.errors import EpisodeDataError
from trainer.stream_validation import StreamValidation

CATALOG = tiny_world.make_catalog()


def make_users():
    """Users of 5, 30, 47 and 120 events; some events have several rows."""
    return [
        tiny_world.make_episode(
            np.repeat(np.arange(events), rows), seed=10 + seed
        )
        for seed, (events, rows) in enumerate(
            [(30, 1), (47, 2), (120, 1), (33, 5), (5, 1)]
        )
    ]


def validation(model, users, max_users=100):
    return StreamValidation(
        model,
        tiny_world.as_dataset(users),
        tiny_world.SPACE,
        CATALOG,
        max_users,
    )


class SlowUser:
    """One user's stream as the gateway works: one window after the other."""

    def __init__(self, model, episode):
        self._model = model
        self._episode = episode
        ids = {
            name: tf.constant(episode[name])[tf.newaxis]
            for name in ("gender", "hobbies")
        }
        ids["user_row"] = tf.zeros([1, 1], tf.int64)
        self._user = model.user_tower(ids)
        self._reservoir, self._count = (), 0

    def rows(self, start):
        """Rows of the ten events from a position on."""
        position = self._episode["position"]
        return np.flatnonzero((position >= start) & (position < start + 10))

    def labels(self, start):
        return self._episode["label"][self.rows(start)]

    def score(self, weights, start):
        items = self._embed(self._episode["item_row"][self.rows(start)])
        return self._model.score(self._user, items, weights).numpy()[0]

    def learn(self, weights, start):
        new = [
            SupportEvent(
                str(self._episode["item_row"][row]), self._episode["label"][row]
            )
            for row in self.rows(start)
        ]
        merged = merge_support(self._reservoir, new, self._count)
        self._reservoir, self._count = merged.reservoir, merged.count
        return self._model.adapt(
            self._user,
            self._embed([int(event.item_id) for event in merged.events]),
            tf.constant([[event.label for event in merged.events]]),
            tf.ones([1, len(merged.events)]),
            weights,
        )

    def _embed(self, rows):
        return self._model.embed_items(CATALOG.ids, tf.constant([rows]))


def slow_figures(model, users):
    """(AUC, wGAUC) by name."""
    labels = []
    scores = {"joint": [], "offline": [], "online": []}
    for episode in users:
        user = SlowUser(model, episode)
        joint = model.initial_weights(1)
        online = offline = user.learn(joint, 0)
        for start in range(10, 90, 10):
            if not len(user.rows(start)):
                break
            labels.append(user.labels(start))
            scores["joint"].append(user.score(joint, start))
            scores["offline"].append(user.score(offline, start))
            scores["online"].append(user.score(online, start))
            online = user.learn(online, start)
    return {name: sklearn_figures(labels, s) for name, s in scores.items()}


def sklearn_figures(labels, scores):
    inside = [
        roc_auc_score(label, score)
        for label, score in zip(labels, scores, strict=True)
        if len(set(label)) == 2
    ]
    pooled = roc_auc_score(np.concatenate(labels), np.concatenate(scores))
    return pooled, np.mean(inside)


def test_figures_equal_a_loop_over_users_and_windows():
    model = tiny_world.make_model(tiny_world.tiny_config())
    users = make_users()
    found = validation(model, users).evaluate()
    expected = slow_figures(model, users)
    assert len({auc for auc, _ in expected.values()}) == 3
    for name, (auc, wgauc) in expected.items():
        assert found.auc[name] == pytest.approx(auc, abs=1e-6)
        assert found.wgauc[name] == pytest.approx(wgauc, abs=1e-6)


def test_the_model_is_judged_as_it_is_now():
    model = tiny_world.make_model(tiny_world.tiny_config())
    stream = validation(model, make_users()[:2])
    before = stream.evaluate()
    assert stream.evaluate() == before
    for variable in model.user_tower.variables:
        variable.assign(-variable)
    after = stream.evaluate()
    expected = slow_figures(model, make_users()[:2])
    assert after.auc["online"] == pytest.approx(expected["online"][0])
    assert after.auc["joint"] != before.auc["joint"]


def test_only_the_first_users_are_looked_at():
    model = tiny_world.make_model(tiny_world.tiny_config())
    users = make_users()
    found = validation(model, users, max_users=2).evaluate()
    assert found == validation(model, users[:2]).evaluate()
    assert not math.isnan(found.auc["joint"])


def test_no_user_to_judge_is_an_error_that_says_what_is_needed():
    model = tiny_world.make_model(tiny_world.tiny_config())
    with pytest.raises(EpisodeDataError, match="30 events"):
        validation(model, [])
    with pytest.raises(EpisodeDataError, match="after its first support"):
        validation(model, [tiny_world.make_episode(range(10))])
