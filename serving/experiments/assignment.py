"""Which arm a user is in: a function of the user's id, kept nowhere.

So every gateway and every report agrees without talking, and a user stays in
an arm as long as the arms stay as they are. Whether a user takes part and
which arm it is come from two hashes: a growing share brings users in, but
moves none from one arm to another.
"""

import dataclasses
import hashlib
from collections.abc import Sequence

from serving.experiments.config import Arm, Experiment


@dataclasses.dataclass(frozen=True)
class Assignment:
    """A user's place.

    Attributes:
        experiment: The experiment.
        arm: The arm in it.
    """

    experiment: Experiment
    arm: Arm

    @property
    def label(self) -> str:
        """What answers call it: "experiment/arm"."""
        return f"{self.experiment.name}/{self.arm.name}"


def unit_hash(salt: str, purpose: str, user_id: str) -> float:
    """Returns a number from 0 to 1, evenly spread over user ids.

    BLAKE2b keyed by salt and purpose, so that the numbers of two purposes or
    salts are independent.
    """
    key = hashlib.blake2b(f"{purpose}\0{salt}".encode(), digest_size=32)
    digest = hashlib.blake2b(
        user_id.encode(), digest_size=8, key=key.digest()
    ).digest()
    # The 53 bits that a float holds exactly: never rounds up to 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def assign(
    experiments: Sequence[Experiment], user_id: str
) -> Assignment | None:
    """Returns the user's place in the first experiment that takes them."""
    for experiment in experiments:
        salt = experiment.salt
        if unit_hash(salt, "share", user_id) < experiment.share:
            place = unit_hash(salt, "arm", user_id)
            return Assignment(experiment, _arm_at(experiment, place))
    return None


def _arm_at(experiment: Experiment, place: float) -> Arm:
    left = place * sum(arm.weight for arm in experiment.arms)
    for arm in experiment.arms:
        left -= arm.weight
        if left < 0.0:
            return arm
    # Rounding may leave a place of almost 1 just behind the last arm.
    return experiment.arms[-1]
