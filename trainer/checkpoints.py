"""Checkpoints of a training, so that one that was killed goes on.

One file holds everything that the rest of the training depends on: the
parameters, the optimizer with its moving averages, the state of the random
numbers, how many steps were taken, and the best parameters so far. Batches
depend on the seed and the step alone (`trainer.tasks`). A training that goes
on therefore ends with the parameters of one that was never stopped.
"""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from trainer.stream_validation import StreamFigures

# The one before the last is there while the last is being written.
_KEPT = 2
_META = "meta"


@dataclasses.dataclass(frozen=True)
class Best:
    """The best parameters so far.

    Attributes:
        value: Of the objective.
        step: Outer step they are from.
        figures: On meta_valid.
        weights: What the learner's `get_weights` gave.
    """

    value: float
    step: int
    figures: StreamFigures
    weights: list[NDArray[Any]]


class TrainingState(tf.train.experimental.PythonState):
    """How far a training is, as part of a checkpoint.

    Attributes:
        steps: Outer steps taken.
        best: None before the first evaluation.
    """

    def __init__(self) -> None:
        """Starts before the first step."""
        self.steps = 0
        self.best: Best | None = None

    def serialize(self) -> bytes:
        """Returns what `deserialize` reads."""
        meta: dict[str, Any] = {"steps": self.steps}
        weights: list[NDArray[Any]] = []
        if self.best is not None:
            meta["value"] = self.best.value
            meta["step"] = self.best.step
            meta["figures"] = dataclasses.asdict(self.best.figures)
            weights = self.best.weights
        file = io.BytesIO()
        np.savez(file, *weights, **{_META: np.array(json.dumps(meta))})
        return file.getvalue()

    def deserialize(self, serialized: bytes) -> None:
        """Takes over a state from a checkpoint."""
        with np.load(io.BytesIO(serialized)) as arrays:
            meta = json.loads(str(arrays[_META]))
            # savez calls what it isn't told the name of arr_0, arr_1, ...
            weights = [arrays[f"arr_{i}"] for i in range(len(arrays) - 1)]
        self.steps = meta["steps"]
        self.best = None
        if "figures" in meta:
            figures = StreamFigures(**meta["figures"])
            self.best = Best(meta["value"], meta["step"], figures, weights)


class Checkpoints:
    """The checkpoints of one training in a folder."""

    def __init__(
        self, folder: str, learner: tf_keras.Model, state: TrainingState
    ) -> None:
        """Takes up the newest checkpoint there is.

        Variables that don't exist yet get their values when they are made.

        Args:
            folder: Of this training alone: what else it holds is taken for
                an earlier part of the same.
            learner: Compiled.
            state: Is overwritten by that of the checkpoint.
        """
        self._manager = tf.train.CheckpointManager(
            tf.train.Checkpoint(
                learner=learner, optimizer=learner.optimizer, state=state
            ),
            folder,
            max_to_keep=_KEPT,
        )
        self._manager.restore_or_initialize()

    @property
    def latest(self) -> str | None:
        """Path of the newest checkpoint, if there is one."""
        path: str | None = self._manager.latest_checkpoint
        return path

    def save(self) -> None:
        """Writes a checkpoint; a kill meanwhile leaves the one before."""
        self._manager.save()
