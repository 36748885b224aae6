"""The executor of InteractionExampleGen."""

import json
from typing import Any

from absl import logging
from pyarrow import fs
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base import base_beam_executor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.dataset_spec import DatasetSpec
from components.dataset_tables import TableSpec
from components.errors import DeadLetterShareError, InputDataError
from components.interaction_example_gen import files, graph, writing
from components.interaction_example_gen.csv_files import COMPRESSIONS
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    ITEMS,
    USERS,
)
from components.interaction_example_gen.job import (
    Job,
    entity_of,
    table_of,
    wanted_columns,
)
from components.interaction_example_gen.reading import read_batches
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

_SHARD_BYTES = 8 << 20
# Formats that hold several times the rows of a plain text file of their size.
_COMPRESSION = 4


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
        _check_columns(job)
        with self._make_beam_pipeline() as pipeline:
            graph.build(pipeline, job, catalog.uri, dead_letters.uri)
        _write_missing_shards(job)
        fileio.rmtree(f"{examples.uri}/{writing.ATTEMPTS}")
        summary = json.loads(
            fileio.open(f"{dead_letters.uri}/{graph.SUMMARY_FILE}").read()
        )
        logging.info("Interactions read: %s", summary)
        if not summary["rows"].get(INTERACTIONS):
            raise InputDataError(
                f"The log ({', '.join(job.files[INTERACTIONS])}) holds no "
                "event. Check `files` of `interactions` in the dataset spec."
            )
        check_dead_letter_share(summary, job.spec, dead_letters.uri)

        examples.split_names = artifact_utils.encode_split_names(list(SPLITS))
        examples.span = 0
        examples_utils.set_payload_format(
            examples, example_gen_pb2.FORMAT_TF_EXAMPLE
        )
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        examples.set_string_custom_property(
            INPUT_FINGERPRINT, exec_properties.get(INPUT_FINGERPRINT) or ""
        )
        examples.set_string_custom_property("summary", _in_words(summary))
        for table, reasons in summary["dead_letters"].items():
            for reason, count in reasons.items():
                dead_letters.set_int_custom_property(f"{table}.{reason}", count)


def make_job(exec_properties: dict[str, Any], examples_uri: str) -> Job:
    """Reads the exec properties and finds the files."""
    spec = DatasetSpec.from_json(exec_properties[DATASET_SPEC])
    folder = exec_properties[DATA_FOLDER]
    logs = spec.logs
    by_log = [files.find_files(folder, log.interactions.files) for log in logs]
    found = {INTERACTIONS: [info for infos in by_log for info in infos]} | {
        name: files.find_files(folder, table.files)
        for name in (USERS, ITEMS)
        if (table := entity_of(spec, name).table)
    }
    infos = [info for table in found.values() for info in table]
    log_bytes = sum(
        info.size * _expansion(log.interactions, info)
        for log, of_log in zip(logs, by_log, strict=True)
        for info in of_log
    )
    return Job(
        spec=spec,
        folder=folder,
        files={
            name: [info.path for info in table] for name, table in found.items()
        },
        now=exec_properties.get(NOW) or files.newest_possible_event(infos),
        num_shards=exec_properties.get(NUM_SHARDS)
        or -(-log_bytes // _SHARD_BYTES),
        examples_uri=examples_uri,
        log_of_file=tuple(
            index for index, of_log in enumerate(by_log) for _ in of_log
        ),
    )


def _expansion(table: TableSpec, info: fs.FileInfo) -> int:
    """How much larger a file would be as plain text."""
    is_compressed = info.extension.lower() in COMPRESSIONS
    is_plain = table.format == "csv" and not is_compressed
    return 1 if is_plain else _COMPRESSION


def _check_columns(job: Job) -> None:
    """Reads the beginning of each table: an error inside Beam is hard to read.

    Raises:
        InputDataError: A file can't be read or lacks a column.
    """
    for name, paths in job.files.items():
        for index in job.first_files(name):
            spec = job.spec_of(name, index)
            table = table_of(spec, name)
            wanted = wanted_columns(spec, name)
            if table:
                rows = read_batches(
                    paths[index], job.folder, table, wanted, name
                )
                next(rows, None)


def _in_words(summary: dict[str, Any]) -> str:
    """What was read and what could not be used, for people."""
    dead: dict[str, int] = {}
    for reasons in summary["dead_letters"].values():
        for reason, count in reasons.items():
            dead[reason] = dead.get(reason, 0) + count
    words = f"{summary['rows'][INTERACTIONS]:,} events"
    if not dead:
        return f"{words}, no dead letters"
    counted = ", ".join(f"{count:,} {why}" for why, count in dead.items())
    return f"{words}, {sum(dead.values()):,} dead letters ({counted})"


def check_dead_letter_share(
    summary: dict[str, Any], spec: DatasetSpec, dead_letters_uri: str
) -> None:
    """Stops the run if too large a share of a table can't be used.

    Args:
        summary: What `graph.summarize` made of the counts.
        spec: The dataset; says what share is allowed.
        dead_letters_uri: Folder of the dead letters, for examples.

    Raises:
        DeadLetterShareError: It is; the message counts the reasons.
    """
    for table, reasons in summary["dead_letters"].items():
        rows, dead = summary["rows"][table], sum(reasons.values())
        if dead > spec.max_dead_letter_share * rows:
            counted = ", ".join(f"{n} {why}" for why, n in reasons.items())
            shown = _first_letters(dead_letters_uri, table)
            raise DeadLetterShareError(
                f"{dead} of {rows} rows of `{table}` can't be used "
                f"({counted}); `max_dead_letter_share` in the dataset spec "
                f"allows a share of {spec.max_dead_letter_share}. Mend the "
                f"file or the spec, or allow more. Some of them:{shown}"
            )


def _first_letters(uri: str, table: str) -> str:
    """The first dead letter of each reason, a line each."""
    shown: dict[str, dict[str, Any]] = {}
    for path in sorted(fileio.glob(f"{uri}/*.jsonl")):
        with fileio.open(path) as lines:
            for letter in map(json.loads, lines):
                if letter["table"] == table:
                    shown.setdefault(letter["reason"], letter)
    return "".join(
        f"\n  - {letter['reason']} in {letter['file']}, row "
        f"{letter['row']}: {letter['value']!r}"
        for letter in shown.values()
    )


def _write_missing_shards(job: Job) -> None:
    """TFX needs a file in each split, also for a shard without users."""
    for split in SPLITS:
        for shard in range(job.num_shards):
            path = writing.split_path(
                job.examples_uri, split, shard, job.num_shards
            )
            if not fileio.exists(f"{path}.gz"):
                writing.write_examples(path, [])
