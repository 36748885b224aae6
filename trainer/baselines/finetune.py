"""`joint_finetune`: `joint`, then our inner loop on the same adaptive layers.

What meta-learning learns of the inner loop, plain training does not: step
sizes, the pull toward the start, the curvature. Here they are found by random
search on meta_valid, one value for the parameters of each layer's kind: for
scalars such as a bias, and for the others. The start is where the layers were
made: nobody moved them. How much of a user's weights is carried on is drawn,
too; ours has it chosen on meta_valid alike.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from trainer.carried_share import SHARES
from trainer.stream_validation import ScorerValidation
from trainer.two_tower import PartitionedTwoTower

# Ranges of natural logarithms, searched uniformly.
_LOG_INNER_LR = (-4.0, 1.0)
_LOG_PRECISION = (-2.0, 5.0)
_LOG_CURVATURE = (-5.0, -1.0)


@dataclasses.dataclass(frozen=True)
class InnerLoopSettings:
    """Settings of the inner loop, natural logarithms but for the last.

    Attributes:
        inner_lr: Of the step size.
        scalar_precision: Of the pull of parameters with one value.
        precision: Of the pull of the other parameters.
        curvature: Of the curvature that one event adds.
        carried_share: How much of a user's weights is carried on; itself, no
            logarithm.
    """

    inner_lr: float
    scalar_precision: float
    precision: float
    curvature: float
    carried_share: float

    def apply(self, model: PartitionedTwoTower) -> None:
        """Sets a model's inner loop."""
        loop = model.inner_loop
        precision = np.concatenate(
            [
                np.full(
                    parameter.size,
                    self.scalar_precision
                    if parameter.size == 1
                    else self.precision,
                )
                for parameter in model.partition.parameters
            ]
        )
        loop.log_precision.assign(precision)
        for name, value in (
            ("log_inner_lr", self.inner_lr),
            ("log_curvature", self.curvature),
        ):
            # A solver that takes no steps of a size has neither.
            variable = getattr(loop, name, None)
            if variable is not None:
                variable.assign(np.full(variable.shape, value))
        if loop.carried_share is not None:
            loop.carried_share.assign(self.carried_share)


@dataclasses.dataclass(frozen=True)
class FinetuneTrial:
    """Settings, and the means of AUC and wGAUC that they reach on meta_valid.

    Attributes:
        settings: What was tried.
        offline: After the first ten events.
        online: Learning from every window.
    """

    settings: InnerLoopSettings
    offline: float
    online: float


def draw_settings(trials: int, seed: int) -> list[InnerLoopSettings]:
    """Draws settings to try."""
    random = np.random.default_rng(seed)
    return [
        InnerLoopSettings(
            inner_lr=random.uniform(*_LOG_INNER_LR),
            scalar_precision=random.uniform(*_LOG_PRECISION),
            precision=random.uniform(*_LOG_PRECISION),
            curvature=random.uniform(*_LOG_CURVATURE),
            carried_share=float(random.choice(SHARES)),
        )
        for _ in range(trials)
    ]


def try_inner_loops(
    model: PartitionedTwoTower,
    validation: ScorerValidation,
    candidates: Sequence[InnerLoopSettings],
) -> list[FinetuneTrial]:
    """Tries settings; what suits one support set need not suit a stream.

    Args:
        model: A `joint` model; it is left with the last settings.
        validation: Scores that model's stream on meta_valid.
        candidates: Settings to try.
    """
    trials = []
    for settings in candidates:
        settings.apply(model)
        figures = validation.evaluate()
        offline, online = (
            (figures.auc[name] + figures.wgauc[name]) / 2
            for name in ("offline", "online")
        )
        trials.append(FinetuneTrial(settings, offline, online))
    return trials
