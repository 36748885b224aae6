"""User tower and item tower: from ids of features to vectors and biases."""

import enum
from collections.abc import Mapping
from typing import Any, NamedTuple

import tensorflow as tf
import tf_keras

from trainer.config import TrainerConfig
from trainer.features import ITEM_INDEX, FeatureEmbedding, FeatureSpace
from trainer.seeded_dropout import SeededDropout

_ID_STDDEV = 0.05


class _Draws(enum.IntEnum):
    """What draws random numbers in training, each from a stream of its own."""

    USER_UNITS = 0
    ITEM_UNITS = 1
    ITEM_IDS = 2

    def seed(self, config: TrainerConfig) -> int:
        return config.seed * len(_Draws) + self


class Embedded(NamedTuple):
    """Users or items as a tower sees them; leading dimensions are shared.

    Attributes:
        vector: float [..., vector_size].
        bias: float [..., 1].
    """

    vector: tf.Tensor
    bias: tf.Tensor

    def gather(self, rows: tf.Tensor) -> "Embedded":
        """Picks rows of [n, ...]; the result has the shape of `rows`."""
        return Embedded(
            tf.gather(self.vector, rows), tf.gather(self.bias, rows)
        )


class EmbeddedUser(NamedTuple):
    """Users as the user tower sees them, and what adaptive layers build on.

    Attributes:
        vector: float [users, vector_size].
        bias: float [users, 1].
        hidden: What the output layer sees, float [users, hidden size].
        features: What the hidden layer sees, float [users, feature sizes].
        dropout: What hidden units are multiplied by, as `hidden`: ones, or
            a mask in training.
    """

    vector: tf.Tensor
    bias: tf.Tensor
    hidden: tf.Tensor
    features: tf.Tensor
    dropout: tf.Tensor


