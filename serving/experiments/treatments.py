"""What an arm means for its users: who answers, and how far they learn."""

import dataclasses
from collections.abc import Sequence

from serving.experiments.assignment import Assignment, assign
from serving.experiments.config import Arm, Experiment


@dataclasses.dataclass(frozen=True)
class Treatment:
    """How one user's request is answered.

    Attributes:
        model: Which model is asked; empty: the default.
        version: Which version of it; None: the current one.
        max_support: How many of the user's events are learned from; 0 serves
            the meta-initialization, None learns on and on.
        place: The user's experiment and arm, if any.
    """

    model: str = ""
    version: int | None = None
    max_support: int | None = None
    place: Assignment | None = None

    @property
    def adapts(self) -> bool:
        """Whether the user's own weights are used at all."""
        return self.max_support != 0


def treatment_of(arm: Arm, place: Assignment) -> Treatment:
    """Returns what an arm does."""
    return Treatment(arm.model or "", arm.version, arm.max_support, place)


def treatment_of_lesson(
    experiments: Sequence[Experiment],
    user_id: str,
    model: str,
    named_model: bool,
    default_model: str,
) -> Treatment:
    """Returns how a user's events are learned from.

    Args:
        experiments: What is tried.
        user_id: The user.
        model: The model that learns.
        named_model: Whether the request asked for that model itself.
        default_model: The model that arms without one of their own ask.
    """
    place = None if named_model else assign(experiments, user_id)
    if place is not None:
        # One that does not learn has no say in what another is taught.
        learning = (s for s in place.experiment.shadows if s.max_support != 0)
        for arm in (place.arm, *learning):
            if (arm.model or default_model) == model:
                return dataclasses.replace(
                    treatment_of(arm, place), model=model
                )
    return Treatment(model)
