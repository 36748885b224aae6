"""What towers make of users and items."""

from typing import NamedTuple

import tensorflow as tf


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
