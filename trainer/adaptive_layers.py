"""Keras layers whose parameters may differ from user to user.

A layer's own variables hold the meta-initialization; `call` takes per-user
weights with a leading batch dimension when there are any. Adaptive layers are
not trainable as they come: plain supervised training leaves them alone, and
meta-learning makes them trainable for as long as it runs
(`trainer.partition.meta_learning`).

As initialized, each of them changes nothing when it stands beside a fixed
layer: biases and kernels are zeros, scales ones. So a fixed layer keeps its
own, plainly trained weights, and what adapts is the user's departure from it.
"""

from typing import Any

import tensorflow as tf
import tf_keras


class AdaptiveLayer(tf_keras.layers.Layer):
    """Base of adaptive layers.

    Attributes:
        adaptive_variables: The variables that hold the meta-initialization,
            by the parameter's name in manifests: the layer's name, followed
            by the variable's where a layer has several.
    """

    def __init__(
        self, name: str, trainable: bool = False, **kwargs: Any
    ) -> None:
        """Makes the layer; its name is the parameters' name in manifests."""
        super().__init__(name=name, trainable=trainable, **kwargs)

    @property
    def adaptive_variables(self) -> dict[str, tf.Variable]:
        """Variables that hold the meta-initialization, by parameter name."""
        raise NotImplementedError


class _AdaptiveVector(AdaptiveLayer):
    """A layer with one adaptive vector, `meta_init`."""

    _INITIALIZER = "zeros"

    def __init__(
        self,
        units: int,
        name: str,
        initializer: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Makes the layer.

        Args:
            units: Length of the vector.
            name: Name of the layer and of its adaptive parameter.
            initializer: Of the meta-initialization; one that changes nothing
                if None.
            **kwargs: Of the base class.
        """
        super().__init__(name=name, **kwargs)
        self._units = units
        self._initializer = initializer or self._INITIALIZER
        self.meta_init = self.add_weight(
            name="meta_init", shape=[units], initializer=self._initializer
        )

    @property
    def adaptive_variables(self) -> dict[str, tf.Variable]:
        """The vector, by the layer's name."""
        return {self.name: self.meta_init}

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the same layer anew."""
        return {
            **super().get_config(),
            "units": self._units,
            "initializer": self._initializer,
        }


class AdaptiveBias(_AdaptiveVector):
    """Adds a vector of its own to each user's activations.

    Example:
        >>> layer = AdaptiveBias(2, name="user_bias")
        >>> layer(tf.zeros([1, 2]), tf.constant([[1.0, 2.0]])).numpy()
        array([[1., 2.]], dtype=float32)
    """

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


class AdaptiveScale(_AdaptiveVector):
    """Multiplies each user's activations by a vector of its own.

    Example:
        >>> layer = AdaptiveScale(2, name="user_scale")
        >>> layer(tf.ones([1, 2]), tf.constant([[3.0, 0.5]])).numpy()
        array([[3. , 0.5]], dtype=float32)
    """

    _INITIALIZER = "ones"

    def call(
        self, inputs: tf.Tensor, adaptive: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Multiplies; arguments and result as of `AdaptiveBias`."""
        return inputs * (self.meta_init if adaptive is None else adaptive)


class AdaptiveDense(AdaptiveLayer):
    """A linear layer with a kernel and a bias of its own for each user.

    Example:
        >>> layer = AdaptiveDense(2, 1, name="head")
        >>> kernel = tf.constant([[[2.0], [3.0]]])
        >>> layer(tf.ones([1, 2]), kernel, tf.ones([1, 1])).numpy()
        array([[6.]], dtype=float32)
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        name: str,
        kernel_initializer: str = "zeros",
        **kwargs: Any,
    ) -> None:
        """Makes the layer.

        Args:
            inputs: Length of what goes in.
            units: Length of what comes out.
            name: Name of the layer; its parameters are `name/kernel` and
                `name/bias`.
            kernel_initializer: Of the kernel's meta-initialization.
            **kwargs: Of the base class.
        """
        super().__init__(name=name, **kwargs)
        self._inputs = inputs
        self._units = units
        self._kernel_initializer = kernel_initializer
        self.kernel = self.add_weight(
            name="kernel",
            shape=[inputs, units],
            initializer=kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=[units], initializer="zeros"
        )

    @property
    def adaptive_variables(self) -> dict[str, tf.Variable]:
        """Kernel and bias."""
        return {
            f"{self.name}/kernel": self.kernel,
            f"{self.name}/bias": self.bias,
        }

    def call(
        self,
        inputs: tf.Tensor,
        kernel: tf.Tensor | None = None,
        bias: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Multiplies by the kernel and adds the bias.

        Args:
            inputs: float [users, inputs].
            kernel: Per-user weights, float [users, inputs, units]; the
                meta-initialization if None.
            bias: Per-user weights, float [users, units]; the same.

        Returns:
            float [users, units].
        """
        if kernel is None:
            outputs = tf.matmul(inputs, self.kernel)
        else:
            outputs = tf.squeeze(
                tf.matmul(inputs[:, tf.newaxis], kernel), axis=1
            )
        return outputs + (self.bias if bias is None else bias)

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the same layer anew."""
        return {
            **super().get_config(),
            "inputs": self._inputs,
            "units": self._units,
            "kernel_initializer": self._kernel_initializer,
        }
