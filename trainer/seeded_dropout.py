"""Dropout that a checkpoint can go on with."""

from typing import Any

import tensorflow as tf
import tf_keras


class SeededDropout(tf_keras.layers.Layer):
    """Dropout whose random numbers are part of a checkpoint.

    Keras leaves the state of its own out, so that a training that goes on
    after a kill would drop other units than one that was never killed.
    """

    def __init__(self, rate: float, seed: int, **kwargs: Any) -> None:
        """Makes the layer.

        Args:
            rate: Share of units dropped in training.
            seed: Of the masks; give different layers different ones.
            **kwargs: Of the base class.
        """
        super().__init__(**kwargs)
        self._rate = rate
        self._generator = tf.random.Generator.from_seed(seed)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drops units in training and scales up the others; same shape."""
        if not training or not self._rate:
            return inputs
        [seed] = tf.unstack(self._generator.make_seeds(1), axis=1)
        return tf.nn.experimental.stateless_dropout(inputs, self._rate, seed)
