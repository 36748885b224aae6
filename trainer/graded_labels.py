"""What the inner loop makes of labels between 0 and 1.

A label of 0.5 and more counts as liked, and whatever is judged is judged on
that alone. How much an event was liked (five stars or four) still tells of a
user's taste, so the inner loop learns from it. Its target is

    target = liked + degree_weight * (label - mean) / standard deviation

mean and deviation being those of its kind, liked or disliked, in meta_train:
four stars are drawn to a bit less than 1, five to a bit more. On average
nothing changes, and where labels are 0 and 1 only, nothing changes at all.

These are the targets of the own vector, the taste. The own bias, which says
how often a user likes what comes, learns from liked or not.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from serving.contract.labels import LIKED
from serving.contract.labels import liked as is_liked
from trainer.episodes import LABEL

_USERS_PER_BATCH = 256


def liked(label: tf.Tensor) -> tf.Tensor:
    """1.0 where a label counts as liked, else 0.0; float [...]."""
    return tf.cast(label >= LIKED, tf.float32)


@dataclasses.dataclass(frozen=True)
class Degrees:
    """Labels of disliked and of liked events; by default, all the same.

    Attributes:
        means: Mean label of the disliked and of the liked ones.
        deviations: Their standard deviations; 0 if all are the same.
    """

    means: tuple[float, float] = (0.0, 1.0)
    deviations: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, episodes: tf.data.Dataset) -> "Degrees":
        """Measures what `read_episodes` gives."""
        sums = np.zeros([3, 2])
        for batch in episodes.ragged_batch(_USERS_PER_BATCH):
            labels = batch[LABEL].values.numpy().astype(float)
            kinds = is_liked(labels).astype(int)
            for power, row in enumerate(sums):
                row += np.bincount(kinds, labels**power, 2)
        count = np.maximum(sums[0], 1.0)
        means, squares = sums[1] / count, sums[2] / count
        deviations = np.sqrt(np.maximum(squares - means**2, 0.0))
        return cls(tuple(means.tolist()), tuple(deviations.tolist()))

    def taste(self, label: tf.Tensor, degree_weight: tf.Tensor) -> tf.Tensor:
        """What the own vector's part of the scores is drawn to.

        Args:
            label: From 0 (disliked) to 1 (liked), float [...].
            degree_weight: How far degrees count, a scalar.

        Returns:
            float [...]; may lie a bit below 0 or above 1.
        """
        kind = liked(label)
        is_kind = kind > 0.0
        mean, deviation = (
            tf.where(is_kind, *map(tf.constant, reversed(pair)))
            for pair in (self.means, self.deviations)
        )
        degree = tf.math.divide_no_nan(label - mean, deviation)
        return kind + degree_weight * degree
