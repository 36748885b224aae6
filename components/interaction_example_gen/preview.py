"""A look at the first rows of each table, before anything long is started."""

import collections
import dataclasses
from collections.abc import Iterator, Mapping

from components.dataset_spec import DatasetSpec
from components.interaction_example_gen import files, parsing
from components.interaction_example_gen.reading import read_batches


@dataclasses.dataclass(frozen=True)
class TablePreview:
    """What the first rows of a table are like.

    Attributes:
        table: "interactions" (also with the name of a mixed log), "users" or
            "items".
        rows: How many rows were looked at.
        dead_letters: How many of them can't be used, by reason.
    """

    table: str
    rows: int
    dead_letters: Mapping[str, int]


def preview(spec: DatasetSpec, folder: str) -> Iterator[TablePreview]:
    """Reads and judges the first rows of each table.

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
        table = log.interactions
        [first, *_] = files.find_files(folder, table.files)
        columns = parsing.interaction_columns(log)
        for raw in read_batches(first.path, folder, table, columns, name):
            _, letters = parsing.parse_interactions(
                raw, log, first.path, 0, now
            )
            yield _preview(name, len(raw.rows), raw.unreadable, letters)
            break
    for name, entity in (("users", spec.users), ("items", spec.items)):
        if not entity.table:
            continue
        [first, *_] = files.find_files(folder, entity.table.files)
        columns = parsing.entity_columns(entity)
        for raw in read_batches(
            first.path, folder, entity.table, columns, name
        ):
            _, letters = parsing.parse_entities(
                raw, entity, name, first.path, 0
            )
            yield _preview(name, len(raw.rows), raw.unreadable, letters)
            break


def _preview(
    table: str,
    parsed: int,
    unreadable: list[parsing.DeadLetter],
    letters: list[parsing.DeadLetter],
) -> TablePreview:
    reasons = collections.Counter(letter.reason for letter in letters)
    return TablePreview(table, parsed + len(unreadable), dict(reasons))
