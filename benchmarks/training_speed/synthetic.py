"""Made-up users and items of MovieLens 1M's size and shape.

Only how many there are, how many ids a feature has and how often items repeat
matter to speed; labels are random. Popularity follows Zipf's law with the
exponent that gives the busiest films their share of the ratings.
"""

from collections.abc import Iterator
from typing import Any

from trainer.features import FeatureSpace  # isort: skip - sets Keras 2

import numpy as np
import tensorflow as tf

from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    ITEM_INDEX,
    ITEM_ROW,
    NUMERIC,
    USER_ROW,
    Feature,
)
from trainer.episodes import LABEL, POSITION, Catalog
from trainer.features import PAD
from trainer.tasks import LabelledRows, Tasks

USERS = 6_040
ITEMS = 3_706
EVENTS_PER_USER = 166
# Rows of a task.
SUPPORT, QUERY_SET = 10, 30
_MAX_GENRES = 6
_ZIPF = 0.8
_USER_IDS = {"age": 8, "gender": 3, "occupation": 22, "zip_region": 11}

SPACE = FeatureSpace(
    user_features=tuple(Feature(name, CATEGORICAL) for name in _USER_IDS),
    item_features=(
        Feature("genres", CATEGORICAL_LIST),
        Feature("release_year", NUMERIC),
    ),
    num_ids={**_USER_IDS, "genres": 19, "release_year": 11},
    num_item_indices=ITEMS + 1,
)


class Log:
    """Draws tasks and episodes."""

    def __init__(self, seed: int = 0) -> None:
        """Makes items' popularity."""
        self._random = np.random.default_rng(seed)
        share = 1.0 / np.arange(1, ITEMS + 1) ** _ZIPF
        self._popularity = self._random.permutation(share / share.sum())

    def catalog(self) -> Catalog:
        """Items with one to six genres and a year."""
        genres = self._random.integers(0, 19, [ITEMS + 1, _MAX_GENRES])
        count = self._random.integers(1, _MAX_GENRES + 1, [ITEMS + 1, 1])
        genres[np.arange(_MAX_GENRES) >= count] = PAD
        year = self._random.integers(0, 11, [ITEMS + 1, 1])
        return Catalog(
            item_ids=[b"%d" % item for item in range(ITEMS)],
            ids={
                "genres": tf.constant(genres),
                "release_year": tf.constant(year),
                ITEM_INDEX: tf.range(ITEMS + 1, dtype=tf.int64)[:, tf.newaxis],
            },
        )

    def tasks(self, users: int, support: int, query_set: int) -> Tasks:
        """A batch of tasks, all sets of the same size."""
        return Tasks(
            user_ids={
                **{
                    name: tf.constant(self._random.integers(0, n, [users, 1]))
                    for name, n in _USER_IDS.items()
                },
                USER_ROW: tf.zeros([users, 1], tf.int64),
            },
            support=self._rows(users, support),
            query_set=self._rows(users, query_set),
        )

    def episodes(self) -> tf.data.Dataset:
        """All users' events, as `trainer.episodes.read_episodes` gives them."""

        def generate() -> Iterator[dict[str, Any]]:
            for _ in range(USERS):
                rows = self._rows(1, EVENTS_PER_USER)
                yield {
                    ITEM_ROW: rows.item_row[0],
                    LABEL: rows.label[0],
                    POSITION: np.arange(EVENTS_PER_USER),
                    **{
                        name: self._random.integers(0, n, 1)
                        for name, n in _USER_IDS.items()
                    },
                }

        types = {ITEM_ROW: tf.int32, LABEL: tf.float32}
        names = [ITEM_ROW, LABEL, POSITION, *_USER_IDS]
        return tf.data.Dataset.from_generator(
            generate,
            output_signature={
                name: tf.TensorSpec([None], types.get(name, tf.int64))
                for name in names
            },
        ).cache()

    def _rows(self, users: int, size: int) -> LabelledRows:
        item = self._random.choice(ITEMS, [users, size], p=self._popularity)
        label = self._random.integers(0, 2, [users, size])
        return LabelledRows(
            tf.constant(item, tf.int32),
            tf.constant(label, tf.float32),
            tf.ones([users, size]),
        )
