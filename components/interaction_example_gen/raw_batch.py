"""Rows as they stand in a file, before anything is known about them."""

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.errors import InputDataError
from components.interaction_example_gen.dead_letters import DeadLetter
from components.spec_section import closest


@dataclasses.dataclass(frozen=True)
class RawBatch:
    """Some consecutive rows of a file, not yet validated.

    Attributes:
        rows: 1-based numbers of the rows in their file, [n]; a header line is
            row 1, and empty lines don't count.
        columns: The wanted columns, n rows.
        unreadable: Rows that never became columns.
    """

    rows: NDArray[np.int64]
    columns: pa.RecordBatch
    unreadable: list[DeadLetter]


def require_columns(
    wanted: list[str], present: list[str], path: str, name: str
) -> None:
    """Checks that a file has each of the wanted columns once.

    Raises:
        InputDataError: It doesn't.
    """
    for column in wanted:
        if present.count(column) != 1:
            problem = (
                f"has the column {column!r} {present.count(column)} times"
                if column in present
                else f"has no column {column!r}"
            )
            hint = "" if column in present else closest(column, present)
            raise InputDataError(
                f"{path} {problem}, which `{name}` in the dataset spec names; "
                f"it has {', '.join(present)}." + hint
            )


@contextlib.contextmanager
def types_checked(raw: RawBatch, path: str, name: str) -> Iterator[None]:
    """Says which columns there are where one has a type of no use.

    Args:
        raw: What is parsed inside the context.
        path: Its file.
        name: Name of the table, as in the spec.

    Raises:
        InputDataError: Arrow can't make of a column what the spec says of it,
            such as an id of a list.
    """
    try:
        yield
    except pa.ArrowNotImplementedError as error:
        types = ", ".join(f"{f.name} ({f.type})" for f in raw.columns.schema)
        raise InputDataError(
            f"{path}: a column can't be read as what `{name}` in the dataset "
            f"spec says of it: {error}. The columns are {types}. Write that "
            "one as text, numbers or timestamps, or name another."
        ) from error
