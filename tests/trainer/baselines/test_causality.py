"""No baseline learns from what comes after the events it is judged on."""

import numpy as np
import pytest

from tests.helpers import tiny_world
from trainer.baselines.fast_two_tower import FastTwoTower
from trainer.baselines.history import HistoryScorer, HistoryTwoTower
from trainer.baselines.maml_all import MamlAll, MamlScorer
from trainer.baselines.oracle import oracle_scores
from trainer.baselines.retrained_two_tower import RetrainSettings
from trainer.config import TrainerConfig
from trainer.scorer import Learning, score_stream
from trainer.stages import StageData
from trainer.stream import StreamUsers, stream_steps

CATALOG = tiny_world.make_catalog()
CONFIG = tiny_world.tiny_config(outer_lr=0.1, ema_momentum=0.5)
# Labels are turned from this event on: in the second judged window.
TURNED_FROM = 25


def make_users(turned):
    episodes = []
    for seed, events in enumerate((40, 37, 34)):
        episode = dict(tiny_world.make_episode(range(events), seed=seed))
        label = episode["label"].copy()
        if turned:
            label[TURNED_FROM:] = 1 - label[TURNED_FROM:]
        episodes.append(episode | {"label": label})
    dataset = tiny_world.as_dataset(episodes)
    return StreamUsers.read(dataset, tiny_world.SPACE, 10)


def history(users, steps):
    model = HistoryTwoTower(tiny_world.SPACE, CATALOG, CONFIG)
    return by_scorer(HistoryScorer(model), model, users, steps)


def maml_all(users, steps):
    maml = MamlAll(FastTwoTower(tiny_world.SPACE, CATALOG, CONFIG), CONFIG)
    return by_scorer(MamlScorer(maml), maml, users, steps)


def by_scorer(scorer, model, users, steps):
    """Scores with random parameters, after a first call that makes them."""
    scorer.learn(scorer.begin(users.ids), steps[0].support)
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0.0, 0.5, variable.shape))
    return score_stream(scorer, users.ids, steps)[Learning.ALWAYS]


def oracle(users, steps):
    train = [tiny_world.make_episode(range(40), seed=s) for s in (7, 8)]
    data = StageData(
        meta_train=tiny_world.as_dataset(train),
        meta_valid=tiny_world.as_dataset(train),
        space=tiny_world.SPACE,
        catalog=CATALOG,
    )
    config = TrainerConfig(
        **{**CONFIG.__dict__, "dropout": 0.0, "item_id_dropout": 0.0}
    )
    settings = RetrainSettings(batch_rows=64, first_steps=6, steps_per_window=4)
    return oracle_scores(data, users, steps, config, settings)


@pytest.mark.parametrize("score", [history, maml_all, oracle])
def test_scores_depend_on_the_past_and_on_nothing_else(score):
    scores = []
    for turned in (False, True):
        users = make_users(turned)
        scores.append(score(users, stream_steps(users)))
    as_was, as_turned = scores
    # Windows are events 10-19, 20-29 and 30-39; only the last one comes after
    # an event that was turned.
    for window in range(2):
        np.testing.assert_array_equal(as_was[window], as_turned[window])
    assert np.abs(as_was[2] - as_turned[2]).max() > 1e-4
