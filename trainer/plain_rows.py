"""Samples rows from episodes, for training without meta-learning."""

from collections.abc import Mapping

import tensorflow as tf

from serving.contract.features import ITEM_ROW
from trainer.config import TrainerConfig
from trainer.drawn_users import (
    draw_users,
    drawn_user_ids,
    step_seeds,
    user_batches,
)
from trainer.episodes import LABEL
from trainer.features import FeatureSpace
from trainer.tasks import LabelledRows, judged_label


def sample_rows(
    episodes: tf.data.Dataset, space: FeatureSpace, config: TrainerConfig
) -> tf.data.Dataset:
    """Samples rows in no order, for plain supervised training.

    Users are drawn proportional to their rows, and `config.query_rows` rows of
    each, so that every row counts alike.

    Returns:
        Dataset of (user ids, `LabelledRows`).

    Raises:
        EpisodeDataError: No user has an event.
    """

    def draw(
        step: tf.Tensor, users: Mapping[str, tf.RaggedTensor]
    ) -> tuple[dict[str, tf.Tensor], LabelledRows]:
        seeds = step_seeds(config.seed, step, 2)
        lengths = users[ITEM_ROW].row_lengths()
        drawn = draw_users(users, 1.0, config.meta_batch_size, next(seeds))
        length = tf.gather(lengths, drawn)[:, tf.newaxis]
        uniform = tf.random.stateless_uniform(
            [config.meta_batch_size, config.query_rows], next(seeds)
        )
        rows = tf.cast(uniform * tf.cast(length, tf.float32), tf.int64)
        start = tf.gather(users[ITEM_ROW].row_starts(), drawn)[:, tf.newaxis]
        picked = start + tf.minimum(rows, length - 1)
        return drawn_user_ids(users, drawn, space), LabelledRows(
            tf.gather(users[ITEM_ROW].values, picked),
            judged_label(tf.gather(users[LABEL].values, picked), config),
            tf.ones_like(uniform),
        )

    return (
        user_batches(episodes, config)
        .map(draw, num_parallel_calls=2, deterministic=True)
        .prefetch(2)
    )
