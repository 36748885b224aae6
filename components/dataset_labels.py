"""The spec of a dataset's labels: how an event becomes one."""

import dataclasses
from typing import Any

from components.spec_section import Section
from serving.contract.protocol import WINDOW_EVENTS
from serving.limits import Limits

# What a replay sends at once is a window, and must not be refused.
_MAX_NEGATIVES = Limits.events // WINDOW_EVENTS - 1


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """How an event becomes a label.

    Attributes:
        column: Explicit: the column with the rating. Empty for implicit sets,
            in which every event is a positive.
        at_least: Explicit: an event is liked where the rating reaches this.
        lowest: Explicit: the lowest rating there is. With `highest`, labels
            tell how much an event was liked, too; without, they are 0 or 1.
        highest: Explicit: the highest rating there is.
        negatives: Implicit: items drawn as negatives for each event.
        power: Implicit: an item is drawn in proportion to its number of
            events, raised to this power.
    """

    column: str = ""
    at_least: float = 0.0
    lowest: float | None = None
    highest: float | None = None
    negatives: int = 0
    power: float = 0.75

    @property
    def is_implicit(self) -> bool:
        """Whether negatives must be sampled."""
        return not self.column

    @property
    def is_graded(self) -> bool:
        """Whether labels lie between 0 and 1."""
        return self.lowest is not None

    @property
    def liked_from(self) -> float | None:
        """Where on the scale, 0 to 1, liking starts; None if there is none."""
        if self.lowest is None or self.highest is None:
            return None
        return (self.at_least - self.lowest) / (self.highest - self.lowest)


def read_label(section: Section) -> LabelSpec:
    """Reads the section `label` of a spec."""
    if section.has("implicit"):
        rule = section.section("implicit")
        label = LabelSpec(
            negatives=rule.integer("negatives", 4),
            power=rule.number("power", 0.75),
        )
        if not 1 <= label.negatives <= _MAX_NEGATIVES:
            raise rule.error(
                "negatives",
                f"expected 1 to {_MAX_NEGATIVES}, got {label.negatives}; a "
                "window of events with theirs must fit one request of feedback",
            )
        rule.finish()
    else:
        lowest, highest = _read_scale(section)
        label = LabelSpec(
            column=section.text("column"),
            at_least=section.number("at_least"),
            lowest=lowest,
            highest=highest,
        )
        _check_scale(section, label)
    section.finish()
    return label


def label_dict(label: LabelSpec) -> dict[str, Any]:
    """Returns what `read_label` reads."""
    if label.is_implicit:
        rule = {"negatives": label.negatives, "power": label.power}
        return {"implicit": rule}
    explicit: dict[str, Any] = {
        "column": label.column,
        "at_least": label.at_least,
    }
    if label.is_graded:
        explicit |= {"lowest": label.lowest, "highest": label.highest}
    return explicit


def _read_scale(section: Section) -> tuple[float | None, float | None]:
    if not (section.has("lowest") or section.has("highest")):
        return None, None
    return section.number("lowest"), section.number("highest")


def _check_scale(section: Section, label: LabelSpec) -> None:
    if label.lowest is None or label.highest is None:
        return
    if label.lowest >= label.at_least:
        raise section.error(
            "lowest",
            f"expected less than at_least ({label.at_least:g}), got "
            f"{label.lowest:g}",
        )
    if label.highest < label.at_least:
        raise section.error(
            "highest",
            f"expected at_least ({label.at_least:g}) or more, got "
            f"{label.highest:g}",
        )
