"""Users' copies of all parameters of a two-tower model.

A user's copy of the dense layers is held as it is, with the batch dimension in
front; that of an embedding table as the steps of the user's own events
(`trainer.baselines.own_tables`).
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf


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


class Masks(NamedTuple):
    """Dropout of hidden layers, [B, 1, units] and [B, N, units]."""

    user: tf.Tensor
    item: tf.Tensor


def floats_per_user(fast: FastWeights, events: int) -> int:
    """How many parameters differ from the shared ones after some events.

    Rows of embedding tables that no event of the user touches are the shared
    ones and needn't be stored.
    """
    dense = sum(
        int(np.prod(weight.shape[1:]))
        for weights in (fast.user_dense, fast.item_dense)
        for weight in DenseWeights(*weights)
    )
    by_event = fast.item_features.shape[2] + fast.item_id.shape[2]
    return dense + fast.user_features.shape[2] + events * by_event
