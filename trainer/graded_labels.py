"""What the inner loop makes of labels between 0 and 1.

A label of 0.5 and more counts as liked, and whatever is judged is judged on
that alone. How much an event was liked (five stars or four) still tells of a
user's taste, so the inner loop learns from it. What its target is at first lies
between liked-or-not and the degree on the scale of the ratings, brought to the
mean and the standard deviation that liked-or-not has in meta_train:

    degree = liked_from * label / 0.5                              label < 0.5
             liked_from + (1 - liked_from) * (label - 0.5) / 0.5   otherwise
    scaled = mean(liked) + std(liked) * (degree - mean) / std
    target = liked + degree_weight * (scaled - liked)

So on average nothing changes, and where labels are 0 and 1 only, nothing
changes at all. These are the targets of the own vector, the taste. Those of the
own bias, which says how often a user likes what comes, are liked or not.

From there the outer loop learns what each degree tells, of taste and of how
often a user likes: a correction of either target, linear between the `KNOTS` of
the scale.
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from serving.contract.labels import LIKED
from serving.contract.labels import liked as is_liked
from trainer.episodes import LABEL

_USERS_PER_BATCH = 256

# Where on the scale of labels corrections are learned. Twice at `LIKED`: what
# is liked a little may tell something else than what is just not liked.
KNOTS = (0.0, 0.5 * LIKED, LIKED, LIKED, 0.5 * (1.0 + LIKED), 1.0)
_KNOTS_PER_SIDE = len(KNOTS) // 2


def liked(label: tf.Tensor) -> tf.Tensor:
    """1.0 where a label counts as liked, else 0.0; float [...]."""
    return tf.cast(label >= LIKED, tf.float32)


def knot_shares(label: tf.Tensor) -> tf.Tensor:
    """How much a label has of each knot: linear between two of them.

    Args:
        label: From 0 (disliked) to 1 (liked), float [...].

    Returns:
        float [..., 6]; of each label they sum to 1.
    """
    is_liked = liked(label)[..., tf.newaxis]
    side = tf.where(
        label >= LIKED, (label - LIKED) / (1 - LIKED), label / LIKED
    )
    steps = tf.range(_KNOTS_PER_SIDE, dtype=label.dtype)
    away = (_KNOTS_PER_SIDE - 1) * side[..., tf.newaxis] - steps
    shares = tf.nn.relu(1.0 - tf.abs(away))
    return tf.concat([(1.0 - is_liked) * shares, is_liked * shares], axis=-1)


@dataclasses.dataclass(frozen=True)
class Degrees:
    """How labels become targets of taste; by default, they are them.

    Attributes:
        liked_from: Where on the scale of ratings, 0 to 1, liking starts.
        weight: `degree_weight`.
        start: What the lowest degree is scaled to.
        slope: How much higher the highest one is.
    """

    liked_from: float = LIKED
    weight: float = 1.0
    start: float = 0.0
    slope: float = 1.0

    @classmethod
    def of(
        cls, episodes: tf.data.Dataset, liked_from: float, weight: float
    ) -> "Degrees":
        """Measures what `read_episodes` gives."""
        unscaled = cls(liked_from, weight=1.0)
        values = np.zeros(0)
        counts = np.zeros(0)
        for batch in episodes.ragged_batch(_USERS_PER_BATCH):
            # Of few values there are many rows.
            found, times = np.unique(batch[LABEL].values, return_counts=True)
            values = np.concatenate([values, found])
            counts = np.concatenate([counts, times])
        if not counts.any():
            return unscaled
        degree = unscaled.taste(tf.constant(values, tf.float32)).numpy()
        mean, deviation = _moments(degree, counts)
        mean_liked, deviation_liked = _moments(is_liked(values), counts)
        if not deviation:
            return unscaled
        slope = deviation_liked / deviation
        return cls(liked_from, weight, mean_liked - slope * mean, slope)

    def taste(self, label: tf.Tensor) -> tf.Tensor:
        """What the own vector's part of the scores is drawn to.

        Args:
            label: From 0 (disliked) to 1 (liked), float [...].

        Returns:
            float [...]; may lie below 0 or above 1.
        """
        up = label / LIKED
        degree = tf.where(
            label >= LIKED,
            self.liked_from + (1.0 - self.liked_from) * (up - 1.0),
            self.liked_from * up,
        )
        scaled = self.start + self.slope * degree
        return liked(label) + self.weight * (scaled - liked(label))


def _moments(values: NDArray[Any], counts: NDArray[Any]) -> tuple[float, float]:
    mean = np.average(values, weights=counts)
    square = np.average(np.square(values - mean), weights=counts)
    return float(mean), float(np.sqrt(square))
