"""What a model's signature `meta_gradient` says, as plain arrays."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, eq=False)
class MetaGradient:
    """What `meta_gradient` says of some tasks.

    Attributes:
        meta_init: Gradient of the losses' sum, shape [P].
        log_inner_lr: The same, shape [T, P].
        losses: Query loss of each task after the inner loop, shape [B].
    """

    meta_init: NDArray[np.floating[Any]]
    log_inner_lr: NDArray[np.floating[Any]]
    losses: NDArray[np.floating[Any]]

    @classmethod
    def of_outputs(cls, outputs: Mapping[str, NDArray[Any]]) -> "MetaGradient":
        """Takes the signature's outputs by name."""
        return cls(
            outputs["meta_init_gradient"],
            outputs["log_inner_lr_gradient"],
            outputs["loss"],
        )
