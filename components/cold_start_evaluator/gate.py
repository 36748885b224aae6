"""Whether a model may replace the one that is served, and why not."""

import dataclasses
from collections.abc import Mapping
from typing import Any

_FIGURES = ("auc", "wgauc")


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What a candidate has to reach.

    Attributes:
        min_lift_over_joint: The lower bound of the paired interval of
            `online` minus `joint` has to lie above this, in AUC as in wGAUC.
            In the figures' own unit: 0.01 is one point.
        max_loss_to_last_blessed: How far below the last blessed model
            `online` may lie, in AUC as in wGAUC.
    """

    min_lift_over_joint: float = 0.0
    max_loss_to_last_blessed: float = 0.005


def refusal_reasons(
    lifts: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    thresholds: Thresholds,
) -> list[str]:
    """Returns why a candidate is not blessed; nothing if it is.

    Args:
        lifts: As `stream_figures` returns them.
        thresholds: What to reach.
    """
    reasons = []
    for figure in _FIGURES:
        lift = lifts["online_minus_joint"][figure]
        low = lift["low"]
        if low is None or low <= thresholds.min_lift_over_joint:
            reasons.append(
                f"{figure}: online minus joint is {_interval(lift)}; its "
                f"lower bound has to be above {thresholds.min_lift_over_joint}"
            )
    if "online_minus_last_blessed" in lifts:
        for figure in _FIGURES:
            lift = lifts["online_minus_last_blessed"][figure]
            value = lift["value"]
            if value is None or value < -thresholds.max_loss_to_last_blessed:
                reasons.append(
                    f"{figure}: online minus the last blessed model's is "
                    f"{_interval(lift)}; it may lose at most "
                    f"{thresholds.max_loss_to_last_blessed}"
                )
    return reasons


def _interval(lift: Mapping[str, Any]) -> str:
    if lift["value"] is None or lift["low"] is None:
        return "not defined (one class or one user only)"
    return f"{lift['value']:+.4f} [{lift['low']:+.4f}, {lift['high']:+.4f}]"
