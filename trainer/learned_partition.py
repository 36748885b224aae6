"""The learned partition: keeps the adaptive values that are worth their bytes.

Preset `learned` starts from everything that may adapt, with a gate on each
value's step size and a penalty on the gates (`trainer.solver`). After training,
`reduce_partition` makes the values whose gates are closed fixed for good: a
user's weights are that much shorter, and nothing else changes.
"""

import dataclasses
import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.partition import BYTES_PER_VALUE
from trainer.two_tower import PartitionedTwoTower

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AdaptiveMap:
    """What adapts, and how far.

    Attributes:
        step_sizes: An array of the parameter's shape for each adaptive
            parameter of the model's layers: how far a gradient of 1 moves
            each entry; 0 where it is fixed.
    """

    step_sizes: dict[str, NDArray[np.float32]]

    @classmethod
    def of(cls, model: PartitionedTwoTower) -> "AdaptiveMap":
        """Reads it off a model."""
        partition = model.partition
        sizes = model.inner_loop.step_sizes()
        maps = {}
        for name, shape in partition.shapes.items():
            maps[name] = np.zeros(shape, np.float32)
        for p in partition.parameters:
            entries = maps[p.name].reshape(-1)
            entries[partition.kept(p.name)] = sizes[
                p.offset : p.offset + p.size
            ]
        return cls(maps)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """As JSON: by parameter its shape, and entries with step sizes."""
        result = {}
        for name, sizes in self.step_sizes.items():
            [entries] = np.nonzero(sizes.reshape(-1))
            result[name] = {
                "shape": list(sizes.shape),
                "entries": entries.tolist(),
                "step_size": sizes.reshape(-1)[entries].round(6).tolist(),
            }
        return result

    def __str__(self) -> str:
        """One line per parameter: how many of its entries adapt, how far."""
        lines = []
        for name, sizes in self.step_sizes.items():
            adaptive = sizes[sizes > 0]
            mean = f"{adaptive.mean():.4f}" if adaptive.size else "-"
            lines.append(
                f"{name:<24} {adaptive.size:>6} of {sizes.size:>6} adapt, "
                f"mean step size {mean}"
            )
        return "\n".join(lines)


def reduce_partition(model: PartitionedTwoTower, max_bytes: int) -> None:
    """Fixes what doesn't adapt, at the meta-initialization.

    If more is left than the budget allows, the values with the widest open
    gates stay.

    Args:
        model: Trained; scores as before, if the budget cut nothing.
        max_bytes: Budget of bytes per user; 0 is no limit.

    Raises:
        PartitionError: Every gate is closed.
    """
    gates = model.inner_loop.gates().numpy()
    before = model.partition.bytes_per_user
    adapts = gates > 0
    if max_bytes:
        strongest = np.argsort(-gates, kind="stable")
        adapts[strongest[max_bytes // BYTES_PER_VALUE :]] = False
    open_gates = int((gates > 0).sum())
    model.keep_adaptive(adapts)
    _LOG.info(
        "learned partition: %d of %d gates open, %d bytes per user of %d\n%s",
        open_gates,
        len(gates),
        model.partition.bytes_per_user,
        before,
        AdaptiveMap.of(model),
    )
