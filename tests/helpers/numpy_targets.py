"""What labels tell the inner loop, again, in NumPy and float64."""

import numpy as np

Array = np.ndarray


def targets(
    label: Array, taste_shift: Array, liked_shift: Array
) -> tuple[Array, Array]:
    """Targets of the own vector and the own bias, [S].

    Args:
        label: From 0 to 1, [S]; what it tells of taste is it itself at first.
        taste_shift: Corrections at 0, 1/4, just below 1/2, 1/2, 3/4 and 1.
        liked_shift: The same.
    """
    is_liked = label >= 0.5

    def correction(shift: Array) -> Array:
        below = np.interp(label, [0.0, 0.25, 0.5], shift[:3])
        above = np.interp(label, [0.5, 0.75, 1.0], shift[3:])
        return np.where(is_liked, above, below)

    return label + correction(taste_shift), is_liked + correction(liked_shift)
