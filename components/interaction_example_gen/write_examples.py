"""Beam: writes the Examples of the shards and of the catalog."""

from collections.abc import Iterator

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen import (
    encoding,
    joining,
    negatives,
    writing,
)
from components.interaction_example_gen.arrow import flat, from_bytes
from components.interaction_example_gen.job import Job, feature_names
from components.interaction_example_gen.parsing import (
    ENTITY_DISPLAY,
    ENTITY_ID,
)
from serving.contract.protocol import SPLITS

DISPLAY = "display_title"


class WriteShard(beam.DoFn):
    """Joins a shard with users, items and negatives, and writes its splits.

    Takes (shard, events, users), the item table and the item statistics;
    gives counts.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self,
        element: tuple[int, bytes, bytes | None],
        items: bytes | None,
        statistics: bytes,
    ) -> Iterator[tuple[str, int]]:
        """Writes one shard."""
        job = self._job
        shard, event_bytes, user_bytes = element
        events = from_bytes(event_bytes)
        users = from_bytes(user_bytes) if user_bytes else None
        item_table = from_bytes(items) if items else None
        label = job.spec.label
        if label.is_implicit:
            candidates = negatives.Candidates.from_statistics(
                from_bytes(statistics), label.power
            )
            events = joining.add_negatives(events, candidates, label)
        for index, split in enumerate(SPLITS):
            rows = events.filter(pc.equal(events["split"], index))
            parts = [
                joining.join(
                    flat(rows["user_id"]),
                    "user_id",
                    users,
                    feature_names(job.spec.users),
                ),
                joining.join(
                    flat(rows["item_id"]),
                    "item_id",
                    item_table,
                    feature_names(job.spec.items),
                ),
                *(
                    encoding.repeated(name, flat(rows[name]))
                    for name in ("label", "timestamp", "position")
                ),
            ]
            path = writing.split_path(
                job.examples_uri, split, shard, job.num_shards
            )
            written = writing.write_examples(path, encoding.to_examples(parts))
            yield f"examples.{split}", written


class WriteCatalog(beam.DoFn):
    """Writes one Example for each item of the table or the log, by id.

    Takes the catalog's path, the item table and the item statistics; gives
    counts.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, path: str, items: bytes | None, statistics: bytes
    ) -> Iterator[tuple[str, int]]:
        """Writes the catalog."""
        entity = self._job.spec.items
        ids = flat(from_bytes(statistics)["item_id"])
        table = from_bytes(items) if items else None
        columns = {"item_id": ids}
        if table is not None:
            listed = flat(table[ENTITY_ID])
            is_listed = pc.is_in(ids, value_set=listed)
            unlisted = ids.filter(pc.invert(is_listed))
            yield "items.not_in_their_table", len(unlisted)
            ids = pa.concat_arrays([listed, unlisted])
            ids = ids.take(pc.sort_indices(ids))
            columns = {"item_id": ids}
            columns |= joining.look_up(ids, table, feature_names(entity))
            if entity.display:
                shown = joining.look_up(ids, table, [ENTITY_DISPLAY])
                columns[DISPLAY] = shown[ENTITY_DISPLAY]
        every_row = pa.array(np.arange(len(ids)))
        examples = encoding.to_examples(
            [(encoding.encode_features(columns), every_row)]
        )
        yield "items.in_catalog", writing.write_examples(path, examples)
