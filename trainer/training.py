"""Trains a learner until meta_valid stops getting better; keeps the best."""

import dataclasses
import math

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from serving.contract.regimes import JOINT, OFFLINE, ONLINE
from trainer.checkpoints import Checkpoints, TrainingState
from trainer.config import TrainerConfig
from trainer.keep_best import KeepBest, Objective
from trainer.stream_validation import ScorerValidation, StreamFigures


def zero_shot_objective(figures: StreamFigures) -> float:
    """What plain training is stopped by: AUC and wGAUC from features alone."""
    return (figures.auc[JOINT] + figures.wgauc[JOINT]) / 2


def adapted_objective(figures: StreamFigures) -> float:
    """What meta-learning is stopped by: AUC and wGAUC of adapted users."""
    parts = [
        figure[name]
        for figure in (figures.auc, figures.wgauc)
        for name in (OFFLINE, ONLINE)
    ]
    return sum(parts) / len(parts)


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """How a training ended.

    Attributes:
        figures: On meta_valid, of the parameters that were kept.
        best_step: Outer step they are from.
        steps: Outer steps taken.
    """

    figures: StreamFigures
    best_step: int
    steps: int


def train(
    learner: tfrs.models.Model,
    batches: tf.data.Dataset,
    validation: ScorerValidation,
    objective: Objective,
    config: TrainerConfig,
    log_dir: str | None = None,
    checkpoint_dir: str | None = None,
) -> TrainingResult:
    """Trains; afterwards the learner has its best parameters.

    Args:
        learner: Its `compute_loss` takes an element of `batches`.
        batches: Without end, and the same ones each time.
        validation: Judges the model inside the learner.
        objective: What of the figures decides.
        config: Steps, patience, step size, moving average.
        log_dir: Where TensorBoard's events go, if anywhere.
        checkpoint_dir: Folder of this training alone, written to after each
            evaluation; what it holds already is gone on from. A training
            that is killed between two evaluations repeats those steps.

    Raises:
        DivergenceError: The loss is not finite any more.
        EpisodeDataError: meta_valid can't judge.
    """
    learner.compile(
        optimizer=tf_keras.optimizers.Adam(
            config.outer_lr, use_ema=True, ema_momentum=config.ema_momentum
        )
    )
    state = TrainingState()
    checkpoints = None
    if checkpoint_dir:
        checkpoints = Checkpoints(checkpoint_dir, learner, state)
    keep_best = KeepBest(validation, objective, config, state, checkpoints)
    callbacks: list[tf_keras.callbacks.Callback] = [keep_best]
    if log_dir:
        callbacks.append(tf_keras.callbacks.TensorBoard(log_dir))
    if keep_best.is_over or state.steps >= config.max_steps:
        # It ended before the kill; this makes the learner's variables.
        validation.evaluate()
    # Keras takes as many steps in each epoch: what is left for a shorter last
    # one, down to max_steps, is a second fit.
    while not keep_best.is_over and state.steps < config.max_steps:
        left = config.max_steps - state.steps
        steps = min(config.steps_per_evaluation, left)
        evaluated = math.ceil(state.steps / config.steps_per_evaluation)
        learner.fit(
            batches.skip(state.steps),
            initial_epoch=evaluated,
            epochs=evaluated + left // steps,
            steps_per_epoch=steps,
            callbacks=callbacks,
            verbose=0,
        )
    assert state.best is not None
    learner.set_weights(state.best.weights)
    return TrainingResult(state.best.figures, state.best.step, state.steps)
