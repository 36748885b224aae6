"""The Beam pipeline of InteractionExampleGen.

```
log files ── ReadTable ──┐
                         ├─ by shard of users ─ ArrangeShard ─ WriteShard
user files ─ ReadTable ──┘                          │              │
item files ─ ReadTable ─ DistinctItems ─────────────┼── side input ┤
                                     item statistics┴── side input ┴ catalog
```

A shard of users is the largest thing in memory, next to the item table and
the item statistics (one vocabulary).
"""

import collections
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam
import farmhash
from absl import logging
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.dataset_spec import DatasetSpec
from components.errors import DeadLetterShareError
from components.interaction_example_gen import (
    files,
    joining,
    transforms,
    writing,
)
from components.interaction_example_gen.arrow import concat, to_bytes
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    ITEMS,
    TABLES,
    USERS,
    DeadLetter,
)
from serving.contract.protocol import SPLITS

# Keys of the component's spec.
DATASET_SPEC = "dataset_spec"
DATA_FOLDER = "data_folder"
NOW = "now"
INPUT_FINGERPRINT = "input_fingerprint"
CODE_FINGERPRINT = "code_fingerprint"
NUM_SHARDS = "num_shards"
EXAMPLES = "examples"
CATALOG = "catalog"
DEAD_LETTERS = "dead_letters"

SUMMARY_FILE = "summary.json"
_SHARD_BYTES = 8 << 20
# Formats that hold several times the rows of a plain text file of their size.
_COMPRESSION = 4
_SHOWN_LETTERS = 3


