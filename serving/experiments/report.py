"""The report of an experiment: a table for people, JSON for machines."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from serving.contract.intervals import Interval
from serving.experiments.config import Experiment
from serving.experiments.figures import (
    FIGURES,
    REWARD,
    ArmFigures,
    arm_figures,
    sample_ratio_z,
)
from serving.experiments.joining import ArmKey, Exposure

# One experiment in 15,000 looks so by chance.
_SUSPICIOUS_Z = 4.0
_COLUMNS = (
    *("arm", "users", "exposures", "judged"),
    *(f"{part}" for figure in FIGURES for part in (figure, "lift over first")),
)


@dataclasses.dataclass(frozen=True)
class Report:
    """What an experiment has shown so far.

    Attributes:
        experiment: Its name.
        arms: What each arm achieved, the one compared with first.
        shadows: Names of those that users were not shown.
        sample_ratio_z: See `figures.sample_ratio_z`.
    """

    experiment: str
    arms: Mapping[str, ArmFigures]
    shadows: Sequence[str]
    sample_ratio_z: float

    @property
    def sizes_are_suspicious(self) -> bool:
        """Whether arms have other sizes than chance would give them."""
        return self.sample_ratio_z > _SUSPICIOUS_Z

    def as_json(self) -> dict[str, Any]:
        """Returns what `json.dumps` can write; NaN becomes null."""
        content = dataclasses.asdict(self)
        content["sizes_are_suspicious"] = self.sizes_are_suspicious
        cleaned: dict[str, Any] = _without_nan(content)
        return cleaned

    def as_text(self) -> str:
        """Returns a table."""
        names = [
            f"{name} (shadow)" if name in self.shadows else name
            for name in self.arms
        ]
        rows = [_COLUMNS, *map(_row, names, self.arms.values())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.ljust(width)
                for cell, width in zip(row, widths, strict=True)
            ).rstrip()
            for row in rows
        ]
        text = "\n".join([f"experiment {self.experiment}", "", *lines])
        if self.sizes_are_suspicious:
            text += (
                "\n\nThe arms' numbers of users do not fit their weights "
                f"({self.sample_ratio_z:.1f} standard deviations). Exposures "
                "were lost, or the weights changed on the way; do not trust "
                "the figures before it is known why."
            )
        return text


def make_report(
    experiment: Experiment,
    joined: Mapping[ArmKey, Sequence[Exposure]],
    unanswered_are_negative: bool = False,
    draws: int = 1000,
    seed: int = 0,
) -> Report:
    """Makes the report of an experiment out of joined exposures."""
    exposures = {
        arm.name: joined.get((experiment.name, arm.name), [])
        for arm in (*experiment.arms, *experiment.shadows)
    }
    shadows = [shadow.name for shadow in experiment.shadows]
    figures = arm_figures(
        exposures, unanswered_are_negative, draws, seed, shadows
    )
    z = sample_ratio_z(
        [figures[arm.name].users for arm in experiment.arms],
        [arm.weight for arm in experiment.arms],
    )
    return Report(experiment.name, figures, shadows, z)


def _row(name: str, arm: ArmFigures) -> tuple[str, ...]:
    cells = [name, str(arm.users), str(arm.exposures), str(arm.judged)]
    for figure in FIGURES:
        # AUC in points, as everywhere; rewards as they are.
        scale = 1.0 if figure == REWARD else 100.0
        cells += [
            _cell(arm.values[figure].scaled(scale), ""),
            _cell(arm.lifts[figure].scaled(scale), "+"),
        ]
    return tuple(cells)


def _cell(value: Interval, sign: str) -> str:
    if math.isnan(value.value):
        return "-"
    if value == Interval(0.0, 0.0, 0.0):
        return ""
    number = f"{{:{sign}.3f}}".format
    return (
        f"{number(value.value)} ({number(value.low)} to {number(value.high)})"
    )


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
