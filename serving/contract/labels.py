"""What a label says: from 0 (disliked) to 1 (liked), or only either.

Labels may hold degrees (five stars are more than four). Whatever is judged is
judged on liked or not; only learning from a user's events looks at degrees.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

# From here on an event counts as liked.
LIKED = 0.5


def liked(labels: ArrayLike) -> NDArray[np.bool_]:
    """Tells which labels count as liked; the shape of `labels`."""
    result: NDArray[Any] = np.asarray(labels, float) >= LIKED
    return result
