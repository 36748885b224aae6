"""The Beam pipeline of InteractionExampleGen.

```
log files ── ReadTable ──┐
                         ├─ by shard of users ─ ArrangeShard ─ WriteShard
user files ─ ReadTable ──┘                          │              │
item files ─ ReadTable ─ DistinctItems ─────────────┼── side input ┤
                                     item statistics┴── side input ┴ catalog
```

Few and large elements: a PCollection holds record batches, as Arrow IPC
bytes, so that Beam's cost per element is paid once for thousands of rows.

A shard of users is the largest thing in memory, next to the item table and
the item statistics (one vocabulary).
"""

import collections
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import farmhash

from components.interaction_example_gen import joining, writing
from components.interaction_example_gen.arrange_shards import (
    ArrangeShard,
    MergeStatistics,
    repeated_id_letters,
)
from components.interaction_example_gen.arrow import concat, to_bytes
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    ITEMS,
    TABLES,
    USERS,
    DeadLetter,
)
from components.interaction_example_gen.job import (
    BATCHES,
    COUNTS,
    LETTERS,
    STATISTICS,
    Job,
)
from components.interaction_example_gen.read_table import ReadTable
from components.interaction_example_gen.write_examples import (
    WriteCatalog,
    WriteShard,
)

SUMMARY_FILE = "summary.json"


def build(
    pipeline: beam.Pipeline,
    job: Job,
    catalog_uri: str,
    dead_letters_uri: str,
) -> None:
    """Adds the steps that write the three outputs."""
    read = {
        name: pipeline
        | f"Files[{name}]"
        >> beam.Create(list(enumerate(job.files.get(name, []))))
        | f"Spread[{name}]" >> beam.Reshuffle()
        | f"Read[{name}]"
        >> beam.ParDo(ReadTable(job, name)).with_outputs(
            LETTERS, COUNTS, main=BATCHES
        )
        for name in TABLES
    }
    arranged = (
        {name: read[name][BATCHES] for name in (INTERACTIONS, USERS)}
        | "GroupByShard" >> beam.CoGroupByKey()
        | "Arrange"
        >> beam.ParDo(ArrangeShard(job)).with_outputs(
            LETTERS, COUNTS, STATISTICS, main=BATCHES
        )
    )
    items = (
        read[ITEMS][BATCHES]
        | "GroupItems" >> beam.GroupByKey()
        | "DistinctItems"
        >> beam.ParDo(_DistinctItems(job)).with_outputs(LETTERS, main=BATCHES)
    )
    side_inputs = (
        beam.pvalue.AsSingleton(items[BATCHES], default_value=None),
        beam.pvalue.AsSingleton(
            arranged[STATISTICS]
            | "MergeStatistics" >> beam.CombineGlobally(MergeStatistics())
        ),
    )
    written = arranged[BATCHES] | "WriteShards" >> beam.ParDo(
        WriteShard(job), *side_inputs
    )
    catalog_path = writing.shard_path(catalog_uri, "items", 0, 1)
    cataloged = (
        pipeline
        | "CatalogPath" >> beam.Create([catalog_path])
        | "WriteCatalog" >> beam.ParDo(WriteCatalog(job), *side_inputs)
    )
    outputs = [*read.values(), arranged]
    letters = [out[LETTERS] for out in (*outputs, items)]
    counts = [out[COUNTS] for out in outputs]
    counted = _write_letters(letters, job, dead_letters_uri)
    _ = (
        [*counts, written, cataloged, counted]
        | "AllCounts" >> beam.Flatten()
        | "Sum" >> beam.CombinePerKey(sum)
        | "CollectCounts" >> beam.combiners.ToDict()
        | "WriteSummary"
        >> beam.Map(
            lambda found: writing.write_json(
                f"{dead_letters_uri}/{SUMMARY_FILE}", summarize(found)
            )
        )
    )


class _DistinctItems(beam.DoFn):
    """Puts the batches of the item table together, each id once."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def process(self, grouped: tuple[int, Iterable[bytes]]) -> Iterable[Any]:
        table = concat(grouped[1])
        items, repeated = joining.drop_repeated_ids(table)
        if len(repeated):
            yield beam.pvalue.TaggedOutput(
                LETTERS, repeated_id_letters(repeated, self._job, ITEMS)
            )
        yield to_bytes(items.combine_chunks())


def _write_letters(
    letters: list[beam.PCollection], job: Job, uri: str
) -> beam.PCollection:
    """Writes the dead letters in shards; gives their counts by reason."""

    def shard_of(letter: DeadLetter) -> tuple[int, DeadLetter]:
        place = f"{letter.table}:{letter.file}:{letter.row}"
        return farmhash.fingerprint64(place) % job.num_shards, letter

    def write(
        grouped: tuple[int, Iterable[DeadLetter]],
    ) -> Iterable[tuple[str, int]]:
        shard, found = grouped
        ordered = sorted(DeadLetter(*letter) for letter in found)
        path = writing.shard_path(uri, "letters", shard, job.num_shards)
        text = "".join(letter.to_json() + "\n" for letter in ordered)
        writing.write_text(f"{path}.jsonl", text)
        counts = collections.Counter(
            f"dead_letters.{letter.table}.{letter.reason}" for letter in ordered
        )
        return counts.items()

    return (
        letters
        | "AllLetters" >> beam.Flatten()
        | "EachLetter" >> beam.FlatMap(lambda batch: batch)
        | "LetterShard" >> beam.Map(shard_of)
        | "GroupLetters" >> beam.GroupByKey()
        | "WriteLetters" >> beam.FlatMap(write)
    )


def summarize(counts: dict[str, int]) -> dict[str, Any]:
    """Nests the counts "a.b.c" by their dotted names."""
    summary: dict[str, Any] = {"rows": {}, "dead_letters": {}}
    for name, count in sorted(counts.items()):
        *groups, last = name.split(".")
        place = summary
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = count
    return summary
