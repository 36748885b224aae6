"""A two-tower model of which every parameter can differ from user to user.

The architecture is that of the partitioned model without its adaptive layers.
"""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from serving.contract.features import ITEM_INDEX
from trainer.baselines.fast_weights import (
    DenseWeights,
    FastWeights,
    Inputs,
    Masks,
)
from trainer.baselines.own_tables import OwnTables
from trainer.config import TrainerConfig
from trainer.episodes import Catalog
from trainer.features import FeatureEmbedding, FeatureSpace
from trainer.item_factors import ID_STDDEV, ItemFactors


class _Dense(tf_keras.layers.Layer):
    """Holds the shared weights of one tower's two layers."""

    def __init__(self, inputs: int, config: TrainerConfig, name: str) -> None:
        super().__init__(name=name)
        outputs = config.vector_size + 1
        self.hidden_kernel = self.add_weight(
            name="hidden_kernel", shape=[inputs, config.hidden_size]
        )
        self.hidden_bias = self.add_weight(
            name="hidden_bias", shape=[config.hidden_size], initializer="zeros"
        )
        self.output_kernel = self.add_weight(
            name="output_kernel", shape=[config.hidden_size, outputs]
        )
        self.output_bias = self.add_weight(
            name="output_bias", shape=[outputs], initializer="zeros"
        )

    def shared(self) -> DenseWeights:
        """The weights, [1, ...]."""
        return DenseWeights(
            *(
                weight[tf.newaxis]
                for weight in (
                    self.hidden_kernel,
                    self.hidden_bias,
                    self.output_kernel,
                    self.output_bias,
                )
            )
        )


class FastTwoTower(tf_keras.Model):
    """Shared parameters, and what a user's copies of them compute.

    Attributes:
        tables: The users' copies of the embedding tables.
    """

    def __init__(
        self, space: FeatureSpace, catalog: Catalog, config: TrainerConfig
    ) -> None:
        """Makes the shared parameters."""
        super().__init__(name="fast_two_tower")
        self._size = config.vector_size
        self._id_dropout = config.item_id_dropout
        self._l2 = config.item_l2
        # What the L2 loss pulls the table of item ids toward.
        self._start: tf.Tensor | float = 0.0
        self._unknown_index = space.num_item_indices - 1
        self._catalog_ids = dict(catalog.ids)
        users = {f.name: space.num_ids[f.name] for f in space.user_features}
        items = {f.name: space.num_ids[f.name] for f in space.item_features}
        self._item_inputs = config.feature_size * len(items)
        self.tables = OwnTables(space, catalog, config)
        self._user_embedding = FeatureEmbedding(users, config.feature_size)
        self._item_embedding = FeatureEmbedding(items, config.feature_size)
        self._id_embedding = tf_keras.layers.Embedding(
            space.num_item_indices,
            config.vector_size + 1,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=ID_STDDEV, seed=config.seed
            ),
            name="item_id",
        )
        self._dropout = tf_keras.layers.Dropout(config.dropout)
        size = config.feature_size
        self._user_dense = _Dense(size * len(users), config, "user_dense")
        self._item_dense = _Dense(size * len(items), config, "item_dense")

    def start_from(self, factors: ItemFactors) -> None:
        """Starts item ids as `ItemTower.start_from` does."""
        self._start = tf.constant(factors.table(), tf.float32)
        self._id_embedding.build(None)
        self._id_embedding.set_weights([self._start])

    def initial(
        self, user_ids: Mapping[str, tf.Tensor], events: tf.Tensor | int
    ) -> FastWeights:
        """Copies of the shared parameters, for support sets of S events.

        Args:
            user_ids: Feature ids by name, int [B, L].
            events: S.
        """
        features = self._user_embedding(user_ids)[:, tf.newaxis]
        users = tf.shape(features)[0]

        def copied(dense: DenseWeights) -> DenseWeights:
            return DenseWeights(*(tf.repeat(w, users, axis=0) for w in dense))

        return FastWeights(
            user_dense=copied(self._user_dense.shared()),
            item_dense=copied(self._item_dense.shared()),
            user_features=features,
            item_features=tf.zeros([users, events, self._item_inputs]),
            item_id=tf.zeros([users, events, self._size + 1]),
        )

    def embed_items(
        self, item_row: tf.Tensor, training: bool = False
    ) -> tuple[Inputs, tf.Tensor]:
        """What all users share of some items.

        Args:
            item_row: Rows of the catalog, int [B, N].
            training: Whether a share of the items is shown without id.

        Returns:
            The rows' shared embeddings, and the ids [B, N] that their id
            embeddings are of.
        """
        unique, index = tf.unique(tf.reshape(item_row, [-1]))
        ids = {n: tf.gather(i, unique) for n, i in self._catalog_ids.items()}
        item_index = tf.squeeze(ids[ITEM_INDEX], axis=-1)
        if training:
            hidden = tf.random.uniform(tf.shape(item_index)) < self._id_dropout
            unknown = tf.cast(self._unknown_index, item_index.dtype)
            item_index = tf.where(hidden, unknown, item_index)
        by_id = self._id_embedding(item_index)
        index = tf.reshape(index, tf.shape(item_row))
        features = tf.gather(self._item_embedding(ids), index)
        shared = Inputs(features, tf.gather(by_id, index))
        return shared, tf.gather(item_index, index)

    def penalty(self) -> tf.Tensor:
        """The L2 loss of item-id embeddings, a scalar."""
        table = self._id_embedding.embeddings
        return self._l2 * tf.reduce_sum(tf.square(table - self._start))

    def score(
        self, fast: FastWeights, items: Inputs, masks: Masks | None = None
    ) -> tf.Tensor:
        """Scores rows [B, N] with the users' own parameters.

        Args:
            fast: The users' copies.
            items: The rows as `tables.moved` gives them.
            masks: Dropout of the hidden layers.

        Returns:
            Logits, float [B, N].
        """
        user_mask, item_mask = masks or (1.0, 1.0)
        user = _dense(fast.user_dense, fast.user_features, user_mask)
        item = _dense(fast.item_dense, items.features, item_mask)
        item += items.item_id
        dot = tf.matmul(
            item[..., : self._size],
            user[..., : self._size],
            transpose_b=True,
        )
        return tf.squeeze(
            dot + user[..., self._size :] + item[..., self._size :], axis=-1
        )

    def masks(self, users: tf.Tensor, rows: tf.Tensor) -> Masks:
        """Draws dropout of both towers for N rows of B users."""
        units = self._user_dense.hidden_bias.shape[0]
        return Masks(
            self._dropout(tf.ones([users, 1, units]), training=True),
            self._dropout(tf.ones([users, rows, units]), training=True),
        )


def _dense(
    weights: DenseWeights, inputs: tf.Tensor, mask: tf.Tensor | float
) -> tf.Tensor:
    hidden = tf.matmul(inputs, weights.hidden_kernel)
    hidden = tf.nn.relu(hidden + weights.hidden_bias[:, tf.newaxis]) * mask
    output = tf.matmul(hidden, weights.output_kernel)
    return output + weights.output_bias[:, tf.newaxis]
