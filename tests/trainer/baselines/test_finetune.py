"""The search of the inner loop's settings."""

import numpy as np
import pytest

from tests.helpers import tiny_world
from trainer.baselines.finetune import (
    InnerLoopSettings,
    draw_settings,
    try_inner_loops,
)
from trainer.stream_validation import StreamValidation

CATALOG = tiny_world.make_catalog()


def make_validation(model):
    users = [tiny_world.make_episode(range(45), seed=s) for s in range(6)]
    return StreamValidation(
        model, tiny_world.as_dataset(users), tiny_world.SPACE, CATALOG, 10
    )


def test_settings_reach_the_parameters_that_they_are_for():
    model = tiny_world.make_model(tiny_world.tiny_config())
    InnerLoopSettings(-1.0, 2.0, 3.0, -4.0, 0.25).apply(model)
    loop = model.inner_loop
    assert (loop.log_inner_lr.numpy() == -1.0).all()
    assert (loop.log_curvature.numpy() == -4.0).all()
    assert loop.carried_share == 0.25
    precision = loop.log_precision.numpy()
    for parameter in model.partition.parameters:
        own = precision[parameter.offset :][: parameter.size]
        assert set(own) == {2.0 if parameter.size == 1 else 3.0}


def test_each_trial_is_what_the_stream_says_with_these_settings():
    model = tiny_world.make_model(tiny_world.tiny_config())
    validation = make_validation(model)
    candidates = draw_settings(3, seed=5)
    trials = try_inner_loops(model, validation, candidates)
    assert [trial.settings for trial in trials] == candidates
    assert len({trial.offline for trial in trials}) == 3
    for trial in trials:
        trial.settings.apply(model)
        figures = validation.evaluate()
        for name in ("offline", "online"):
            expected = np.mean([figures.auc[name], figures.wgauc[name]])
            assert getattr(trial, name) == pytest.approx(expected)


def test_the_same_seed_draws_the_same_settings():
    assert draw_settings(4, seed=1) == draw_settings(4, seed=1)
    assert draw_settings(4, seed=1) != draw_settings(4, seed=2)
