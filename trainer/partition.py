"""The partition: which parameters adapt per user, and how they lie in a row.

Everything outside this module handles a user's adaptive weights as one flat
vector of P floats, as the SavedModel's signatures and the store do. `split`
and `merge` are inverse to each other.

A partition can be reduced to some entries of its layers' parameters. The
others are fixed from then on, at their meta-initialization.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras
from numpy.typing import NDArray

from serving.contract.manifest import AdaptiveParameter
from trainer.adaptive_layers import AdaptiveLayer
from trainer.errors import PartitionError

BYTES_PER_VALUE = 4


class Partition:
    """The adaptive layers of a model, in order.

    Attributes:
        layers: The adaptive layers.
        parameters: What adapts: names, shapes for one user, and places in the
            flat vector. A parameter of which only some entries adapt has the
            shape [entries]; one of which none does is not listed.
        size: Number of values per user, P.
    """

    def __init__(
        self,
        layers: Sequence[AdaptiveLayer],
        kept: Mapping[str, NDArray[np.int64]] | None = None,
    ) -> None:
        """Lays the layers' parameters out one after the other.

        Args:
            layers: Adaptive layers with different names.
            kept: Entries that adapt of each parameter, as ascending indices
                into its values in row-major order; all entries of parameters
                that are not named.

        Raises:
            PartitionError: There is none, or two have the same name.
        """
        if len({layer.name for layer in layers}) != len(layers) or not layers:
            raise PartitionError(
                "A partition needs adaptive layers with different names, got "
                f"{[layer.name for layer in layers]}."
            )
        self.layers = tuple(layers)
        self._variables = {
            name: variable
            for layer in layers
            for name, variable in layer.adaptive_variables.items()
        }
        self._kept = {
            name: np.arange(_size(variable))
            for name, variable in self._variables.items()
        } | dict(kept or {})
        parameters = []
        offset = 0
        for name, variable in self._variables.items():
            entries = len(self._kept[name])
            shape: tuple[int, ...] = (entries,)
            if entries == _size(variable):
                shape = tuple(variable.shape)
            if entries:
                parameters.append(AdaptiveParameter(name, shape, offset))
            offset += entries
        if not parameters:
            raise PartitionError(
                "No entry of any adaptive parameter is left, so nothing would "
                "adapt. Lower partition_penalty, or use a fixed preset."
            )
        self.parameters = tuple(parameters)
        self.size = offset

    @property
    def bytes_per_user(self) -> int:
        """Bytes of one user's adaptive weights as float32."""
        return self.size * BYTES_PER_VALUE

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all parameters of the layers, adaptive or not."""
        return {name: tuple(v.shape) for name, v in self._variables.items()}

    def fan_in(self) -> NDArray[np.int64]:
        """How many entries act on the same unit as each value, [P]."""
        by_parameter = []
        for p in self.parameters:
            shape = self._variables[p.name].shape
            inputs = shape[0] if len(shape) > 1 else 1
            by_parameter.append(np.full(p.size, inputs))
        return np.concatenate(by_parameter)

    def kept(self, name: str) -> NDArray[np.int64]:
        """Entries of a parameter that adapt, as indices into its values."""
        return self._kept[name]

    def split(self, flat: tf.Tensor) -> dict[str, tf.Tensor]:
        """Cuts flat weights [B, P] into parameters [B, *shape] by name.

        Shapes are those of the layers' variables. Entries that don't adapt
        have their fixed values; a parameter of which none adapts is left out.

        Raises:
            PartitionError: The second dimension is known and not P.
        """
        if flat.shape[-1] not in (None, self.size):
            raise PartitionError(
                f"Adaptive weights have {flat.shape[-1]} values per user, the "
                f"partition {self.size} "
                f"({', '.join(p.name for p in self.parameters)})."
            )
        weights = {}
        for p in self.parameters:
            variable = self._variables[p.name]
            values = flat[:, p.offset : p.offset + p.size]
            if p.size < _size(variable):
                values = _complete(values, variable, self._kept[p.name])
            weights[p.name] = tf.reshape(values, [-1, *variable.shape])
        return weights

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
                self._entries(
                    p, tf.reshape(weights[p.name], [-1, self._full_size(p)])
                )
                for p in self.parameters
            ],
            axis=1,
        )

    def meta_init(self) -> tf.Tensor:
        """Returns the meta-initialization, flat, [P]; differentiable."""
        return tf.concat(
            [
                self._entries(p, tf.reshape(self._variables[p.name], [-1]))
                for p in self.parameters
            ],
            axis=0,
        )

    def reduced(self, adapts: NDArray[np.bool_]) -> "Partition":
        """The partition of only some of the values.

        Args:
            adapts: Whether each value goes on adapting, bool [P].

        Raises:
            PartitionError: None does.
        """
        kept = dict.fromkeys(self._variables, np.empty(0, np.int64))
        for p in self.parameters:
            part = adapts[p.offset : p.offset + p.size]
            kept[p.name] = self._kept[p.name][part]
        return Partition(self.layers, kept)

    def fixed_values(self, variable: tf.Variable) -> NDArray[np.float32]:
        """A variable's values without those that adapt, flat."""
        values: NDArray[np.float32] = variable.numpy().reshape(-1)
        for name, own in self._variables.items():
            if own is variable:
                return np.delete(values, self._kept[name])
        return values

    def _full_size(self, parameter: AdaptiveParameter) -> int:
        return _size(self._variables[parameter.name])

    def _entries(
        self, parameter: AdaptiveParameter, values: tf.Tensor
    ) -> tf.Tensor:
        """The entries that adapt of values [..., size of the variable]."""
        if parameter.size == self._full_size(parameter):
            return values
        return tf.gather(values, self._kept[parameter.name], axis=-1)


def _size(variable: tf.Variable) -> int:
    return int(np.prod(variable.shape))


def _complete(
    values: tf.Tensor, variable: tf.Variable, kept: NDArray[np.int64]
) -> tf.Tensor:
    """Puts the variable's own values where none of [B, entries] belongs."""
    fixed = np.setdiff1d(np.arange(_size(variable)), kept)
    own = tf.gather(tf.reshape(variable, [-1]), fixed)[tf.newaxis]
    both = tf.concat([values, tf.repeat(own, tf.shape(values)[0], axis=0)], 1)
    return tf.gather(both, np.argsort(np.concatenate([kept, fixed])), axis=1)


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
