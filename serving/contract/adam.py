"""Adam (arXiv 1412.6980), by which the online outer loop moves."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.meta_config import OnlineMetaConfig

Doubles = NDArray[np.float64]

_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True, eq=False)
class Adam:
    """Where the optimizer is.

    Attributes:
        mean: Of the gradients, in the shape of the values that move.
        square: Of the squared gradients, the same.
        steps: How many it has seen.
    """

    mean: Doubles
    square: Doubles
    steps: int = 0

    @classmethod
    def fresh(cls, shape: tuple[int, ...]) -> "Adam":
        """Begins, for values of a shape."""
        return cls(np.zeros(shape), np.zeros(shape))

    def after(self, gradient: Doubles, config: OnlineMetaConfig) -> "Adam":
        """Returns the optimizer after one more gradient.

        Args:
            gradient: In the shape of the values, finite.
            config: Decays of both means.
        """
        return Adam(
            config.beta1 * self.mean + (1 - config.beta1) * gradient,
            config.beta2 * self.square + (1 - config.beta2) * gradient**2,
            self.steps + 1,
        )

    def descent(self, config: OnlineMetaConfig) -> Doubles:
        """Returns what to take from the values; there was a gradient.

        Args:
            config: Step size, and the decays that the means had.
        """
        mean = self.mean / (1 - config.beta1**self.steps)
        square = self.square / (1 - config.beta2**self.steps)
        way: Doubles = config.outer_lr * mean / (np.sqrt(square) + _EPSILON)
        return way

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values that `from_dict` reads exactly."""
        return {
            "mean": self.mean.tolist(),
            "square": self.square.tolist(),
            "steps": self.steps,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Adam":
        """Reads what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: These are other values.
        """
        return cls(
            np.array(values["mean"], np.float64),
            np.array(values["square"], np.float64),
            int(values["steps"]),
        )
