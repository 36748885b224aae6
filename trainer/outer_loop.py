"""The offline stage's outer loop: one Keras model whose loss is the tasks'.

Each step adapts every task's weights in the inner loop and judges them on the
query set. The gradient of that loss, through the inner steps, trains the fixed
part, the meta-initialization and what the inner loop knows of step sizes
(MAML, arXiv 1703.03400, with the partition of arXiv 1912.04108).
"""

from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from trainer.config import TrainerConfig
from trainer.episodes import Catalog
from trainer.tasks import LabelledRows, Tasks
from trainer.two_tower import PartitionedTwoTower


def mean_ranking_loss(
    ranking: tfrs.tasks.Ranking, rows: LabelledRows, logits: tf.Tensor
) -> tf.Tensor:
    """Mean logistic loss over rows that count, a scalar."""
    flat = [tf.reshape(t, [-1, 1]) for t in (rows.label, logits, rows.weight)]
    label, logit, weight = flat
    total = ranking(labels=label, predictions=logit, sample_weight=weight)
    return total / tf.maximum(tf.reduce_sum(rows.weight), 1.0)


def ranking_task() -> tfrs.tasks.Ranking:
    """TFRS's ranking task on logits, losses summed."""
    return tfrs.tasks.Ranking(
        loss=tf_keras.losses.BinaryCrossentropy(
            from_logits=True, reduction=tf_keras.losses.Reduction.SUM
        )
    )


class MetaLearner(tfrs.models.Model):
    """Trains a `PartitionedTwoTower` by offline meta-learning."""

    def __init__(
        self,
        two_tower: PartitionedTwoTower,
        catalog: Catalog,
        config: TrainerConfig,
        **kwargs: Any,
    ) -> None:
        """Wraps the model.

        Args:
            two_tower: What is trained; its user-specific layers must be made
                trainable for the time of the training
                (`trainer.partition.meta_learning`).
            catalog: Items.
            config: `zero_shot_weight` and `partition_penalty` of the loss.
            **kwargs: Of the base class.
        """
        super().__init__(**kwargs)
        self.two_tower = two_tower
        self._catalog_ids = dict(catalog.ids)
        self._zero_shot_weight = config.zero_shot_weight
        self._partition_penalty = config.partition_penalty
        self._ranking = ranking_task()

    # There is no Python control flow on tensors here, and rewriting all of
    # Keras to find that out takes AutoGraph ten seconds.
    @tf.autograph.experimental.do_not_convert
    def compute_loss(self, tasks: Tasks, training: bool = False) -> tf.Tensor:
        """The query sets' mean loss after the inner loop.

        Plus `zero_shot_weight` times the same loss at the
        meta-initialization: users without events are judged too. A learned
        partition is charged for what adapts.
        """
        model = self.two_tower
        support, query_set = tasks.support, tasks.query_set
        rows = tf.concat([support.item_row, query_set.item_row], axis=1)
        items = model.embed_items(self._catalog_ids, rows, training)
        size = tf.shape(support.item_row)[1]
        support_items = type(items)(*(t[:, :size] for t in items))
        query_items = type(items)(*(t[:, size:] for t in items))
        user = model.user_tower(tasks.user_ids, training=training)
        start = model.initial_weights(tf.shape(rows)[0])
        adapted = model.adapt(
            user, support_items, support.label, support.weight, start
        )
        loss = mean_ranking_loss(
            self._ranking, query_set, model.score(user, query_items, adapted)
        )
        zero_shot = mean_ranking_loss(
            self._ranking, query_set, model.score(user, query_items, start)
        )
        return (
            loss
            + self._zero_shot_weight * zero_shot
            + self._partition_penalty * model.inner_loop.penalty()
        )
