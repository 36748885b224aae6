"""Beam: from a table's files to batches of usable rows, by shard."""

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from components.errors import InputDataError
from components.interaction_example_gen import parsing, shards
from components.interaction_example_gen.arrow import to_bytes
from components.interaction_example_gen.dead_letters import INTERACTIONS, ITEMS
from components.interaction_example_gen.job import (
    COUNTS,
    LETTERS,
    Job,
    entity_of,
    table_of,
    wanted_columns,
)
from components.interaction_example_gen.raw_batch import types_checked
from components.interaction_example_gen.reading import read_batches


class ReadTable(beam.DoFn):
    """Reads, validates and shards a file.

    Takes (file index, path); gives (shard, batch), dead letters and counts.
    """

    def __init__(self, job: Job, name: str) -> None:
        self._job = job
        self._name = name

    def process(self, file: tuple[int, str]) -> Iterator[Any]:
        """Reads one file."""
        index, path = file
        job, name = self._job, self._name
        spec = job.spec_of(name, index)
        table = table_of(spec, name)
        assert table is not None
        wanted = wanted_columns(spec, name)
        for raw in read_batches(path, job.folder, table, wanted, name):
            with types_checked(raw, path, name):
                if name == INTERACTIONS:
                    batch, letters = parsing.parse_interactions(
                        raw, spec, path, index, job.now
                    )
                    batch = _named_apart(batch, job, index)
                else:
                    batch, letters = parsing.parse_entities(
                        raw, entity_of(spec, name), name, path, index
                    )
            num_rows = len(raw.rows) + len(raw.unreadable)
            yield beam.pvalue.TaggedOutput(COUNTS, (f"rows.{name}", num_rows))
            if letters:
                yield beam.pvalue.TaggedOutput(LETTERS, letters)
            if name == ITEMS:
                yield 0, to_bytes(batch)
                continue
            key = "user_id" if name == INTERACTIONS else parsing.ENTITY_ID
            for shard, part in shards.partition(batch, key, job.num_shards):
                yield shard, to_bytes(part)


def _named_apart(
    batch: pa.RecordBatch, job: Job, file_index: int
) -> pa.RecordBatch:
    """Puts the log's prefix in front of its users' ids.

    Raises:
        InputDataError: An id of another log has such a prefix already.
    """
    user_id = batch.column(0)
    for prefix in job.spec.draw_weights:
        if pc.any(pc.starts_with(user_id, prefix)).as_py():
            raise InputDataError(
                f"{job.files[INTERACTIONS][file_index]} has user ids that "
                f"start with {prefix!r}, as those of the mixed log "
                f"{prefix[:-1]!r} will. Give that log another name."
            )
    prefix = job.prefix_of(file_index)
    if not prefix:
        return batch
    named = pc.binary_join_element_wise(prefix, user_id, "")
    return pa.RecordBatch.from_arrays(
        [named, *batch.columns[1:]], schema=batch.schema
    )
