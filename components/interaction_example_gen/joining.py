"""Joins events with users, items and negatives, and encodes them."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

from components.dataset_spec import LabelSpec
from components.interaction_example_gen.arrow import flat
from components.interaction_example_gen.negatives import (
    Candidates,
    sample_negatives,
)
from components.interaction_example_gen.shards import fingerprint64

_ENCODED_ROWS = 1 << 14


def add_negatives(
    events: pa.Table, candidates: Candidates, label: LabelSpec
) -> pa.Table:
    """Puts each event's sampled negatives, with label 0, right behind it.

    Args:
        events: Schema `shards.ARRANGED`, whole users.
        candidates: Items to draw from.
        label: How many to draw.
    """
    ids = flat(events["user_id"])
    items = flat(events["item_id"])
    index = pc.index_in(items, value_set=candidates.item_id)
    event, choice = sample_negatives(
        user_hash=fingerprint64(ids),
        position=events["position"].to_numpy(),
        timestamp=events["timestamp"].to_numpy(),
        user=ids.dictionary_encode().indices.to_numpy().astype(np.int64),
        item=pc.fill_null(index, -1).to_numpy().astype(np.int64),
        candidates=candidates,
        count=label.negatives,
    )
    drawn = events.take(pa.array(event))
    drawn = drawn.set_column(
        drawn.schema.get_field_index("item_id"),
        "item_id",
        candidates.item_id.take(pa.array(choice)),
    ).set_column(
        drawn.schema.get_field_index("label"),
        "label",
        pa.array(np.zeros(len(event), np.float32)),
    )
    owner = np.concatenate([np.arange(len(events)), event])
    both = pa.concat_tables([events, drawn])
    return both.take(pa.array(np.argsort(owner, kind="stable")))


def drop_repeated_ids(entities: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Returns the first row of each id, sorted by id, and the other rows."""
    entities = entities.sort_by([("id", "ascending"), ("order", "ascending")])
    ids = flat(entities["id"])
    first = np.ones(len(ids), bool)
    first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return entities.filter(pa.array(first)), entities.filter(pa.array(~first))


def look_up(
    keys: pa.Array, entities: pa.Table, features: list[str]
) -> dict[str, pa.Array]:
    """Takes the features of each key from a table.

    Args:
        keys: Ids to look up, [n].
        entities: Rows with an `id`, each id once.
        features: Columns to take.

    Returns:
        The features by name, [n], null where the key is unknown.
    """
    rows = pc.index_in(keys, value_set=flat(entities["id"]))
    return {name: flat(entities[name]).take(rows) for name in features}


def encode(columns: dict[str, pa.Array]) -> Iterator[bytes]:
    """Encodes rows as serialized tf.Examples.

    Args:
        columns: Arrays of text, numbers or lists of text, all [n]; a null is
            a feature without a value.

    Yields:
        n tf.Examples.
    """
    batch = pa.RecordBatch.from_arrays(
        [_as_feature_lists(values) for values in columns.values()],
        list(columns),
    )
    encoder = RecordBatchToExamplesEncoder()
    for start in range(0, len(batch), _ENCODED_ROWS):
        yield from encoder.encode(batch.slice(start, _ENCODED_ROWS))


def _as_feature_lists(values: pa.Array) -> pa.Array:
    """The types that tfx_bsl encodes: lists of bytes, float32 or int64."""
    if pa.types.is_list(values.type):
        return values.cast(pa.list_(pa.binary()))
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    valid = pc.is_valid(values)
    ends = np.cumsum(valid.to_numpy(zero_copy_only=False), dtype=np.int32)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    # Nulls must stay null lists: an empty list is a present feature.
    return pa.Array.from_buffers(
        pa.list_(values.type),
        len(values),
        [valid.buffers()[1], offsets.buffers()[1]],
        children=[values.drop_null()],
    )
