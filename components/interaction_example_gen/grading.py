"""Labels from ratings: liked or not, and if the spec has a scale, how much.

    label = 0.5 (rating - lowest) / (at_least - lowest)             not liked
    label = 0.5 + 0.5 (rating - at_least) / (highest - at_least)    liked

so that 0 is the lowest rating, 1 the highest, and 0.5 the first liked one.
"""

import numpy as np
from numpy.typing import NDArray

from components.dataset_labels import LabelSpec
from serving.contract.labels import LIKED

_BELOW_LIKED = np.nextafter(np.float32(LIKED), np.float32(0))


def labels_of(ratings: NDArray[np.float64], rule: LabelSpec) -> NDArray:
    """Makes labels; ratings off the scale count as its ends.

    Args:
        ratings: Shape [rows]; NaN becomes a label of no meaning.
        rule: An explicit one.

    Returns:
        From 0 (disliked) to 1 (liked), float32 [rows].
    """
    is_liked = ratings >= rule.at_least
    if rule.lowest is None or rule.highest is None:
        return is_liked.astype(np.float32)
    # To the parts of the scale first: what is far off a short one overflows.
    disliked = np.clip(ratings, rule.lowest, rule.at_least)
    below = (disliked - rule.lowest) / (rule.at_least - rule.lowest)
    liked = np.clip(ratings, rule.at_least, rule.highest)
    room = rule.highest - rule.at_least
    above = (liked - rule.at_least) / room if room > 0 else is_liked * 1.0
    label = np.where(
        is_liked, LIKED + (1.0 - LIKED) * above, LIKED * below
    ).astype(np.float32)
    # What rounds up to liked is not liked all the same.
    return np.where(is_liked, label, np.clip(label, 0, _BELOW_LIKED))
