"""A few numbers per user that change a whole dense layer."""

from typing import Any

import tensorflow as tf
import tf_keras

from trainer.adaptive_layers import AdaptiveScale


class LowRankAdapter(tf_keras.layers.Layer):
    """A per-user change of low rank beside a fixed dense layer.

    The fixed layer's y = x W becomes y = x (W + V diag(c) U) with V [inputs,
    rank] and U [rank, units] fixed and trained like any layer, and c [rank]
    the user's own. LoRA (arXiv 2106.09685) would give each user both factors,
    rank * (inputs + units) numbers; with the directions shared by all users,
    as in the basis of VeRA (arXiv 2310.11454), rank numbers say how far this
    user goes along each, and the score stays affine in them.

    Attributes:
        coefficients: The adaptive layer c.
    """

    def __init__(
        self, inputs: int, rank: int, units: int, name: str, **kwargs: Any
    ) -> None:
        """Makes the layer.

        Args:
            inputs: Length of what goes in.
            rank: Numbers per user.
            units: Length of what comes out.
            name: Name of the layer and of its adaptive parameter.
            **kwargs: Of the base class.
        """
        super().__init__(name=name, **kwargs)
        self._inputs = inputs
        self._rank = rank
        self._units = units
        self.down = tf_keras.layers.Dense(rank, use_bias=False, name="down")
        self.coefficients = AdaptiveScale(rank, name, initializer="zeros")
        self.up = tf_keras.layers.Dense(units, use_bias=False, name="up")
        self.down.build([None, inputs])
        self.up.build([None, rank])

    def call(
        self, inputs: tf.Tensor, adaptive: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Returns what is to be added to the fixed layer's output.

        Args:
            inputs: The fixed layer's, float [users, inputs].
            adaptive: Per-user weights c, float [users, rank]; the
                meta-initialization if None.

        Returns:
            float [users, units].
        """
        return self.up(self.coefficients(self.down(inputs), adaptive))

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the same layer anew."""
        return {
            **super().get_config(),
            "inputs": self._inputs,
            "rank": self._rank,
            "units": self._units,
        }
