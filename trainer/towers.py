"""User tower and item tower: from ids of features to vectors and biases."""

import enum
from collections.abc import Mapping

import tensorflow as tf
import tf_keras

from serving.contract.features import ITEM_INDEX
from trainer.config import TrainerConfig
from trainer.embedded import Embedded, EmbeddedUser
from trainer.feature_network import feature_network
from trainer.features import FeatureSpace
from trainer.item_factors import ID_STDDEV, ItemFactors


class _Draws(enum.IntEnum):
    """What draws random numbers in training, each from a stream of its own."""

    USER_UNITS = 0
    ITEM_UNITS = 1
    ITEM_IDS = 2

    def seed(self, config: TrainerConfig) -> int:
        return config.seed * len(_Draws) + self


class UserTower(tf_keras.Model):
    """A user from its features alone; what is known of a cold user."""

    def __init__(self, space: FeatureSpace, config: TrainerConfig) -> None:
        """Makes the tower for the user features of a feature space."""
        super().__init__(name="user_tower")
        names = [feature.name for feature in space.user_features]
        self._network = feature_network(
            {name: space.num_ids[name] for name in names},
            config,
            _Draws.USER_UNITS.seed(config),
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
        self._network = feature_network(
            {name: space.num_ids[name] for name in names},
            config,
            _Draws.ITEM_UNITS.seed(config),
        )
        self._size = config.vector_size
        self._unknown_index = space.num_item_indices - 1
        self._id_dropout = config.item_id_dropout
        self._generator = tf.random.Generator.from_seed(
            _Draws.ITEM_IDS.seed(config)
        )
        self._l2 = config.item_l2
        # What the L2 loss pulls the table toward: where it started.
        self._start: tf.Tensor | None = None
        self._id_embedding = tf_keras.layers.Embedding(
            space.num_item_indices,
            config.vector_size + 1,
            embeddings_initializer=tf_keras.initializers.RandomNormal(
                stddev=ID_STDDEV, seed=config.seed
            ),
            name="item_id",
        )

    def start_from(self, factors: ItemFactors) -> None:
        """Starts item ids from what is known of them, before any training.

        From then on the L2 loss pulls toward that, instead of toward 0.
        """
        self._start = tf.constant(factors.table(), tf.float32)
        self._id_embedding.build(None)
        self._id_embedding.set_weights([self._start])

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
            away = by_id
            if self._start is not None:
                away -= tf.gather(self._start, index)
            self.add_loss(self._l2 * tf.reduce_sum(tf.square(away)))
        by_features = self._network(ids, training=training)
        return Embedded(
            by_features.vector + by_id[..., : self._size],
            by_features.bias + by_id[..., self._size :],
        )
