"""Reads what EpisodeGen wrote: users' episodes, and the catalog of items."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import tensorflow as tf

from serving.contract.features import (
    DRAW_WEIGHT,
    ITEM_INDEX,
    ITEM_ROW,
    USER_ROW,
    Feature,
)
from trainer.errors import EpisodeDataError
from trainer.features import PAD, FeatureSpace

# Parsed episodes stay in memory up to this many bytes of (gzipped) files.
_CACHE_BYTES = 1 << 30

LABEL = "label"
POSITION = "position"


@dataclasses.dataclass(frozen=True)
class Catalog:
    """All items, and one more row for those that nobody knows.

    Attributes:
        item_ids: Ids of the known items, [items].
        ids: `item_index` and feature ids, int64 [items + 1, L], `PAD` on the
            right; the last row is the unknown item.
    """

    item_ids: Sequence[bytes]
    ids: Mapping[str, tf.Tensor]

    @property
    def unknown_row(self) -> int:
        """Row that stands for an item that is not in the catalog."""
        return len(self.item_ids)


def read_catalog(files: Sequence[str], space: FeatureSpace) -> Catalog:
    """Reads the catalog.

    Args:
        files: TFRecord files (gzip) of split `catalog`.
        space: Features that the item tower sees.

    Raises:
        EpisodeDataError: There is no item.
    """
    spec = _id_spec(space.item_features) | {
        "item_id": tf.io.FixedLenFeature([], tf.string),
        ITEM_INDEX: tf.io.RaggedFeature(tf.int64),
    }
    records = list(_records(files).batch(1 << 20))
    if not records:
        raise EpisodeDataError(
            f"The catalog {list(files)} holds no item. Check the item table "
            "of the dataset spec and the dead letters."
        )
    parsed = tf.io.parse_example(tf.concat(records, axis=0), spec)
    item_ids = parsed.pop("item_id").numpy().tolist()
    unknown = {
        feature.name: space.num_ids[feature.name] - 1
        for feature in space.item_features
    } | {ITEM_INDEX: space.num_item_indices - 1}
    ids = {}
    for name, ragged in parsed.items():
        # One column at least, be the feature missing from every item.
        width = tf.maximum(ragged.bounding_shape(axis=1), 1)
        known = ragged.to_tensor(PAD, shape=tf.stack([-1, width]))
        row = tf.fill([1, tf.shape(known)[1]], tf.constant(PAD, tf.int64))
        row = tf.concat(
            [tf.constant([[unknown[name]]], tf.int64), row[:, 1:]], axis=1
        )
        ids[name] = tf.concat([known, row], axis=0)
    return Catalog(item_ids=item_ids, ids=ids)


def read_episodes(
    files: Sequence[str],
    space: FeatureSpace,
    catalog: Catalog,
    draw_weights: Mapping[str, float] | None = None,
) -> tf.data.Dataset:
    """Reads episodes, one element per user.

    Args:
        files: TFRecord files (gzip) of one split.
        space: Features that the user tower sees.
        catalog: Items; others get its row for unknown items.
        draw_weights: By prefix of user ids, how often such users are drawn
            in training; 1 where none matches.

    Returns:
        Dataset of dicts: `item_row` int32 [n], `label` float [n], `position`
        int64 [n], `draw_weight` float [], each user feature's ids int64 [m].
    """
    spec = _id_spec(space.user_features) | {
        "user_id": tf.io.FixedLenFeature([], tf.string),
        "item_id": tf.io.RaggedFeature(tf.string),
        LABEL: tf.io.RaggedFeature(tf.float32),
        POSITION: tf.io.RaggedFeature(tf.int64),
    }
    item_row = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(
            tf.constant(catalog.item_ids),
            tf.range(catalog.unknown_row, dtype=tf.int32),
        ),
        default_value=catalog.unknown_row,
    )

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_single_example(serialized, spec)
        parsed[ITEM_ROW] = item_row.lookup(parsed.pop("item_id"))
        user_id = parsed.pop("user_id")
        weight = tf.constant(1.0)
        for prefix, value in (draw_weights or {}).items():
            start = tf.strings.substr(user_id, 0, len(prefix.encode()))
            weight = tf.where(start == prefix, value, weight)
        parsed[DRAW_WEIGHT] = weight
        return parsed

    dataset = _records(files).map(parse, num_parallel_calls=2)
    size = sum(Path(file).stat().st_size for file in files)
    return dataset.cache() if size <= _CACHE_BYTES else dataset


def user_ids(
    users: Mapping[str, tf.RaggedTensor], space: FeatureSpace
) -> dict[str, tf.Tensor]:
    """What the user tower takes, of a ragged batch of episodes.

    Returns:
        Feature ids by name, int64 [B, L], `PAD` on the right; and `user_row`.
    """
    num_users = users[ITEM_ROW].nrows()
    ids = {
        feature.name: users[feature.name].to_tensor(PAD)
        for feature in space.user_features
    }
    return ids | {USER_ROW: tf.zeros([num_users, 1], tf.int64)}


def expand(patterns: Sequence[str]) -> list[str]:
    """Lists the files that match, sorted.

    Raises:
        EpisodeDataError: There is none.
    """
    files = sorted(f for p in patterns for f in tf.io.gfile.glob(p))
    if not files:
        raise EpisodeDataError(
            f"No episode file matches {list(patterns)}. Is EpisodeGen's "
            "output still there? Run without cache to make it again."
        )
    return files


def catalog_pattern(episode_pattern: str) -> str:
    """Where the catalog of an episodes artifact lies, given a split of it."""
    split = Path(episode_pattern).parent
    return str(split.parent / "Split-catalog" / Path(episode_pattern).name)


def _records(files: Sequence[str]) -> tf.data.TFRecordDataset:
    return tf.data.TFRecordDataset(files, compression_type="GZIP")


def _id_spec(features: Sequence[Feature]) -> dict[str, tf.io.RaggedFeature]:
    return {feature.name: tf.io.RaggedFeature(tf.int64) for feature in features}
