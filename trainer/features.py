"""Ids of features to vectors.

Transform has made an id of everything (`pipeline.preprocessing`), so all
features look alike here: a matrix of ids, one row per user or item, padded
with `PAD` on the right. A single-valued feature has one column.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_transform as tft
import tf_keras

from serving.contract.features import NUM_BUCKETS, NUMERIC, Feature

PAD = -1
_ITEM_VOCABULARY = "item_id"


@dataclasses.dataclass(frozen=True)
class FeatureSpace:
    """The features of users and items, and how many ids each has.

    Attributes:
        user_features: In declared order.
        item_features: In declared order.
        num_ids: Number of ids by feature name; the last id stands for
            missing and unknown values.
        num_item_indices: Number of ids of `item_index`; the last stands for
            items that meta_train users never met.
    """

    user_features: tuple[Feature, ...]
    item_features: tuple[Feature, ...]
    num_ids: Mapping[str, int]
    num_item_indices: int

    @classmethod
    def from_transform(
        cls,
        transform_output: tft.TFTransformOutput,
        user_features: Sequence[Feature],
        item_features: Sequence[Feature],
    ) -> "FeatureSpace":
        """Reads the sizes off the transform graph's vocabularies."""

        def num_ids(feature: Feature) -> int:
            if feature.kind == NUMERIC:
                return NUM_BUCKETS + 1
            return int(
                transform_output.vocabulary_size_by_name(feature.name) + 1
            )

        return cls(
            user_features=tuple(user_features),
            item_features=tuple(item_features),
            num_ids={
                feature.name: num_ids(feature)
                for feature in (*user_features, *item_features)
            },
            num_item_indices=int(
                transform_output.vocabulary_size_by_name(_ITEM_VOCABULARY) + 1
            ),
        )


class FeatureEmbedding(tf_keras.layers.Layer):
    """Embeds each feature, averages over its ids, and puts all side by side.

    Example:
        >>> layer = FeatureEmbedding({"genre": 19}, 8)
        >>> layer({"genre": tf.constant([[3, 5], [2, -1]])}).shape
        TensorShape([2, 8])
    """

    def __init__(
        self, num_ids: Mapping[str, int], size: int, **kwargs: Any
    ) -> None:
        """Makes one table per feature.

        Args:
            num_ids: Number of ids by feature name; may be empty.
            size: Length of each feature's embedding.
            **kwargs: Of the base class.
        """
        super().__init__(**kwargs)
        self._tables = {
            name: tf_keras.layers.Embedding(count, size, name=name)
            for name, count in num_ids.items()
        }
        self._size = size

    def call(self, ids: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Embeds.

        Args:
            ids: By feature name, int [rows, L], `PAD` on the right. Further
                entries are left alone.

        Returns:
            float [rows, features * size].
        """
        return tf.concat(
            [
                self._mean(table, ids[name])
                for name, table in self._tables.items()
            ],
            axis=-1,
        )

    def _mean(
        self, table: tf_keras.layers.Embedding, ids: tf.Tensor
    ) -> tf.Tensor:
        present = tf.cast(ids != PAD, tf.float32)[..., tf.newaxis]
        vectors = table(tf.maximum(ids, 0)) * present
        count = tf.maximum(tf.reduce_sum(present, axis=-2), 1.0)
        return tf.reduce_sum(vectors, axis=-2) / count
