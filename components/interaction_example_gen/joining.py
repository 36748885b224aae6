"""Joins events with users, items and sampled negatives."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.dataset_labels import LabelSpec
from components.interaction_example_gen.arrow import flat
from components.interaction_example_gen.encoding import (
    Repeated,
    encode_features,
)
from components.interaction_example_gen.negatives import (
    Candidates,
    sample_negatives,
)
from components.interaction_example_gen.parsing import (
    ENTITY_ID,
    ENTITY_ORDER,
)
from components.interaction_example_gen.shards import fingerprint64


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
    entities = entities.sort_by(
        [(ENTITY_ID, "ascending"), (ENTITY_ORDER, "ascending")]
    )
    ids = flat(entities[ENTITY_ID])
    first = np.ones(len(ids), bool)
    first[1:] = pc.not_equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    return entities.filter(pa.array(first)), entities.filter(pa.array(~first))


def join(
    keys: pa.Array, name: str, entities: pa.Table | None, features: list[str]
) -> Repeated:
    """Encodes an id and the features that a table has for it.

    Args:
        keys: Ids, [n].
        name: What the id is called in Examples.
        entities: Rows with an `ENTITY_ID`, each id once; None for no table.
            An id that it lacks has no features.
        features: Columns to take from it.

    Returns:
        The encoded id and features, of each distinct id once.
    """
    column = keys.dictionary_encode()
    columns = {name: column.dictionary}
    if entities is not None:
        columns.update(look_up(column.dictionary, entities, features))
    return encode_features(columns), column.indices


def look_up(
    keys: pa.Array, entities: pa.Table, features: list[str]
) -> dict[str, pa.Array]:
    """Takes the features of each key from a table.

    Args:
        keys: Ids to look up, [n].
        entities: Rows with an `ENTITY_ID`, each id once.
        features: Columns to take.

    Returns:
        The features by name, [n], null where the key is unknown.
    """
    rows = pc.index_in(keys, value_set=flat(entities[ENTITY_ID]))
    return {name: flat(entities[name]).take(rows) for name in features}
