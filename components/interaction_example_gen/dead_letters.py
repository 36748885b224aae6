"""Rows that can't be used: what they are, where they stood, and why."""

import dataclasses
import json
from typing import NamedTuple

_MAX_VALUE_CHARACTERS = 200

INTERACTIONS = "interactions"
USERS = "users"
ITEMS = "items"
TABLES = (INTERACTIONS, USERS, ITEMS)


class DeadLetter(NamedTuple):
    """One unusable row.

    Attributes:
        reason: Why, in snake case.
        table: One of `TABLES`.
        file: The file.
        row: 1-based number of the row in it, as `RawBatch.rows` counts.
        value: The value that is wrong, shortened.
    """

    reason: str
    table: str
    file: str
    row: int
    value: str

    def to_json(self) -> str:
        """Returns the letter as one line of JSON."""
        return json.dumps(self._asdict(), ensure_ascii=False)


def shorten(value: object) -> str:
    """Returns the value as a text short enough to keep."""
    text = "" if value is None else str(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) > _MAX_VALUE_CHARACTERS:
        return text[: _MAX_VALUE_CHARACTERS - 1] + "…"
    return text


@dataclasses.dataclass(frozen=True)
class Counts:
    """What happened to the rows.

    Attributes:
        rows: Rows read, by table.
        dead: Dead letters, by (table, reason).
        other: Anything else worth counting, by name.
    """

    rows: dict[str, int]
    dead: dict[tuple[str, str], int]
    other: dict[str, int]
