"""Beam: puts shards of users in order, and counts the items in them."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from components.interaction_example_gen import joining, negatives, shards
from components.interaction_example_gen.arrow import (
    concat,
    from_bytes,
    to_bytes,
)
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    USERS,
    DeadLetter,
)
from components.interaction_example_gen.job import (
    COUNTS,
    LETTERS,
    STATISTICS,
    Job,
)
from components.interaction_example_gen.parsing import (
    ENTITY_ID,
    ENTITY_ORDER,
    place_of,
)
from serving.contract.protocol import SPLITS


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
        if self._job.spec.users.table:
            # Also in a shard none of whose users the table lists.
            listed = users[ENTITY_ID].to_pylist() if users is not None else ()
            found = set(pc.unique(arranged.events["user_id"]).to_pylist())
            counts["users.not_in_their_table"] = len(found.difference(listed))
        if users is not None:
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
    for row in repeated.select([ENTITY_ID, ENTITY_ORDER]).to_pylist():
        file, number = place_of(row[ENTITY_ORDER])
        path = job.files[table][file]
        letters.append(
            DeadLetter("duplicate_id", table, path, number, row[ENTITY_ID])
        )
    return letters


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
