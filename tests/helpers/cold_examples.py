"""Raw examples of cold users whose taste the toy model can learn."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import numpy as np
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from tests.helpers.toy_model import (
    ITEM_IDS,
    NUM_ADAPTIVE,
    SEGMENTS,
    TAGS,
    ToyOracle,
    ToyParameters,
)

Row = dict[str, Any]


def make_users(
    num_users: int = 12, num_events: int = 45, seed: int = 0
) -> list[list[Row]]:
    """Makes users who like items by a bent of their own.

    Args:
        num_users: How many.
        num_events: Of each user; the last has 8 only, too few to be judged.
        seed: Of the users; items are the toy's of seed 0.

    Returns:
        Rows per user, in order; None is a missing value.
    """
    random = np.random.default_rng(seed)
    oracle = ToyOracle(ToyParameters.from_seed(0))
    users = []
    for number in range(num_users):
        features = {
            "segment": None if number % 5 == 4 else SEGMENTS[number % 3],
            "tags": list(TAGS[: number % 4]),
            "age": None if number % 4 == 3 else 20.0 + 5 * number,
        }
        known = {k: v for k, v in features.items() if v is not None}
        bent = random.normal(0.0, 3.0, NUM_ADAPTIVE)
        rows = []
        for position in range(8 if number == num_users - 1 else num_events):
            item = ITEM_IDS[random.integers(len(ITEM_IDS))]
            logit = oracle.rank(known, [item], bent)[0]
            rows.append(
                {
                    "user_id": f"{number:03d}",
                    "item_id": item,
                    "label": float(random.random() < 1 / (1 + np.exp(-logit))),
                    "timestamp": 1_000_000 + position,
                    "position": position,
                    **features,
                }
            )
        users.append(rows)
    return users


def to_example(row: Row) -> bytes:
    """Writes a row as a tf.Example; a missing value is an absent feature."""
    example = tf.train.Example()
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        for one in values:
            if isinstance(one, str):
                feature.bytes_list.value.append(one.encode())
            elif isinstance(one, float):
                feature.float_list.value.append(one)
            elif one is not None:
                feature.int64_list.value.append(one)
    return example.SerializeToString()


def write_examples(
    users: Sequence[Sequence[Row]], folder: Path
) -> standard_artifacts.Examples:
    """Writes users as the split meta_test of an Examples artifact."""
    split = folder / "Split-meta_test"
    split.mkdir(parents=True)
    path = split / "data-00000-of-00001.gz"
    with tf.io.TFRecordWriter(str(path), options="GZIP") as writer:
        for rows in users:
            for row in rows:
                writer.write(to_example(row))
    examples = standard_artifacts.Examples()
    examples.uri = str(folder)
    examples.split_names = artifact_utils.encode_split_names(["meta_test"])
    return examples


def known_features(row: Row) -> dict[str, Any]:
    """The user features of a row that are not missing."""
    return {
        name: row[name]
        for name in ("segment", "tags", "age")
        if row[name] is not None
    }
