"""What each arm achieved, and what that is over the first arm.

Intervals are bootstrapped over all users of an experiment at once: an arm is
figured from those of its users that a draw holds, as often as it holds them.
Arms with users of their own are so drawn independently. A shadow, which scores
what the users of all arms were shown, is judged on the first arm's users and
so compared pairwise: on the same lists, only the scores differ.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.intervals import (
    Interval,
    Rows,
    draw_figures,
    drawn_figures,
    interval_of,
)
from serving.experiments.joining import Exposure

Floats = NDArray[np.floating[Any]]

AUC, WGAUC, REWARD = "auc", "wgauc", "reward"
FIGURES = (AUC, WGAUC, REWARD)


@dataclasses.dataclass(frozen=True)
class ArmFigures:
    """What one arm achieved.

    Attributes:
        users: Users with an exposure.
        exposures: Exposures.
        judged: Exposed items that a label came back for.
        values: Each of `FIGURES`: AUC and wGAUC of the scores against the
            labels that came back, and the labels' sum per exposure. No user
            was shown a shadow's lists, so it has no reward: NaN.
        lifts: The same minus the first arm's.
    """

    users: int
    exposures: int
    judged: int
    values: Mapping[str, Interval]
    lifts: Mapping[str, Interval]


def arm_figures(
    arms: Mapping[str, Sequence[Exposure]],
    unanswered_are_negative: bool = False,
    draws: int = 1000,
    seed: int = 0,
    shadows: Collection[str] = (),
) -> dict[str, ArmFigures]:
    """Returns the figures of an experiment's arms.

    Args:
        arms: Joined exposures by arm; others are compared with the first.
        unanswered_are_negative: Whether an exposed item without an outcome
            counts as a negative one, as where only clicks are sent, rather
            than not at all. It never counts in an exposure without outcome.
        draws: Bootstrap draws.
        seed: Seed of the draws.
        shadows: Names of the arms that users were not shown.
    """
    shown = {exposure.user for exposure in next(iter(arms.values()))}
    arms = {
        name: [e for e in exposures if name not in shadows or e.user in shown]
        for name, exposures in arms.items()
    }
    names = {e.user: 0 for exposures in arms.values() for e in exposures}
    index = {user: number for number, user in enumerate(sorted(names))}
    judged = {
        name: _ArmRows(exposures, index, unanswered_are_negative)
        for name, exposures in arms.items()
    }
    drawn = {
        name: draw_figures(rows.figures(), len(index), draws, seed)
        for name, rows in judged.items()
    }
    for name in shadows:
        drawn[name][:, FIGURES.index(REWARD)] = math.nan
    control = next(iter(drawn.values()))
    return {
        name: ArmFigures(
            users=len({exposure.user for exposure in arms[name]}),
            exposures=len(arms[name]),
            judged=len(rows.labels),
            values=_intervals(drawn[name]),
            lifts=_intervals(drawn[name] - control),
        )
        for name, rows in judged.items()
    }


def sample_ratio_z(users: Sequence[int], weights: Sequence[float]) -> float:
    """Returns how far off the arms' sizes are, in standard deviations.

    A ratio of users other than that of the weights means that who is counted
    depends on the arm (lost exposures, crashes), and no figure can be
    trusted (Fabijan et al., "Diagnosing Sample Ratio Mismatch", KDD 2019).

    Args:
        users: Users of each arm.
        weights: Its weight.

    Returns:
        The largest |z| over the arms, by the normal approximation.
    """
    total, whole = sum(users), sum(weights)
    largest = 0.0
    for size, weight in zip(users, weights, strict=True):
        share = weight / whole
        deviation = math.sqrt(total * share * (1.0 - share))
        if deviation:
            largest = max(largest, abs(size - total * share) / deviation)
    return largest


def _intervals(drawn: Floats) -> dict[str, Interval]:
    return {
        figure: interval_of(drawn[:, column])
        for column, figure in enumerate(FIGURES)
    }


class _ArmRows:
    """The judged rows of an arm, and its exposures, as arrays."""

    def __init__(
        self,
        exposures: Sequence[Exposure],
        index: Mapping[str, int],
        unanswered_are_negative: bool,
    ) -> None:
        users, groups, labels, scores = [], [], [], []
        for number, exposure in enumerate(exposures):
            for item, score in zip(
                exposure.items, exposure.scores, strict=True
            ):
                label = exposure.labels.get(item)
                if label is None:
                    if not (unanswered_are_negative and exposure.labels):
                        continue
                    label = 0.0
                users.append(index[exposure.user])
                groups.append(number)
                labels.append(label)
                scores.append(score)
        self.labels = np.array(labels, np.float64)
        self._rows = Rows(
            user=np.array(users, np.int64),
            window=np.array(groups, np.int64),
            label=(self.labels > 0.5),
        )
        self._scores = np.array(scores, np.float64)
        self._exposure_user = np.array(
            [index[exposure.user] for exposure in exposures], np.int64
        )
        self._rewards = np.array(
            [sum(exposure.labels.values()) for exposure in exposures]
        )

    def figures(self) -> Callable[[Floats], tuple[float, ...]]:
        """Returns the figures as a function of how often users count."""
        ranked = (
            drawn_figures(self._rows, self._scores)
            if len(self._scores)
            else lambda _: (math.nan, math.nan)
        )

        def of(user_weights: Floats) -> tuple[float, ...]:
            weight = user_weights[self._exposure_user]
            total = float(weight.sum())
            reward = float((weight * self._rewards).sum())
            return *ranked(user_weights), reward / total if total else math.nan

        return of
