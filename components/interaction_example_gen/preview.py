"""A look at the first rows of every file, before anything long is started."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping

import pyarrow as pa

from components.dataset_spec import DatasetSpec
from components.dataset_tables import TableSpec
from components.interaction_example_gen import files, parsing
from components.interaction_example_gen.dead_letters import DeadLetter
from components.interaction_example_gen.raw_batch import (
    RawBatch,
    types_checked,
)
from components.interaction_example_gen.reading import read_batches

# Of each file: a log may have thousands.
_MAX_ROWS = 10_000

# Types rows, given `path` of their file; the second of what it returns are the
# dead letters.
_Parse = Callable[..., tuple[pa.RecordBatch, list[DeadLetter]]]


@dataclasses.dataclass(frozen=True)
class TablePreview:
    """What the first rows of a table's files are like.

    Attributes:
        table: "interactions" (also with the name of a mixed log), "users" or
            "items".
        files: How many files the table has.
        rows: How many rows of them were looked at.
        dead_letters: How many of them can't be used, by reason.
        worst_file: Path of the file with the most of these; None if there
            are none.
    """

    table: str
    files: int
    rows: int
    dead_letters: Mapping[str, int]
    worst_file: str | None


def preview(spec: DatasetSpec, folder: str) -> Iterator[TablePreview]:
    """Reads and judges the first rows of each file of each table.

    Args:
        spec: The dataset.
        folder: Folder with its files.

    Yields:
        One look for each table that the spec has.

    Raises:
        InputDataError: A file can't be read or lacks a column.
    """
    now = files.newest_possible_event(files.all_files(spec, folder))
    names = ["interactions", *(f"interactions {m.name}" for m in spec.mix)]
    for name, log in zip(names, spec.logs, strict=True):
        yield _preview(
            name,
            log.interactions,
            parsing.interaction_columns(log),
            folder,
            functools.partial(
                parsing.parse_interactions, spec=log, file_index=0, now=now
            ),
        )
    for name, entity in (("users", spec.users), ("items", spec.items)):
        if entity.table:
            yield _preview(
                name,
                entity.table,
                parsing.entity_columns(entity),
                folder,
                functools.partial(
                    parsing.parse_entities,
                    entity=entity,
                    table=name,
                    file_index=0,
                ),
            )


def _preview(
    name: str,
    table: TableSpec,
    columns: list[str],
    folder: str,
    parse: _Parse,
) -> TablePreview:
    rows = 0
    reasons: collections.Counter[str] = collections.Counter()
    of_file: collections.Counter[str] = collections.Counter()
    found = files.find_files(folder, table.files)
    for file in found:
        for raw in read_batches(file.path, folder, table, columns, name):
            first = _first_rows(raw)
            with types_checked(first, file.path, name):
                _, letters = parse(first, path=file.path)
            rows += len(first.rows) + len(first.unreadable)
            reasons.update(letter.reason for letter in letters)
            of_file[file.path] = len(letters)
            break
    worst: list[str | None] = [
        path for path, most in of_file.most_common(1) if most
    ]
    return TablePreview(
        name, len(found), rows, dict(reasons), *(worst or [None])
    )


def _first_rows(raw: RawBatch) -> RawBatch:
    if len(raw.rows) <= _MAX_ROWS:
        return raw
    rows = raw.rows[:_MAX_ROWS]
    return RawBatch(
        rows,
        raw.columns.slice(0, _MAX_ROWS),
        [letter for letter in raw.unreadable if letter.row < rows[-1]],
    )
