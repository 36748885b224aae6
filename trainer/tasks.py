"""Samples tasks from episodes: support sets and query sets for meta-learning.

An episode holds all of a user's rows. Where it is cut is drawn anew each time
it is read: the support set is some events right before the cut, the query set
what came right after it. Nothing later than that is ever in a support set.

A whole batch of users is cut at once, with no loop over users.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from serving.contract.features import ITEM_ROW
from serving.contract.protocol import FIRST_SUPPORT_EVENTS
from trainer.config import TrainerConfig
from trainer.drawn_users import (
    draw_users,
    drawn_user_ids,
    step_seeds,
    user_batches,
)
from trainer.episodes import LABEL, POSITION
from trainer.features import FeatureSpace
from trainer.graded_labels import liked

# The least rows after the cut, where the user has that many.
_MIN_QUERY_ROWS = 5


class LabelledRows(NamedTuple):
    """Rows of each user, all float or int [B, S].

    Attributes:
        item_row: Rows of the catalog.
        label: From 0 to 1; where they are judged, 0 or 1.
        weight: How often a row counts; 0 pads.
    """

    item_row: tf.Tensor
    label: tf.Tensor
    weight: tf.Tensor


class Tasks(NamedTuple):
    """A batch of tasks, one user each.

    Attributes:
        user_ids: Feature ids by name, int64 [B, L].
        support: What the inner loop learns from.
        query_set: What the outer loop judges on.
    """

    user_ids: Mapping[str, tf.Tensor]
    support: LabelledRows
    query_set: LabelledRows


def sample_tasks(
    episodes: tf.data.Dataset, space: FeatureSpace, config: TrainerConfig
) -> tf.data.Dataset:
    """Samples batches of tasks without end.

    Args:
        episodes: What `read_episodes` gives.
        space: Features of users.
        config: Batch size, sizes of the sets, where cuts fall, the seed.

    Returns:
        Dataset of `Tasks` of `config.meta_batch_size` users.

    Raises:
        EpisodeDataError: No user has an event.
    """
    return (
        user_batches(episodes, config)
        .map(
            lambda step, users: _cut(users, step, space, config),
            num_parallel_calls=2,
            deterministic=True,
        )
        .prefetch(2)
    )


def judged_label(label: tf.Tensor, config: TrainerConfig) -> tf.Tensor:
    """What scores are trained to predict of a label: liked or not."""
    return label if config.predict_degree else liked(label)


def _cut(
    users: Mapping[str, tf.RaggedTensor],
    step: tf.Tensor,
    space: FeatureSpace,
    config: TrainerConfig,
) -> Tasks:
    seeds = step_seeds(config.seed, step, 4)
    tasks = config.meta_batch_size
    lengths = users[ITEM_ROW].row_lengths()
    drawn = draw_users(users, config.user_weight_power, tasks, next(seeds))
    start = tf.gather(users[ITEM_ROW].row_starts(), drawn)
    length = tf.gather(lengths, drawn)
    position = users[POSITION].values
    step_of_key = tf.reduce_max(position) + 1
    key = users[POSITION].value_rowids() * step_of_key + position

    def first_row(event: tf.Tensor) -> tf.Tensor:
        """Each drawn user's first row at or after an event."""
        wanted = drawn * step_of_key + tf.maximum(event, 0)
        return tf.cast(tf.searchsorted(key, wanted), tf.int64)

    # Cut before an event, wherever enough rows are left after it.
    latest = tf.maximum(length - _MIN_QUERY_ROWS, 0)
    anywhere = _draw_integers(latest, next(seeds))
    cut_event = tf.gather(position, start + anywhere)
    cut = first_row(cut_event)
    support_start = first_row(
        cut_event - _draw_support_sizes(config, next(seeds), next(seeds))
    )
    support_length = tf.minimum(cut - support_start, config.support_rows)
    support, is_support = _window(
        cut - support_length, support_length, config.support_rows
    )
    query_length = tf.minimum(start + length - cut, config.query_rows)
    query, is_query = _window(cut, query_length, config.query_rows)
    return Tasks(
        user_ids=drawn_user_ids(users, drawn, space),
        support=LabelledRows(
            tf.gather(users[ITEM_ROW].values, support),
            tf.gather(users[LABEL].values, support),
            is_support,
        ),
        query_set=LabelledRows(
            tf.gather(users[ITEM_ROW].values, query),
            judged_label(tf.gather(users[LABEL].values, query), config),
            is_query,
        ),
    )


def _draw_support_sizes(
    config: TrainerConfig, share_seed: tf.Tensor, size_seed: tf.Tensor
) -> tf.Tensor:
    """Events in each support set: the first support set's, or any number."""
    any_size = _draw_integers(
        tf.fill(
            [config.meta_batch_size],
            tf.constant(config.max_support_events, tf.int64),
        ),
        size_seed,
    )
    is_first = (
        tf.random.stateless_uniform([config.meta_batch_size], share_seed)
        < config.first_support_share
    )
    return tf.where(
        is_first, tf.constant(FIRST_SUPPORT_EVENTS, tf.int64), any_size
    )


def _draw_integers(highest: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Uniform on 0 to `highest`, both included, int64 [B]."""
    uniform = tf.random.stateless_uniform(tf.shape(highest), seed)
    drawn = tf.cast(uniform * tf.cast(highest + 1, tf.float32), tf.int64)
    return tf.minimum(drawn, highest)


def _window(
    first: tf.Tensor, length: tf.Tensor, size: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Indices [B, size] from `first` on, and 1.0 where below `length`."""
    offset = tf.range(size, dtype=tf.int64)[tf.newaxis]
    inside = offset < length[:, tf.newaxis]
    index = tf.where(inside, first[:, tf.newaxis] + offset, 0)
    return index, tf.cast(inside, tf.float32)
