"""Keras layers whose parameters may differ from user to user.

The layer's own variable holds the meta-initialization; `call` takes per-user
weights with a leading batch dimension when there are any. Adaptive layers are
not trainable as they come: plain supervised training leaves them alone, and
meta-learning makes them trainable for as long as it runs
(`trainer.partition.meta_learning`).
"""

from typing import Any

import tensorflow as tf
import tf_keras


class AdaptiveLayer(tf_keras.layers.Layer):
    """Base of adaptive layers; `meta_init` is the one adaptive variable."""

    meta_init: tf.Variable

    def __init__(
        self, name: str, trainable: bool = False, **kwargs: Any
    ) -> None:
        """Makes the layer; its name is the parameter's name in manifests."""
        super().__init__(name=name, trainable=trainable, **kwargs)


class AdaptiveBias(AdaptiveLayer):
    """Adds a vector of its own to each user's activations.

    Example:
        >>> layer = AdaptiveBias(2, name="user_bias")
        >>> layer(tf.zeros([1, 2]), tf.constant([[1.0, 2.0]])).numpy()
        array([[1., 2.]], dtype=float32)
    """

    def __init__(self, units: int, name: str, **kwargs: Any) -> None:
        """Makes the layer.

        Args:
            units: Length of the added vector.
            name: Name of the layer and of its adaptive parameter.
            **kwargs: Of the base class.
        """
        super().__init__(name=name, **kwargs)
        self._units = units
        self.meta_init = self.add_weight(
            name="meta_init", shape=[units], initializer="zeros"
        )

    def call(
        self, inputs: tf.Tensor, adaptive: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Adds.

        Args:
            inputs: float [users, units].
            adaptive: Per-user weights, float [users, units]; the
                meta-initialization if None.

        Returns:
            float [users, units].
        """
        return inputs + (self.meta_init if adaptive is None else adaptive)

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the same layer anew."""
        return {**super().get_config(), "units": self._units}
