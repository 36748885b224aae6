"""How a search is made: by whom, how long, under which budget."""

import dataclasses

from trainer.errors import TrainerConfigError

BAYESIAN = "bayesian"
HYPERBAND = "hyperband"
RANDOM = "random"
ORACLES = (BAYESIAN, HYPERBAND, RANDOM)


@dataclasses.dataclass(frozen=True)
class TuningOptions:
    """Options of a search.

    Attributes:
        max_trials: Trials at most, those of earlier processes included.
        budget_bytes: Bytes of adaptive weights that a user may take.
        oracle: Who proposes trials: `bayesian` (a Gaussian process over those
            that ended), `hyperband` (many short ones, of which the best go
            on), or `random`.
        seed: Of the oracle.
    """

    max_trials: int = 30
    budget_bytes: int = 256
    oracle: str = BAYESIAN
    seed: int = 0

    def __post_init__(self) -> None:
        if self.oracle not in ORACLES:
            raise TrainerConfigError(
                f"There is no oracle {self.oracle!r}; use one of "
                f"{', '.join(ORACLES)}."
            )
        for name in ("max_trials", "budget_bytes"):
            if getattr(self, name) < 1:
                raise TrainerConfigError(f"{name} must be 1 or more.")
