"""Rows as they stand in a file, before anything is known about them."""

import dataclasses

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
            raise InputDataError(
                f"{path} {problem}, which `{name}` in the dataset spec names; "
                f"it has {', '.join(present)}." + closest(column, present)
            )
