"""The Beam transforms of InteractionExampleGen.

Few and large elements: a PCollection holds record batches, as Arrow IPC
bytes, so that Beam's cost per element is paid once for thousands of rows.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.dataset_spec import DatasetSpec
from components.dataset_tables import EntitySpec, TableSpec
from components.errors import InputDataError
from components.interaction_example_gen import (
    encoding,
    joining,
    negatives,
    parsing,
    shards,
    writing,
)
from components.interaction_example_gen.arrow import (
    concat,
    flat,
    from_bytes,
    to_bytes,
)
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    ITEMS,
    USERS,
    DeadLetter,
)
from components.interaction_example_gen.parsing import place_of
from components.interaction_example_gen.reading import read_batches
from serving.contract.protocol import SPLITS

BATCHES = "batches"
LETTERS = "letters"
COUNTS = "counts"
STATISTICS = "statistics"

DISPLAY = "display_title"


@dataclasses.dataclass(frozen=True)
class Job:
    """What every step needs to know.

    Attributes:
        spec: The dataset.
        folder: Where its files are.
        files: Paths of each table's files.
        now: Seconds; later events are in the future.
        num_shards: Shards of users, and files per split.
        examples_uri: Where the splits go.
        log_of_file: For each file of the logs, the index of its log in
            `spec.logs`.
    """

    spec: DatasetSpec
    folder: str
    files: dict[str, list[str]]
    now: int
    num_shards: int
    examples_uri: str
    log_of_file: tuple[int, ...]

    def spec_of(self, name: str, file_index: int) -> DatasetSpec:
        """The spec that says how to read a file of a table."""
        if name != INTERACTIONS:
            return self.spec
        return self.spec.logs[self.log_of_file[file_index]]

    def first_files(self, name: str) -> list[int]:
        """Indices of a table's first file; of the logs', one for each."""
        if name != INTERACTIONS:
            return [0]
        return [self.log_of_file.index(log) for log in set(self.log_of_file)]

    def prefix_of(self, file_index: int) -> str:
        """What the ids of a log's users get in front."""
        log = self.log_of_file[file_index]
        return self.spec.mix[log - 1].prefix if log else ""


def entity_of(spec: DatasetSpec, name: str) -> EntitySpec:
    """Returns the spec of the users or the items."""
    return spec.users if name == USERS else spec.items


def feature_names(entity: EntitySpec) -> list[str]:
    """Returns the names of the features of the users or the items."""
    return [source.feature.name for source in entity.features]


def table_of(spec: DatasetSpec, name: str) -> TableSpec | None:
    """Returns how to read a table; None if the dataset has none."""
    return (
        spec.interactions
        if name == INTERACTIONS
        else entity_of(spec, name).table
    )


def wanted_columns(spec: DatasetSpec, name: str) -> list[str]:
    """Returns the columns of a table that are read."""
    if name == INTERACTIONS:
        return parsing.interaction_columns(spec)
    return parsing.entity_columns(entity_of(spec, name))


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
            key = "user_id" if name == INTERACTIONS else "id"
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


class ArrangeShard(beam.DoFn):
    """Sorts the events of a shard and finds its users' rows.

    Gives (shard, events, users); item statistics; dead letters; counts.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(
        self, grouped: tuple[int, dict[str, Iterable[bytes]]]
    ) -> Iterator[Any]:
        """Arranges one shard."""
        """Reads one file."""
        shard, tables = grouped
        events = concat(tables[INTERACTIONS])
        if events is None:
            return
        arranged = shards.arrange(
            events,
            self._job.files[INTERACTIONS],
            never_judged=tuple(self._job.spec.draw_weights),
        )
        letters = list(arranged.letters)
        counts = {
            "users.with_few_events_kept_in_meta_train": arranged.short_users
        }
        for name, number in zip(SPLITS, arranged.users, strict=True):
            counts[f"users.{name}"] = int(number)
        users = concat(tables[USERS])
        user_bytes = None
        if users is not None:
            counts["users.not_in_their_table"] = len(
                set(pc.unique(arranged.events["user_id"]).to_pylist())
                - set(users["id"].to_pylist())
            )
            users, repeated = joining.drop_repeated_ids(users)
            letters += repeated_id_letters(repeated, self._job, USERS)
            user_bytes = to_bytes(users)
        for count in counts.items():
            yield beam.pvalue.TaggedOutput(COUNTS, count)
        if letters:
            yield beam.pvalue.TaggedOutput(LETTERS, letters)
        statistics = negatives.count_items(arranged.events)
        yield beam.pvalue.TaggedOutput(STATISTICS, to_bytes(statistics))
        yield shard, to_bytes(arranged.events), user_bytes


def repeated_id_letters(
    repeated: pa.Table, job: Job, table: str
) -> list[DeadLetter]:
    """Returns a dead letter for each row whose id was there before."""
    letters = []
    for row in repeated.select(["id", "order"]).to_pylist():
        file, number = place_of(row["order"])
        path = job.files[table][file]
        letters.append(
            DeadLetter("duplicate_id", table, path, number, row["id"])
        )
    return letters


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
            listed = flat(table["id"])
            is_listed = pc.is_in(ids, value_set=listed)
            unlisted = ids.filter(pc.invert(is_listed))
            yield "items.not_in_their_table", len(unlisted)
            ids = pa.concat_arrays([listed, unlisted])
            ids = ids.take(pc.sort_indices(ids))
            columns = {"item_id": ids}
            columns |= joining.look_up(ids, table, feature_names(entity))
            if entity.display:
                shown = joining.look_up(ids, table, ["display"])
                columns[DISPLAY] = shown["display"]
        every_row = pa.array(np.arange(len(ids)))
        examples = encoding.to_examples(
            [(encoding.encode_features(columns), every_row)]
        )
        yield "items.in_catalog", writing.write_examples(path, examples)


class MergeStatistics(beam.CombineFn):
    """Adds up the item statistics of all shards."""

    def create_accumulator(self) -> list[bytes]:
        """No statistics."""
        return []

    def add_input(self, parts: list[bytes], part: bytes) -> list[bytes]:
        """Takes the statistics of one more shard."""
        return (
            self.compact([*parts, part]) if len(parts) > 8 else [*parts, part]
        )

    def merge_accumulators(
        self, accumulators: Iterable[list[bytes]]
    ) -> list[bytes]:
        """Adds up what several workers have."""
        parts = [part for parts in accumulators for part in parts]
        return self.compact(parts)

    def compact(self, parts: list[bytes]) -> list[bytes]:
        """Adds up what has come so far."""
        tables = [from_bytes(part) for part in parts]
        return [to_bytes(negatives.merge_counts(tables).combine_chunks())]

    def extract_output(self, parts: list[bytes]) -> bytes:
        """The statistics as one table."""
        return self.compact(parts)[0]
