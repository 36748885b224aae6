"""Trains a learner until meta_valid stops getting better; keeps the best.

What is judged, kept and exported is the moving average of the parameters: on
logs of this size it generalizes clearly better than any single step.
"""

import dataclasses
import logging
import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from trainer.config import TrainerConfig
from trainer.errors import DivergenceError, EpisodeDataError
from trainer.stream_validation import StreamFigures, StreamValidation

_LOG = logging.getLogger(__name__)

# The larger the better.
Objective = Callable[[StreamFigures], float]


def zero_shot_objective(figures: StreamFigures) -> float:
    """What plain training is stopped by: AUC and wGAUC from features alone."""
    return (figures.auc["joint"] + figures.wgauc["joint"]) / 2


def adapted_objective(figures: StreamFigures) -> float:
    """What meta-learning is stopped by: AUC and wGAUC of adapted users."""
    parts = [
        figure[name]
        for figure in (figures.auc, figures.wgauc)
        for name in ("offline", "online")
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
    validation: StreamValidation,
    objective: Objective,
    config: TrainerConfig,
    log_dir: str | None = None,
) -> TrainingResult:
    """Trains; afterwards the learner has its best parameters.

    Args:
        learner: Its `compute_loss` takes an element of `batches`.
        batches: Without end.
        validation: Judges the model inside the learner.
        objective: What of the figures decides.
        config: Steps, patience, step size, moving average.
        log_dir: Where TensorBoard's events go, if anywhere.

    Raises:
        DivergenceError: The loss is not finite any more.
        EpisodeDataError: meta_valid can't judge.
    """
    learner.compile(
        optimizer=tf_keras.optimizers.Adam(
            config.outer_lr, use_ema=True, ema_momentum=config.ema_momentum
        )
    )
    steps = min(config.steps_per_evaluation, config.max_steps)
    keep_best = _KeepBest(validation, objective, config, steps)
    callbacks: list[tf_keras.callbacks.Callback] = [keep_best]
    if log_dir:
        callbacks.append(tf_keras.callbacks.TensorBoard(log_dir))
    learner.fit(
        batches,
        epochs=config.max_steps // steps,
        steps_per_epoch=steps,
        callbacks=callbacks,
        verbose=0,
    )
    return keep_best.restore()


class _KeepBest(tf_keras.callbacks.Callback):
    """Judges the averaged parameters now and then, and remembers the best."""

    def __init__(
        self,
        validation: StreamValidation,
        objective: Objective,
        config: TrainerConfig,
        steps_per_evaluation: int,
    ) -> None:
        super().__init__()
        self._validation = validation
        self._objective = objective
        self._config = config
        self._steps_per_evaluation = steps_per_evaluation
        self._best: tuple[float, TrainingResult, Any] | None = None
        self._steps = 0

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Judges, remembers, stops."""
        logs = logs if logs is not None else {}
        self._steps = (epoch + 1) * self._steps_per_evaluation
        loss = float(logs.get("loss", math.nan))
        if not math.isfinite(loss):
            raise DivergenceError(
                f"The loss is {loss} within the {self._steps} outer steps up "
                f"to now. Lower outer_lr ({self._config.outer_lr}) or raise "
                "item_l2; the last blessed model stays in service."
            )
        latest = self.model.get_weights()
        self.model.optimizer.finalize_variable_values(
            self.model.trainable_variables
        )
        figures = self._validation.evaluate()
        value = self._objective(figures)
        if math.isnan(value):
            raise EpisodeDataError(
                "No window of meta_valid holds both classes, so training "
                "can't be judged. More users or events are needed, or another "
                "label rule in the dataset spec."
            )
        for figure in ("auc", "wgauc"):
            for name, number in getattr(figures, figure).items():
                logs[f"meta_valid/{figure}_{name}"] = number
        better = self._best is None or value > self._best[0]
        _LOG.info(
            "step %5d  loss %.4f  meta_valid AUC/wGAUC: %s%s",
            self._steps,
            loss,
            figures,
            "  (best)" if better else "",
        )
        if better:
            result = TrainingResult(figures, self._steps, self._steps)
            self._best = value, result, self.model.get_weights()
        self.model.set_weights(latest)
        assert self._best is not None
        since = self._steps - self._best[1].best_step
        if since >= self._config.patience * self._steps_per_evaluation:
            self.model.stop_training = True

    def restore(self) -> TrainingResult:
        """Gives the model its best parameters back."""
        assert self._best is not None
        _, result, weights = self._best
        self.model.set_weights(weights)
        return dataclasses.replace(result, steps=self._steps)