class _FeatureNetwork(tf_keras.layers.Layer):
    """Feature embeddings, one hidden layer, a vector and a bias."""

    def __init__(
        self,
        num_ids: Mapping[str, int],
        config: TrainerConfig,
        draws: _Draws,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._size = config.vector_size
        self._embedding = FeatureEmbedding(num_ids, config.feature_size)
        self._hidden = tf_keras.layers.Dense(config.hidden_size, "relu")
        self._dropout = SeededDropout(config.dropout, draws.seed(config))
        self._output = tf_keras.layers.Dense(config.vector_size + 1)

    def call(
        self, ids: Mapping[str, tf.Tensor], training: bool = False
    ) -> EmbeddedUser:
        features = self._embedding(ids)
        hidden = self._hidden(features)
        dropout = self._dropout(tf.ones_like(hidden), training=training)
        hidden *= dropout
        vector, bias = self._outputs(hidden)
        return EmbeddedUser(vector, bias, hidden, features, dropout)

    def from_features(
        self, features: tf.Tensor, change: tf.Tensor, dropout: tf.Tensor
    ) -> EmbeddedUser:
        """Computes all after the features, the hidden layer changed.

        Args:
            features: float [rows, feature sizes].
            change: Added before the hidden layer's activation, float [rows,
                hidden size].
            dropout: As `EmbeddedUser` holds it.
        """
        hidden = tf.matmul(features, self._hidden.kernel) + self._hidden.bias
        hidden = tf.nn.relu(hidden + change) * dropout
        vector, bias = self._outputs(hidden)
        return EmbeddedUser(vector, bias, hidden, features, dropout)

    def _outputs(self, hidden: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        output = self._output(hidden)
        return output[..., : self._size], output[..., self._size :]


class _Constant(tf_keras.layers.Layer):
    """Stands for a feature network where there are no features.

    Its one hidden unit is always 1, and there is no other layer.
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._size = size

    def build(self, _: Any) -> None:
        self._value = self.add_weight(
            name="constant", shape=[self._size + 1], initializer="zeros"
        )

    def call(
        self, ids: Mapping[str, tf.Tensor], training: bool = False
    ) -> EmbeddedUser:
        del training
        rows = tf.shape(next(iter(ids.values())))[0]
        output = tf.tile(self._value[tf.newaxis], [rows, 1])
        vector, bias = output[..., : self._size], output[..., self._size :]
        ones = tf.ones([rows, 1])
        return EmbeddedUser(vector, bias, ones, tf.zeros([rows, 0]), ones)


def _network(
    num_ids: Mapping[str, int], config: TrainerConfig, draws: _Draws
) -> tf_keras.layers.Layer:
    if not num_ids:
        return _Constant(config.vector_size, name="features")
    return _FeatureNetwork(num_ids, config, draws, name="features")


class UserTower(tf_keras.Model):
    """A user from its features alone; what is known of a cold user."""

    def __init__(self, space: FeatureSpace, config: TrainerConfig) -> None:
        """Makes the tower for the user features of a feature space."""
        super().__init__(name="user_tower")
        names = [feature.name for feature in space.user_features]
        self._network = _network(
            {name: space.num_ids[name] for name in names},
            config,
            _Draws.USER_UNITS,
        )
        self.features_size = config.feature_size * len(names)
        self.hidden_size = config.hidden_size if names else 1

    def call(
        self, ids: Mapping[str, tf.Tensor], training: bool = False
    ) -> EmbeddedUser:
        """Embeds users.

        Args:
            ids: Feature ids by name, int [users, L].
            training: Whether dropout is on.

        Returns:
            Vectors, biases, and the layers before them.
        """
        return self._network(ids, training=training)

    def with_change(
        self, user: EmbeddedUser, features: tf.Tensor, hidden: tf.Tensor
    ) -> EmbeddedUser:
        """Embeds users again, something added to layers on the way.

        Args:
            user: Users as embedded; a tower with user features only.
            features: What the hidden layer sees instead, as `user.features`.
            hidden: Added before its activation, as `user.hidden`.
        """
        return self._network.from_features(features, hidden, user.dropout)


class ItemTower(tf_keras.Model):
    """An item from its id and its features.

    In training a share of the items is shown without id, as a new item would
    be, so that the features alone learn to place an item too.
    """

    def __init__(self, space: FeatureSpace, config: TrainerConfig) -> None:
        """Makes the tower for the item features of a feature space."""
        super().__init__(name="item_tower")
        names = [feature.name for feature in space.item_features]
        self._network = _network(
            {name: space.num_ids[name] for name in names},
            config,
            _Draws.ITEM_UNITS,
        )
        self._size = config.vector_size
        self._unknown_index = space.num_item_indices - 1
        self._id_dropout = config.item_id_dropout
        self._generator = tf.random.Generator.from_seed(
            _Draws.ITEM_IDS.seed(config)
        )
        self._l2 = config.item_l2
        self._id_embedding = tf_keras.layers.Embedding(
            space.num_item_indices,
            config.vector_size + 1,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=_ID_STDDEV, seed=config.seed
            ),
            name="item_id",
        )

    def call(
        self, ids: Mapping[str, tf.Tensor], training: bool = False
    ) -> Embedded:
        """Embeds items.

        Args:
            ids: Feature ids by name, int [items, L], and `item_index`, int
                [items, 1].
            training: Whether dropout is on and the L2 loss is added.

        Returns:
            Vector [items, vector_size] and bias [items, 1].
        """
        index = tf.squeeze(ids[ITEM_INDEX], axis=-1)
        if training:
            drawn = self._generator.uniform(tf.shape(index))
            hidden = drawn < self._id_dropout
            index = tf.where(
                hidden, tf.cast(self._unknown_index, index.dtype), index
            )
        by_id = self._id_embedding(index)
        if training:
            self.add_loss(self._l2 * tf.reduce_sum(tf.square(by_id)))
        by_features = self._network(ids, training=training)
        return Embedded(
            by_features.vector + by_id[..., : self._size],
            by_features.bias + by_id[..., self._size :],
        )
