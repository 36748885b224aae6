"""A training that was killed, gone on with, against one that never was."""

import logging
import re

import numpy as np
import pytest
import tensorflow as tf

from tests.helpers import tiny_world
from tests.trainer.test_training import Downhill, Script
from trainer.checkpoints import Best, TrainingState
from trainer.config import TrainerConfig
from trainer.errors import DivergenceError
from trainer.stages import StageData, train_offline
from trainer.stream_validation import StreamFigures, StreamValidation
from trainer.training import train


class KilledError(Exception):
    """Stands for a SIGKILL."""


def killed_at(monkeypatch, evaluation):
    """Makes the given evaluation of a training its last moment."""
    evaluate = StreamValidation.evaluate
    calls = iter(range(1, evaluation + 1))

    def evaluate_or_die(self):
        if next(calls) == evaluation:
            raise KilledError
        return evaluate(self)

    monkeypatch.setattr(StreamValidation, "evaluate", evaluate_or_die)


def make_data():
    users = [
        tiny_world.make_episode(range(40), seed=seed) for seed in range(24)
    ]
    return StageData(
        meta_train=tiny_world.as_dataset(users[:18]),
        meta_valid=tiny_world.as_dataset(users[18:]),
        space=tiny_world.SPACE,
        catalog=tiny_world.make_catalog(),
    )


CONFIG = tiny_world.tiny_config(
    dropout=0.3,
    item_id_dropout=0.3,
    num_inner_steps=1,
    # The last look comes after two steps.
    max_steps=11,
    steps_per_evaluation=3,
    outer_lr=0.05,
    seed=5,
)


@pytest.mark.fault
def test_killed_training_ends_with_the_parameters_of_one_that_was_not(
    tmp_path, monkeypatch
):
    expected_model, expected = train_offline(make_data(), CONFIG)
    with monkeypatch.context() as patch:
        killed_at(patch, evaluation=3)
        with pytest.raises(KilledError):
            train_offline(make_data(), CONFIG, checkpoint_dir=str(tmp_path))
    model, result = train_offline(
        make_data(), CONFIG, checkpoint_dir=str(tmp_path)
    )
    assert result == expected
    for found, wanted in zip(
        model.variables, expected_model.variables, strict=True
    ):
        np.testing.assert_array_equal(found, wanted, err_msg=wanted.name)


def run(folder, learner, figures, **config):
    script = Script(learner, figures)
    result = train(
        learner,
        tf.data.Dataset.from_tensors(0.0).repeat(),
        script,
        objective=lambda figures: figures.auc["offline"],
        config=TrainerConfig(
            max_steps=30, steps_per_evaluation=3, patience=2, **config
        ),
        checkpoint_dir=str(folder),
    )
    return learner, script, result


def test_training_that_was_over_before_the_kill_is_not_repeated(tmp_path):
    first, _, result = run(tmp_path, Downhill(), [1.0, 3.0, 2.0, 2.0])
    learner = Downhill()
    again, script, same = run(tmp_path, learner, [9.0])
    # One look makes the variables of a model that was never called.
    assert len(script.seen) == 1
    assert same == result
    assert again.value.numpy() == first.value.numpy()


def test_divergence_names_the_batch_and_keeps_the_last_checkpoint(tmp_path):
    learner = Downhill(broken_from=8)
    with pytest.raises(DivergenceError) as error:
        run(tmp_path, learner, range(100), seed=4)
    message = str(error.value)
    assert "at outer step 8, whose batch is number 8 of seed 4" in message
    latest = tf.train.latest_checkpoint(str(tmp_path))
    assert latest is not None
    assert latest in message
    restored = TrainingState()
    tf.train.Checkpoint(state=restored).restore(latest).expect_partial()
    assert restored.steps == 6


def test_progress_tells_steps_rate_time_left_and_the_best(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="trainer.progress"):
        run(tmp_path, Downhill(), [0.5, 0.7, 0.6, 0.6])
    lines = [r.message for r in caplog.records if r.name == "trainer.progress"]
    assert len(lines) == 4
    pattern = (
        r"step 9 of 30  [\d.]+/s  at most \d+:\d\d left  "
        r"meta_valid 0\.6000  best 0\.7000 at 6"
    )
    assert re.fullmatch(pattern, lines[2])


def test_state_is_read_back_as_it_was_written():
    state = TrainingState()
    state.steps = 7
    figures = StreamFigures({"joint": 0.5}, {"joint": float("nan")})
    weights = [np.arange(3.0), np.float32(2.5), np.zeros((2, 0))]
    state.best = Best(0.25, 4, figures, weights)
    found = TrainingState()
    found.deserialize(state.serialize())
    assert (found.steps, found.best.value, found.best.step) == (7, 0.25, 4)
    assert found.best.figures.auc == figures.auc
    assert np.isnan(found.best.figures.wgauc["joint"])
    for one, other in zip(found.best.weights, weights, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    fresh = TrainingState()
    fresh.deserialize(TrainingState().serialize())
    assert (fresh.steps, fresh.best) == (0, None)