class Executor(base_beam_executor.BaseBeamExecutor):
    """Writes examples, catalog and dead letters."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Runs the Beam pipeline.

        Raises:
            InputDataError: A file can't be read or lacks a column.
            DeadLetterShareError: More than `max_dead_letter_share` of a
                table's rows can't be used.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples, catalog, dead_letters = (
            artifact_utils.get_single_instance(output_dict[key])
            for key in (EXAMPLES, CATALOG, DEAD_LETTERS)
        )
        job = make_job(exec_properties, examples.uri)
        with self._make_beam_pipeline() as pipeline:
            build(pipeline, job, catalog.uri, dead_letters.uri)
        _write_missing_shards(job)
        fileio.rmtree(f"{examples.uri}/{writing.ATTEMPTS}")
        summary = json.loads(
            fileio.open(f"{dead_letters.uri}/{SUMMARY_FILE}").read()
        )
        logging.info("Interactions read: %s", summary)
        check_dead_letter_share(summary, job.spec)

        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples.span = 0
        examples_utils.set_payload_format(
            examples, example_gen_pb2.FORMAT_TF_EXAMPLE
        )
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        examples.set_string_custom_property(
            INPUT_FINGERPRINT, exec_properties.get(INPUT_FINGERPRINT) or ""
        )
        for table, reasons in summary["dead_letters"].items():
            for reason, count in reasons.items():
                dead_letters.set_int_custom_property(f"{table}.{reason}", count)


def make_job(
    exec_properties: dict[str, Any], examples_uri: str
) -> transforms.Job:
    """Reads the exec properties and finds the files."""
    spec = DatasetSpec.from_json(exec_properties[DATASET_SPEC])
    folder = exec_properties[DATA_FOLDER]
    found = {
        name: files.find_files(folder, table.files)
        for name in TABLES
        if (table := transforms.table_of(spec, name))
    }
    infos = [info for table in found.values() for info in table]
    is_text = spec.interactions.format == "csv"
    log_bytes = sum(
        info.size
        * (1 if is_text and not info.path.endswith(".gz") else _COMPRESSION)
        for info in found[INTERACTIONS]
    )
    return transforms.Job(
        spec=spec,
        folder=folder,
        files={
            name: [info.path for info in table] for name, table in found.items()
        },
        now=exec_properties.get(NOW) or files.newest_possible_event(infos),
        num_shards=exec_properties.get(NUM_SHARDS)
        or -(-log_bytes // _SHARD_BYTES),
        examples_uri=examples_uri,
    )


def build(
    pipeline: beam.Pipeline,
    job: transforms.Job,
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
        >> beam.ParDo(transforms.ReadTable(job, name)).with_outputs(
            transforms.LETTERS, transforms.COUNTS, main=transforms.BATCHES
        )
        for name in TABLES
    }
    arranged = (
        {name: read[name][transforms.BATCHES] for name in (INTERACTIONS, USERS)}
        | "GroupByShard" >> beam.CoGroupByKey()
        | "Arrange"
        >> beam.ParDo(transforms.ArrangeShard(job)).with_outputs(
            transforms.LETTERS,
            transforms.COUNTS,
            transforms.STATISTICS,
            main=transforms.BATCHES,
        )
    )
    items = (
        read[ITEMS][transforms.BATCHES]
        | "GroupItems" >> beam.GroupByKey()
        | "DistinctItems"
        >> beam.ParDo(_DistinctItems(job)).with_outputs(
            transforms.LETTERS, main=transforms.BATCHES
        )
    )
    side_inputs = (
        beam.pvalue.AsSingleton(items[transforms.BATCHES], default_value=None),
        beam.pvalue.AsSingleton(
            arranged[transforms.STATISTICS]
            | "MergeStatistics"
            >> beam.CombineGlobally(transforms.MergeStatistics())
        ),
    )
    written = arranged[transforms.BATCHES] | "WriteShards" >> beam.ParDo(
        transforms.WriteShard(job), *side_inputs
    )
    catalog_path = writing.shard_path(catalog_uri, "items", 0, 1)
    cataloged = (
        pipeline
        | "CatalogPath" >> beam.Create([catalog_path])
        | "WriteCatalog"
        >> beam.ParDo(transforms.WriteCatalog(job), *side_inputs)
    )
    outputs = [*read.values(), arranged]
    letters = [out[transforms.LETTERS] for out in (*outputs, items)]
    counts = [out[transforms.COUNTS] for out in outputs]
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

    def __init__(self, job: transforms.Job) -> None:
        self._job = job

    def process(self, grouped: tuple[int, Iterable[bytes]]) -> Iterable[Any]:
        table = concat(grouped[1])
        items, repeated = joining.drop_repeated_ids(table)
        if len(repeated):
            yield beam.pvalue.TaggedOutput(
                transforms.LETTERS,
                transforms.repeated_id_letters(repeated, self._job, ITEMS),
            )
        yield to_bytes(items.combine_chunks())


def _write_letters(
    letters: list[beam.PCollection], job: transforms.Job, uri: str
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


def check_dead_letter_share(summary: dict[str, Any], spec: DatasetSpec) -> None:
    """Stops the run if too large a share of a table can't be used.

    Raises:
        DeadLetterShareError: It is; the message counts the reasons.
    """
    for table, reasons in summary["dead_letters"].items():
        rows, dead = summary["rows"][table], sum(reasons.values())
        if dead > spec.max_dead_letter_share * rows:
            counted = ", ".join(
                f"{n} {reason}" for reason, n in reasons.items()
            )
            raise DeadLetterShareError(
                f"{dead} of {rows} rows of `{table}` can't be used "
                f"({counted}), more than the share of "
                f"{spec.max_dead_letter_share} that "
                "`max_dead_letter_share` in the dataset spec allows. Mend the "
                "file or the spec, or allow more."
            )


def _write_missing_shards(job: transforms.Job) -> None:
    """TFX needs a file in each split, also for a shard without users."""
    for split in SPLITS:
        for shard in range(job.num_shards):
            path = writing.split_path(
                job.examples_uri, split, shard, job.num_shards
            )
            if not fileio.exists(f"{path}.gz"):
                writing.write_examples(path, [])
