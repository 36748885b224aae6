"""How fast Keras' `fit` trains, with what it takes to draw the tasks."""

import time
from typing import Any

import tf_keras

from benchmarks.training_speed.steps import compiled
from benchmarks.training_speed.synthetic import QUERY_SET, SPACE, SUPPORT, Log
from trainer.config import TrainerConfig
from trainer.outer_loop import MetaLearner
from trainer.partition import meta_learning
from trainer.tasks import sample_tasks
from trainer.two_tower import PartitionedTwoTower


def fit_rate(users: int, steps: int = 40) -> float:
    """Tasks per second of `fit`, drawing of tasks included."""
    config = TrainerConfig(
        meta_batch_size=users,
        support_rows=SUPPORT,
        query_rows=QUERY_SET,
        first_support_share=1.0,
    )
    log = Log()
    model = PartitionedTwoTower(SPACE, config)
    with meta_learning(model.user_specific_layers):
        learner = MetaLearner(model, log.catalog(), config)
        compiled(learner)
        times = Times()
        learner.fit(
            sample_tasks(log.episodes(), SPACE, config),
            epochs=4,
            steps_per_epoch=steps,
            callbacks=[times],
            verbose=0,
        )
    # The first epoch makes the users and traces the step.
    return users * steps / min(times.seconds[1:])


class Times(tf_keras.callbacks.Callback):
    """Seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops it."""
        self.seconds.append(time.perf_counter() - self._start)
