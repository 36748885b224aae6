"""Draws the users that a batch of tasks, or of plain rows, is sampled from.

What is drawn depends on the seed and the step alone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from serving.contract.features import DRAW_WEIGHT, ITEM_ROW
from trainer.config import TrainerConfig
from trainer.episodes import user_ids
from trainer.errors import EpisodeDataError
from trainer.features import FeatureSpace

# Tasks are drawn from this many times as many users as a batch has tasks.
_USERS_PER_TASK = 2
_SHUFFLE_USERS = 20_000


def user_batches(
    episodes: tf.data.Dataset, config: TrainerConfig
) -> tf.data.Dataset:
    """Shuffles users, without end.

    Args:
        episodes: What `read_episodes` gives.
        config: Batch size and seed.

    Returns:
        Dataset of (step, users): int64 [], and episodes by column, ragged, of
        more users than `config.meta_batch_size`.

    Raises:
        EpisodeDataError: No user has an event.
    """
    # A user without events has no row that a task could be cut at.
    episodes = episodes.filter(lambda user: tf.size(user[ITEM_ROW]) > 0)
    if next(iter(episodes.take(1)), None) is None:
        raise EpisodeDataError(
            "meta_train holds no event, so there is nothing to train on. "
            "Check the log of the dataset spec and the dead letters."
        )
    return (
        episodes.shuffle(_SHUFFLE_USERS, seed=config.seed)
        .repeat()
        .ragged_batch(_USERS_PER_TASK * config.meta_batch_size)
        .enumerate()
    )


def draw_users(
    users: Mapping[str, Any], power: float, count: int, seed: tf.Tensor
) -> tf.Tensor:
    """Draws users of a batch, with replacement.

    Proportional to events ** power, and to `draw_weight` where given.

    Args:
        users: Episodes by column, ragged.
        power: 0 draws all users alike, 1 all events.
        count: How many are drawn, B.
        seed: int64 [2].

    Returns:
        Indices of users, int64 [B].
    """
    lengths = tf.cast(users[ITEM_ROW].row_lengths(), tf.float32)
    logits = power * tf.math.log(lengths)
    if DRAW_WEIGHT in users:
        logits += tf.math.log(users[DRAW_WEIGHT])
    return tf.random.stateless_categorical(
        logits[tf.newaxis], count, seed, dtype=tf.int64
    )[0]


def step_seeds(seed: int, step: tf.Tensor, count: int) -> Iterator[tf.Tensor]:
    """Seeds of all that is drawn for one batch.

    Args:
        seed: Of the training.
        step: Which batch it is, int64 [].
        count: How many seeds.

    Returns:
        Seeds of stateless random numbers, int64 [2] each.
    """
    base = tf.stack([tf.constant(seed, tf.int64), step])
    return iter(tf.unstack(tf.random.experimental.stateless_split(base, count)))


def drawn_user_ids(
    users: Mapping[str, tf.RaggedTensor], drawn: tf.Tensor, space: FeatureSpace
) -> dict[str, tf.Tensor]:
    """What the user tower takes, of users that were drawn.

    Args:
        users: Episodes by column, ragged.
        drawn: Indices of users, int64 [B].
        space: Features of users.

    Returns:
        Feature ids by name, int64 [B, L].
    """
    return {
        name: tf.gather(ids, drawn)
        for name, ids in user_ids(users, space).items()
    }
