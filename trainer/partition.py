"""The partition: which parameters adapt per user, and how they lie in a row.

Everything outside this module handles a user's adaptive weights as one flat
vector of P floats, as the SavedModel's signatures and the store do. `split`
and `merge` are inverse to each other.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import tensorflow as tf
import tf_keras

from serving.contract.manifest import AdaptiveParameter
from trainer.adaptive_layers import AdaptiveLayer
from trainer.errors import PartitionError

BYTES_PER_VALUE = 4


class Partition:
    """The adaptive layers of a model, in order."""

    def __init__(self, layers: Sequence[AdaptiveLayer]) -> None:
        """Lays the layers' parameters out one after the other.

        Args:
            layers: Adaptive layers with different names.

        Raises:
            PartitionError: There is none, or two have the same name.
        """
        if len({layer.name for layer in layers}) != len(layers) or not layers:
            raise PartitionError(
                "A partition needs adaptive layers with different names, got "
                f"{[layer.name for layer in layers]}."
            )
        self.layers = tuple(layers)
        parameters = []
        offset = 0
        for layer in layers:
            shape = tuple(layer.meta_init.shape)
            parameters.append(AdaptiveParameter(layer.name, shape, offset))
            offset += parameters[-1].size
        self.parameters = tuple(parameters)
        self.size = offset

    @property
    def bytes_per_user(self) -> int:
        """Bytes of one user's adaptive weights as float32."""
        return self.size * BYTES_PER_VALUE

    def split(self, flat: tf.Tensor) -> dict[str, tf.Tensor]:
        """Cuts flat weights [B, P] into parameters [B, *shape] by name.

        Raises:
            PartitionError: The second dimension is known and not P.
        """
        if flat.shape[-1] not in (None, self.size):
            raise PartitionError(
                f"Adaptive weights have {flat.shape[-1]} values per user, the "
                f"partition {self.size} "
                f"({', '.join(p.name for p in self.parameters)})."
            )
        return {
            p.name: tf.reshape(
                flat[:, p.offset : p.offset + p.size], [-1, *p.shape]
            )
            for p in self.parameters
        }

    def merge(self, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Puts parameters [B, *shape] together as flat weights [B, P].

        Raises:
            PartitionError: A parameter is missing.
        """
        missing = [p.name for p in self.parameters if p.name not in weights]
        if missing:
            raise PartitionError(f"Adaptive weights lack {missing}.")
        return tf.concat(
            [
                tf.reshape(weights[p.name], [-1, p.size])
                for p in self.parameters
            ],
            axis=1,
        )

    def meta_init(self) -> tf.Tensor:
        """Returns the meta-initialization, flat, [P]; differentiable."""
        return tf.concat(
            [tf.reshape(layer.meta_init, [-1]) for layer in self.layers], axis=0
        )


@contextlib.contextmanager
def meta_learning(layers: Iterable[tf_keras.layers.Layer]) -> Iterator[None]:
    """Makes layers trainable for as long as a meta-learning loop runs."""
    layers = list(layers)
    before = [layer.trainable for layer in layers]
    try:
        for layer in layers:
            layer.trainable = True
        yield
    finally:
        for layer, trainable in zip(layers, before, strict=True):
            layer.trainable = trainable
