"""A few users and items in memory, and models with random parameters."""

from collections.abc import Mapping, Sequence
from typing import Any

from trainer.config import TrainerConfig  # isort: skip - sets Keras 2

import numpy as np
import tensorflow as tf

from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    DRAW_WEIGHT,
    ITEM_INDEX,
    ITEM_ROW,
    NUMERIC,
    USER_ROW,
    Feature,
)
from trainer.episodes import LABEL, POSITION, Catalog
from trainer.features import PAD, FeatureSpace
from trainer.tasks import LabelledRows, Tasks
from trainer.two_tower import PartitionedTwoTower

NUM_ITEMS = 8
SPACE = FeatureSpace(
    user_features=(
        Feature("gender", CATEGORICAL),
        Feature("hobbies", CATEGORICAL_LIST),
    ),
    item_features=(
        Feature("genres", CATEGORICAL_LIST),
        Feature("year", NUMERIC),
    ),
    num_ids={"gender": 3, "hobbies": 4, "genres": 4, "year": 11},
    num_item_indices=7,
)

Episode = Mapping[str, Any]


def tiny_config(**values: Any) -> TrainerConfig:
    """Small, with neither dropout nor a warm start."""
    defaults = {
        "warm_start_rounds": 0,
        "vector_size": 3,
        "hidden_size": 4,
        "feature_size": 2,
        "num_inner_steps": 3,
        "dropout": 0.0,
        "item_id_dropout": 0.0,
        "meta_batch_size": 4,
    }
    return TrainerConfig(**{**defaults, **values})


def make_catalog() -> Catalog:
    """Eight items, of which two were never met in training."""
    genres = [[0], [1, 2], [], [3, 0, 1], [2], [0, 1], [1], [2, 3], [3]]
    width = max(map(len, genres))
    padded = [g + [PAD] * (width - len(g)) for g in genres]
    unknown = SPACE.num_item_indices - 1
    index = [min(item, unknown) for item in range(NUM_ITEMS)] + [unknown]
    return Catalog(
        item_ids=[f"{item:03d}".encode() for item in range(NUM_ITEMS)],
        ids={
            "genres": tf.constant(padded, tf.int64),
            "year": tf.constant(
                [[y % 11] for y in range(3, 3 + NUM_ITEMS)] + [[10]], tf.int64
            ),
            ITEM_INDEX: tf.constant(index, tf.int64)[:, tf.newaxis],
        },
    )


def make_model(config: TrainerConfig, seed: int = 0) -> PartitionedTwoTower:
    """A model that is built, all parameters random and none of them zero.

    But labels are their own targets, until `shift_targets`.
    """
    model = PartitionedTwoTower(SPACE, config)
    model.user_tower(make_user_ids(1))
    model.item_tower(make_catalog().ids)
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "_shift" in variable.name:
            continue
        start = variable.numpy() if "log_" in variable.name else 0.0
        noise = random.normal(0.0, 0.5, variable.shape)
        variable.assign(start + noise)
    return model


def shift_targets(model: PartitionedTwoTower, seed: int = 1) -> None:
    """As if the outer loop had learned what labels tell."""
    random = np.random.default_rng(seed)
    for shift in (model.inner_loop.taste_shift, model.inner_loop.liked_shift):
        shift.assign(random.normal(0.0, 0.3, shift.shape))


def make_user_ids(num_users: int, seed: int = 0) -> dict[str, tf.Tensor]:
    """Feature ids of users as the user tower takes them."""
    random = np.random.default_rng(seed)
    hobbies = random.integers(0, 4, [num_users, 2])
    hobbies[::3, 1] = PAD
    return {
        "gender": tf.constant(random.integers(0, 3, [num_users, 1])),
        "hobbies": tf.constant(hobbies),
        USER_ROW: tf.zeros([num_users, 1], tf.int64),
    }


def make_tasks(num_users: int = 3, seed: int = 0) -> Tasks:
    """Tasks of users with different numbers of support rows, the last none."""
    random = np.random.default_rng(seed)

    def rows(lengths: Sequence[int]) -> LabelledRows:
        shape = num_users, max(lengths)
        present = np.arange(shape[1]) < np.asarray(lengths)[:, np.newaxis]
        return LabelledRows(
            tf.constant(random.integers(0, NUM_ITEMS + 1, shape), tf.int32),
            tf.constant(random.integers(0, 2, shape), tf.float32),
            tf.constant(present * random.choice([1.0, 1.5], shape), tf.float32),
        )

    return Tasks(
        user_ids=make_user_ids(num_users, seed),
        support=rows([*range(num_users + 2, 3, -1), 0]),
        query_set=rows([4] * num_users),
    )


def make_episode(
    positions: Sequence[int], seed: int = 0, **columns: Any
) -> Episode:
    """One user's rows at the given positions, items and labels at random."""
    random = np.random.default_rng(seed)
    size = len(positions)
    return {
        ITEM_ROW: random.integers(0, NUM_ITEMS + 1, size).astype(np.int32),
        LABEL: random.integers(0, 2, size).astype(np.float32),
        POSITION: np.asarray(positions, np.int64),
        "gender": random.integers(0, 3, 1),
        "hobbies": random.integers(0, 4, random.integers(0, 3)),
        DRAW_WEIGHT: np.float32(1.0),
        **columns,
    }


def as_dataset(episodes: Sequence[Episode]) -> tf.data.Dataset:
    """Episodes as `trainer.episodes.read_episodes` gives them."""
    types = {ITEM_ROW: tf.int32, LABEL: tf.float32}
    return tf.data.Dataset.from_generator(
        lambda: iter(episodes),
        output_signature={
            name: tf.TensorSpec([None], types.get(name, tf.int64))
            for name in (ITEM_ROW, LABEL, POSITION, "gender", "hobbies")
        }
        | {DRAW_WEIGHT: tf.TensorSpec([], tf.float32)},
    ).cache()
