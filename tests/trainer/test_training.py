"""The training loop on a learner whose steps are known in closed form."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.config import TrainerConfig
from trainer.errors import DivergenceError
from trainer.stream_validation import StreamFigures
from trainer.training import adapted_objective, train, zero_shot_objective

RATE = 0.5
MOMENTUM = 0.8
STEPS = 3


class Downhill(tfrs.models.Model):
    """Loss equals its one parameter: each step of Adam is one rate down."""

    def __init__(self, broken_from=math.inf):
        super().__init__()
        self.value = tf.Variable(0.0)
        self._broken_from = broken_from
        self._step = tf.Variable(0.0, trainable=False)

    def compute_loss(self, inputs, training=False):
        self._step.assign_add(1.0)
        broken = self._step >= self._broken_from
        return self.value * tf.where(broken, math.nan, 1.0)


class Script:
    """Stands for the validation: figures are given in advance."""

    def __init__(self, learner, values):
        self._learner = learner
        self._values = iter(values)
        self.seen = []

    def evaluate(self):
        self.seen.append(self._learner.value.numpy())
        return StreamFigures({"offline": next(self._values)}, {})


def averages(steps):
    """The moving average after each step, from step 0 on."""
    value, result = 0.0, [0.0]
    for step in range(1, steps + 1):
        value = MOMENTUM * value + (1 - MOMENTUM) * -RATE * step
        result.append(value)
    return result


def run(values, learner=None, log_dir=None, **config):
    learner = learner or Downhill()
    script = Script(learner, values)
    result = train(
        learner,
        tf.data.Dataset.from_tensors(0.0).repeat(),
        script,
        objective=lambda figures: figures.auc["offline"],
        config=TrainerConfig(
            **{
                "outer_lr": RATE,
                "ema_momentum": MOMENTUM,
                "steps_per_evaluation": STEPS,
                "max_steps": 30,
                "patience": 2,
                **config,
            }
        ),
        log_dir=log_dir,
    )
    return learner, script, result


def test_training_stops_by_patience_and_keeps_the_best():
    learner, script, result = run([1.0, 3.0, 2.0, 3.0, 9.0])
    assert len(script.seen) == 4
    assert (result.best_step, result.steps) == (2 * STEPS, 4 * STEPS)
    assert result.figures.auc["offline"] == 3.0
    assert learner.value.numpy() == script.seen[1]


def test_the_moving_average_is_judged_and_training_goes_on_without_it():
    _, script, _ = run([1.0, 2.0, 3.0, 2.0, 1.0])
    np.testing.assert_allclose(
        script.seen, averages(5 * STEPS)[STEPS::STEPS], rtol=1e-4
    )


def test_training_that_gets_better_and_better_ends_at_max_steps():
    _, script, result = run(range(100), max_steps=12)
    assert len(script.seen) == 4
    assert (result.best_step, result.steps) == (12, 12)


@pytest.mark.parametrize("max_steps", [2, 5, 7])
def test_max_steps_are_taken_and_the_last_of_them_judged(max_steps):
    learner, script, result = run(range(100), max_steps=max_steps)
    assert (result.steps, result.best_step) == (max_steps, max_steps)
    judged = [*range(STEPS, max_steps, STEPS), max_steps]
    expected = [averages(max_steps)[step] for step in judged]
    np.testing.assert_allclose(script.seen, expected, rtol=1e-4)
    assert learner.value.numpy() == script.seen[-1]


def test_patience_ends_training_before_a_shorter_last_look():
    _, script, result = run([3.0, 2.0, 1.0, 9.0], max_steps=10)
    assert (len(script.seen), result.steps) == (3, 9)


def test_loss_that_is_no_number_stops_training_by_its_step():
    with pytest.raises(
        DivergenceError, match=r"nan at outer step 5,.*0\.5.*none was written"
    ):
        run(range(100), learner=Downhill(broken_from=5))


def test_tensorboard_gets_the_figures(tmp_path):
    run([0.7], max_steps=1, log_dir=str(tmp_path))
    events = [
        value
        for path in tmp_path.glob("**/*tfevents*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    found = {
        value.tag: tf.make_ndarray(value.tensor).item()
        for value in events
        if "meta_valid" in value.tag
    }
    assert found == pytest.approx({"epoch_meta_valid/auc_offline": 0.7})


def test_objectives_weigh_auc_and_wgauc_alike():
    figures = StreamFigures(
        auc={"joint": 0.6, "offline": 0.7, "online": 0.8},
        wgauc={"joint": 0.5, "offline": 0.6, "online": 0.9},
    )
    assert zero_shot_objective(figures) == pytest.approx(0.55)
    assert adapted_objective(figures) == pytest.approx(0.75)
