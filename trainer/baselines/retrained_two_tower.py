"""The model of `oracle`: the two towers, and an embedding of each user's id."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from numpy.typing import NDArray

from trainer.config import TrainerConfig
from trainer.embedded import Embedded
from trainer.outer_loop import ranking_task
from trainer.stages import StageData
from trainer.two_tower import PartitionedTwoTower


@dataclasses.dataclass(frozen=True)
class RetrainSettings:
    """How the oracle is trained.

    Attributes:
        vector_precision: Prior precision of a user's own vector.
        bias_precision: Prior precision of a user's own bias.
        own_rate: How many times faster than the towers users' own embeddings
            learn: a user's few rows come up in few of the batches.
        batch_rows: Rows per step.
        first_steps: Steps of the training from scratch.
        steps_per_window: Steps before each further window.
    """

    vector_precision: float = 10.0
    bias_precision: float = 2.0
    own_rate: float = 10.0
    batch_rows: int = 8192
    first_steps: int = 1500
    steps_per_window: int = 150


class RetrainedTwoTower(tfrs.models.Model):
    """Two towers and an id embedding for every user there is."""

    def __init__(
        self,
        data: StageData,
        user_ids: Mapping[str, tf.Tensor],
        config: TrainerConfig,
        settings: RetrainSettings,
    ) -> None:
        """Makes the model.

        Args:
            data: Items, and the space of features.
            user_ids: Feature ids of all users, int [users, L] by name.
            config: Sizes and regularization, as the others have them.
            settings: Precisions of the users' own embeddings.
        """
        super().__init__()
        self.two_tower = PartitionedTwoTower(data.space, config)
        self._catalog_ids = dict(data.catalog.ids)
        self._user_ids = dict(user_ids)
        users = int(next(iter(user_ids.values())).shape[0])
        # Adam takes steps of the same size whatever the gradient's scale, so
        # what is multiplied afterwards learns faster by as much.
        self._own_rate = settings.own_rate
        self._slow_own = self.add_weight(
            name="own",
            shape=[users, config.vector_size + 1],
            initializer="zeros",
        )
        self._precision = tf.constant(
            [settings.vector_precision] * config.vector_size
            + [settings.bias_precision]
        )
        self._ranking = ranking_task()

    def embed_users(self, users: tf.Tensor, training: bool = False) -> Embedded:
        """Embeds users, [n, ...], by feature and by id."""
        ids = {n: tf.gather(i, users) for n, i in self._user_ids.items()}
        by_features = self.two_tower.user_tower(ids, training=training)
        own = self._own_rate * tf.gather(self._slow_own, users)
        return Embedded(
            by_features.vector + own[:, :-1], by_features.bias + own[:, -1:]
        )

    @tf.autograph.experimental.do_not_convert
    def compute_loss(
        self, inputs: Mapping[str, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        """Mean loss of the rows, and the prior's share of it."""
        unique, index = tf.unique(inputs["user"])
        user = self.embed_users(unique, training).gather(index)
        item = self.two_tower.embed_items(
            self._catalog_ids, inputs["item"], training
        )
        dot = tf.reduce_sum(user.vector * item.vector, axis=1, keepdims=True)
        loss = self._ranking(
            labels=inputs["label"][:, tf.newaxis],
            predictions=dot + user.bias + item.bias,
        )
        rows = tf.cast(tf.shape(inputs["label"])[0], tf.float32)
        own = self._own_rate * self._slow_own
        prior = tf.reduce_sum(self._precision * tf.square(own)) / 2.0
        return loss / rows + prior / inputs["known_rows"][0]

    def score(
        self, users: NDArray[np.int64], item_row: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Logits of candidates [users, N]."""
        user = self.embed_users(tf.constant(users))
        item = self.two_tower.item_tower(self._catalog_ids).gather(item_row)
        return np.asarray(
            tf.einsum("bd,bnd->bn", user.vector, item.vector)
            + user.bias
            + tf.squeeze(item.bias, axis=-1)
        )
