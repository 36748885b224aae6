"""The part of a tower that sees features: the same for users and for items."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras

from trainer.config import TrainerConfig
from trainer.embedded import EmbeddedUser
from trainer.features import FeatureEmbedding
from trainer.seeded_dropout import SeededDropout


class _FeatureNetwork(tf_keras.layers.Layer):
    """Feature embeddings, one hidden layer, a vector and a bias."""

    def __init__(
        self,
        num_ids: Mapping[str, int],
        config: TrainerConfig,
        dropout_seed: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._size = config.vector_size
        self._embedding = FeatureEmbedding(num_ids, config.feature_size)
        self._hidden = tf_keras.layers.Dense(config.hidden_size, "relu")
        self._dropout = SeededDropout(config.dropout, dropout_seed)
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


def feature_network(
    num_ids: Mapping[str, int], config: TrainerConfig, dropout_seed: int
) -> tf_keras.layers.Layer:
    """Makes the part of a tower that sees features.

    Args:
        num_ids: Ids of each feature, by name; there may be no feature.
        config: Sizes, and the share of units dropped.
        dropout_seed: Of the units dropped in training.

    Returns:
        A layer that makes `EmbeddedUser` of ids, int [rows, L] by name, be
        they a user's or an item's.
    """
    if not num_ids:
        return _Constant(config.vector_size, name="features")
    return _FeatureNetwork(num_ids, config, dropout_seed, name="features")
