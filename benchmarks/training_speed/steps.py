"""The kinds of steps that are timed: plain, ours, and user by user."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras

from benchmarks.training_speed.per_user import PerUserDriver
from benchmarks.training_speed.synthetic import SPACE
from trainer.baselines.joint import JointLearner
from trainer.config import TrainerConfig
from trainer.outer_loop import MetaLearner
from trainer.partition import meta_learning
from trainer.tasks import LabelledRows, Tasks
from trainer.two_tower import PartitionedTwoTower


def compiled(learner: tf_keras.Model) -> Callable[[Any], Any]:
    config = TrainerConfig()
    learner.compile(
        tf_keras.optimizers.Adam(
            config.outer_lr, use_ema=True, ema_momentum=config.ema_momentum
        )
    )
    return tf.function(learner.train_step)


def plain_step(catalog: Any, tasks: Tasks) -> Callable[[], Any]:
    model = PartitionedTwoTower(SPACE, TrainerConfig())
    step = compiled(JointLearner(model, catalog))
    rows = LabelledRows(
        *(
            tf.concat(both, axis=1)
            for both in zip(tasks.support, tasks.query_set, strict=True)
        )
    )
    return lambda: step((tasks.user_ids, rows))


def meta_step(
    catalog: Any, tasks: Tasks, values: dict[str, Any]
) -> Callable[[], Any]:
    config = TrainerConfig(**values)
    model = PartitionedTwoTower(SPACE, config)
    with meta_learning(model.user_specific_layers):
        step = compiled(MetaLearner(model, catalog, config))
        step(tasks)
    return lambda: step(tasks)


def per_user_step(
    catalog: Any, tasks: Tasks, in_graph: bool
) -> Callable[[], Any]:
    config = TrainerConfig()
    model = PartitionedTwoTower(SPACE, config)
    for layer in model.user_specific_layers:
        layer.trainable = True
    model.user_tower(tasks.user_ids)
    model.item_tower(catalog.ids)
    driver = PerUserDriver(model, catalog, config.num_inner_steps, in_graph)
    return lambda: driver.step(tasks)
