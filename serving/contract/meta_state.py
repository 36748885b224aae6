"""The meta state: what the online stage moves, the fixed part being frozen.

New users start at the meta-initialization and everybody's inner loop pulls
toward it, with the step sizes that belong to it; so both travel together, as
inputs of the model's signatures, under one version number.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.errors import MetaStateError

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class MetaState:
    """Meta-initialization and inner step sizes; arrays are read-only.

    Attributes:
        meta_init: Where new users start, float32, shape [P].
        log_inner_lr: Log of the inner loop's step sizes, float32, shape
            [T, P]; T is 0 for a solver that takes no steps.
        version: 0 as trained, one more for each that the online stage made.

    Raises:
        MetaStateError: Shapes don't match, or a value is not finite.
    """

    meta_init: Floats
    log_inner_lr: Floats
    version: int = 0

    def __post_init__(self) -> None:
        for name in ("meta_init", "log_inner_lr"):
            array = np.array(getattr(self, name), np.float32)
            if not np.isfinite(array).all():
                raise MetaStateError(
                    f"{name} of meta state {self.version} holds values that "
                    "are not finite. Roll back to an earlier version, or "
                    "export the model again."
                )
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        size = self.meta_init.shape
        if len(size) != 1 or self.log_inner_lr.shape[1:] != size:
            raise MetaStateError(
                f"Meta state {self.version} has a meta-initialization of "
                f"shape {list(size)} and step sizes of shape "
                f"{list(self.log_inner_lr.shape)}; expected [P] and [T, P]."
            )

    def fits(self, other: "MetaState") -> bool:
        """Whether one may stand for the other: both are of one shape."""
        return self.log_inner_lr.shape == other.log_inner_lr.shape and (
            self.meta_init.shape == other.meta_init.shape
        )

    def same_values(self, other: "MetaState") -> bool:
        """Whether both hold the same values, whatever their versions."""
        return np.array_equal(
            self.meta_init, other.meta_init
        ) and np.array_equal(self.log_inner_lr, other.log_inner_lr)

    def initial_weights(self, num_users: int) -> Floats:
        """The weights of users nothing is known of, shape [num_users, P]."""
        return np.tile(self.meta_init, (num_users, 1))

    def inputs(self) -> dict[str, Floats]:
        """The meta state as inputs of the signatures that take it."""
        return {"meta_init": self.meta_init, "log_inner_lr": self.log_inner_lr}

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values; float32 survives them exactly."""
        return {
            "version": self.version,
            "meta_init": self.meta_init.tolist(),
            "log_inner_lr": self.log_inner_lr.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MetaState":
        """Reads what `to_dict` wrote.

        Raises:
            MetaStateError: The values are no meta state.
        """
        try:
            meta_init = np.array(values["meta_init"], np.float32)
            steps = np.array(values["log_inner_lr"], np.float32)
            version = int(values["version"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise MetaStateError(
                f"These values are no meta state ({error!r})."
            ) from error
        if not steps.size:
            steps = steps.reshape(0, *meta_init.shape)
        return cls(meta_init, steps, version)
