"""A two-tower model of which every parameter can differ from user to user.

The architecture is that of the partitioned model without its adaptive layers.
A user's copy of the dense layers is held as it is, with the batch dimension in
front. A user's copy of an embedding table is not: gradient steps only reach
the rows of the user's own events, and they reach them by way of those events,

    table[id] = shared table[id] + sum over events s of  share(s, id) * d[s]

where share(s, id) is the id's share in the mean that event s sees and d[s] the
sum of that event's steps. So d [events, size] is the user's copy, an event or
candidate n sees the shared embedding plus  sum over s of K[n, s] d[s], with
K[n, s] = sum over ids of share(n, id) share(s, id). Nothing is approximated.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf
import tf_keras

from trainer.config import TrainerConfig
from trainer.episodes import Catalog
from trainer.features import ITEM_INDEX, PAD, FeatureEmbedding, FeatureSpace

_ID_STDDEV = 0.05


class DenseWeights(NamedTuple):
    """A tower's layers; a leading dimension of users, or of 1 for all."""

    hidden_kernel: tf.Tensor
    hidden_bias: tf.Tensor
    output_kernel: tf.Tensor
    output_bias: tf.Tensor


class FastWeights(NamedTuple):
    """A batch of users' copies of all parameters.

    Attributes:
        user_dense: The user tower's layers, [B, ...].
        item_dense: The item tower's layers, [B, ...].
        user_features: The user's own feature embeddings, [B, 1, inputs].
        item_features: Steps of feature embeddings by event, [B, S, inputs].
        item_id: Steps of item-id embeddings by event, [B, S, size + 1].
    """

    user_dense: DenseWeights
    item_dense: DenseWeights
    user_features: tf.Tensor
    item_features: tf.Tensor
    item_id: tf.Tensor


