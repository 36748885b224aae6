"""`joint`: plain supervised training of the same architecture.

All of meta_train's rows in no order; the user-specific layers stay as they
are, so cold users are scored from their features alone.
"""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs

from trainer.episodes import Catalog
from trainer.outer_loop import mean_ranking_loss, ranking_task
from trainer.tasks import LabelledRows
from trainer.two_tower import PartitionedTwoTower


class JointLearner(tfrs.models.Model):
    """Trains the fixed part of a `PartitionedTwoTower` on plain rows."""

    def __init__(
        self, two_tower: PartitionedTwoTower, catalog: Catalog, **kwargs: Any
    ) -> None:
        """Wraps the model; its user-specific layers are left alone."""
        super().__init__(**kwargs)
        self.two_tower = two_tower
        self._catalog_ids = dict(catalog.ids)
        self._ranking = ranking_task()

    # There is no Python control flow on tensors here, and rewriting all of
    # Keras to find that out takes AutoGraph ten seconds.
    @tf.autograph.experimental.do_not_convert
    def compute_loss(
        self,
        inputs: tuple[Mapping[str, tf.Tensor], LabelledRows],
        training: bool = False,
    ) -> tf.Tensor:
        """The rows' mean loss."""
        user_ids, rows = inputs
        model = self.two_tower
        user = model.user_tower(user_ids, training=training)
        items = model.embed_items(self._catalog_ids, rows.item_row, training)
        weights = model.initial_weights(tf.shape(rows.label)[0])
        return mean_ranking_loss(
            self._ranking, rows, model.score(user, items, weights)
        )
