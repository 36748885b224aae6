"""The Keras callback that judges, remembers the best, and stops.

What is judged, kept and exported is the moving average of the parameters: on
logs of this size it generalizes clearly better than any single step.
"""

import logging
import math
from collections.abc import Callable
from typing import Any

import tf_keras
from numpy.typing import NDArray

from trainer.checkpoints import Best, Checkpoints, TrainingState
from trainer.config import TrainerConfig
from trainer.errors import DivergenceError, EpisodeDataError
from trainer.progress import TrainingProgress
from trainer.stream_validation import ScorerValidation, StreamFigures

_LOG = logging.getLogger(__name__)

# The larger the better.
Objective = Callable[[StreamFigures], float]


class KeepBest(tf_keras.callbacks.Callback):
    """Judges the averaged parameters now and then, and remembers the best.

    An epoch of Keras is the steps from one evaluation to the next.
    """

    def __init__(
        self,
        validation: ScorerValidation,
        objective: Objective,
        config: TrainerConfig,
        state: TrainingState,
        checkpoints: Checkpoints | None,
    ) -> None:
        """Prepares.

        Args:
            validation: Judges the model inside the learner.
            objective: What of the figures decides.
            config: Steps and patience.
            state: How far the training is; kept up to date.
            checkpoints: Where it is saved after each evaluation, if anywhere.
        """
        super().__init__()
        self._validation = validation
        self._objective = objective
        self._config = config
        self._state = state
        self._checkpoints = checkpoints
        self._latest: list[NDArray[Any]] = []
        self._progress = TrainingProgress(config.max_steps, state.steps)

    @property
    def is_over(self) -> bool:
        """Whether there was no better evaluation for too long."""
        state = self._state
        if state.best is None:
            return False
        patience = self._config.patience * self._config.steps_per_evaluation
        return state.steps - state.best.step >= patience

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Counts the step; stops at a loss that is no number.

        Raises:
            DivergenceError: The loss is not finite.
        """
        del batch
        self._state.steps += 1
        loss = float((logs or {}).get("total_loss", math.nan))
        if not math.isfinite(loss):
            raise DivergenceError(self._divergence(loss))

    def on_epoch_end(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Judges, remembers, saves, stops.

        Raises:
            EpisodeDataError: meta_valid holds one class only.
        """
        del epoch
        logs = logs if logs is not None else {}
        state = self._state
        self._latest = self.model.get_weights()
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
        if state.best is None or value > state.best.value:
            weights = self.model.get_weights()
            state.best = Best(value, state.steps, figures, weights)
        self.model.set_weights(self._latest)
        _LOG.info(
            "step %d  loss %.4f  meta_valid AUC/wGAUC: %s",
            state.steps,
            logs.get("total_loss", math.nan),
            figures,
        )
        self._progress.report(
            state.steps, value, state.best.value, state.best.step
        )
        if self._checkpoints:
            self._checkpoints.save()
        if self.is_over:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Takes back the moving average that Keras leaves after a fit.

        A further fit goes on from the parameters themselves.
        """
        del logs
        self.model.set_weights(self._latest)

    def _divergence(self, loss: float) -> str:
        config, step = self._config, self._state.steps
        checkpoint = self._checkpoints and self._checkpoints.latest
        kept = f"kept in {checkpoint}" if checkpoint else "none was written"
        return (
            f"The loss is {loss} at outer step {step}, whose batch is number "
            f"{step} of seed {config.seed}. Lower outer_lr "
            f"({config.outer_lr}) or raise item_l2 ({config.item_l2}); "
            "without a change the same batch comes again. Last checkpoint: "
            f"{kept}. The last blessed model stays in service."
        )