class Inputs(NamedTuple):
    """Rows as they look before the dense layers, [B, N, ...].

    Attributes:
        features: Feature embeddings.
        item_id: Item-id embeddings.
    """

    features: tf.Tensor
    item_id: tf.Tensor


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
    """Shared parameters, and what a user's copies of them compute."""

    def __init__(
        self, space: FeatureSpace, catalog: Catalog, config: TrainerConfig
    ) -> None:
        """Makes the shared parameters."""
        super().__init__(name="fast_two_tower")
        self._size = config.vector_size
        self._feature_size = config.feature_size
        self._id_dropout = config.item_id_dropout
        self._l2 = config.item_l2
        self._unknown_index = space.num_item_indices - 1
        self._catalog_ids = dict(catalog.ids)
        users = {f.name: space.num_ids[f.name] for f in space.user_features}
        items = {f.name: space.num_ids[f.name] for f in space.item_features}
        self._user_names, self._item_names = list(users), list(items)
        self._shares = {
            name: _shares(catalog.ids[name], items[name]) for name in items
        }
        self._user_embedding = FeatureEmbedding(users, config.feature_size)
        self._item_embedding = FeatureEmbedding(items, config.feature_size)
        self._id_embedding = tf_keras.layers.Embedding(
            space.num_item_indices,
            config.vector_size + 1,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=_ID_STDDEV, seed=config.seed
            ),
            name="item_id",
        )
        self._dropout = tf_keras.layers.Dropout(config.dropout)
        size = config.feature_size
        self._user_dense = _Dense(size * len(users), config, "user_dense")
        self._item_dense = _Dense(size * len(items), config, "item_dense")

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
        inputs = self._feature_size * len(self._item_names)

        def copied(dense: DenseWeights) -> DenseWeights:
            return DenseWeights(*(tf.repeat(w, users, axis=0) for w in dense))

        return FastWeights(
            user_dense=copied(self._user_dense.shared()),
            item_dense=copied(self._item_dense.shared()),
            user_features=features,
            item_features=tf.zeros([users, events, inputs]),
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
        return self._l2 * tf.reduce_sum(tf.square(table))

    def overlaps(
        self, rows: tuple[tf.Tensor, tf.Tensor], events: tuple[tf.Tensor, ...]
    ) -> dict[str, tf.Tensor]:
        """K of the module's docstring, by table.

        Args:
            rows: Catalog rows [B, N] and item ids [B, N] of what is seen.
            events: Catalog rows [B, S] and item ids [B, S] of the events.

        Returns:
            float [B, N, S] by feature, and by `ITEM_INDEX`.
        """

        def by_share(name: str) -> tf.Tensor:
            shares = self._shares[name]
            seen = tf.gather(shares, rows[0])
            if shares.shape.rank == 1:
                own = tf.gather(shares, events[0])
                return (
                    _equal(seen, own)
                    * tf.cast(seen != PAD, tf.float32)[..., tf.newaxis]
                )
            return tf.matmul(
                seen, tf.gather(shares, events[0]), transpose_b=True
            )

        return {name: by_share(name) for name in self._item_names} | {
            ITEM_INDEX: _equal(rows[1], events[1])
        }

    def moved(
        self,
        shared: Inputs,
        overlaps: Mapping[str, tf.Tensor],
        fast: FastWeights,
    ) -> Inputs:
        """The rows' embeddings in the users' own tables."""
        steps = tf.split(
            fast.item_features, len(self._item_names) or 1, axis=-1
        )
        moves = [
            tf.matmul(overlaps[name], step)
            for name, step in zip(self._item_names, steps, strict=False)
        ]
        features = shared.features
        if moves:
            features += tf.concat(moves, axis=-1)
        by_id = tf.matmul(overlaps[ITEM_INDEX], fast.item_id)
        return Inputs(features, shared.item_id + by_id)

    def step_shares(self, user_ids: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """K of a user with itself: 1 / ids of each feature, [B, 1, inputs]."""
        counts = [
            tf.reduce_sum(tf.cast(user_ids[n] != PAD, tf.float32), axis=1)
            for n in self._user_names
        ]
        shares = [
            tf.repeat(
                tf.math.reciprocal_no_nan(count)[:, tf.newaxis],
                self._feature_size,
                axis=1,
            )
            for count in counts
        ]
        return tf.concat(shares, axis=1)[:, tf.newaxis] if shares else 0.0

    def score(
        self, fast: FastWeights, items: Inputs, masks: "Masks | None" = None
    ) -> tf.Tensor:
        """Scores rows [B, N] with the users' own parameters.

        Args:
            fast: The users' copies.
            items: The rows as `moved` gives them.
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

    def masks(self, users: tf.Tensor, rows: tf.Tensor) -> "Masks":
        """Draws dropout of both towers for N rows of B users."""
        units = self._user_dense.hidden_bias.shape[0]
        return Masks(
            self._dropout(tf.ones([users, 1, units]), training=True),
            self._dropout(tf.ones([users, rows, units]), training=True),
        )


class Masks(NamedTuple):
    """Dropout of hidden layers, [B, 1, units] and [B, N, units]."""

    user: tf.Tensor
    item: tf.Tensor


def _dense(
    weights: DenseWeights, inputs: tf.Tensor, mask: tf.Tensor | float
) -> tf.Tensor:
    hidden = tf.matmul(inputs, weights.hidden_kernel)
    hidden = tf.nn.relu(hidden + weights.hidden_bias[:, tf.newaxis]) * mask
    output = tf.matmul(hidden, weights.output_kernel)
    return output + weights.output_bias[:, tf.newaxis]


def _shares(ids: tf.Tensor, num_ids: int) -> tf.Tensor:
    """Each item's ids: [items] of one column, else shares [items, num_ids]."""
    if ids.shape[1] == 1:
        return tf.squeeze(ids, axis=1)
    hot = tf.reduce_sum(tf.one_hot(ids, num_ids), axis=1)
    count = tf.reduce_sum(hot, axis=1, keepdims=True)
    return tf.math.divide_no_nan(hot, count)


def _equal(seen: tf.Tensor, own: tf.Tensor) -> tf.Tensor:
    """1.0 where ids are the same, [B, N, S] of [B, N] and [B, S]."""
    return tf.cast(seen[..., tf.newaxis] == own[:, tf.newaxis], tf.float32)
