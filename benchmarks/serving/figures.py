"""Measured figures beside their floors and goals."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.about import about


@dataclasses.dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: What it is, with its unit.
        value: What was measured.
        floor: What it must reach; None if it is only told.
        goal: What it should reach.
        more_is_better: Whether it must be above its floor, or below.
        detail: What lies behind it, by name.
    """

    name: str
    value: float
    floor: float | None = None
    goal: float | None = None
    more_is_better: bool = False
    detail: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`goal`, `floor` or `short`: what was reached."""
        if self.floor is None or self.goal is None:
            return ""
        sign = 1 if self.more_is_better else -1
        for name, limit in (("goal", self.goal), ("floor", self.floor)):
            if sign * self.value >= sign * limit:
                return name
        return "short"


def show(figures: Iterable[Figure]) -> None:
    """Prints a table."""
    table = Table("figure", "measured", "floor", "goal", "reached")
    for figure in figures:
        table.add_row(
            figure.name,
            _number(figure.value),
            _number(figure.floor),
            _number(figure.goal),
            figure.verdict,
        )
    Console().print(table)


def write(
    figures: Sequence[Figure], path: Path, gateway: dict[str, str]
) -> None:
    """Writes figures as JSON; those of other names that are there stay.

    Args:
        figures: What was measured.
        path: The file.
        gateway: What it ran with, told beside each figure.
    """
    before = json.loads(path.read_text()) if path.exists() else {}
    by_name = {each["name"]: each for each in before.get("figures", [])}
    setting = about("benchmarks.serving")
    for figure in figures:
        by_name[figure.name] = {
            **dataclasses.asdict(figure),
            "verdict": figure.verdict,
            "gateway": gateway,
            **setting,
        }
    path.parent.mkdir(exist_ok=True)
    document = {"figures": list(by_name.values())}
    path.write_text(json.dumps(document, indent=2) + "\n")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if value and abs(value) < 10:
        return f"{value:.3g}"
    return f"{value:,.0f}"
