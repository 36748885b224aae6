"""Further logs that a dataset is mixed of."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from components.spec_section import Section

_OWN = "own"
_SHARED = "shared"
# Between the name of a log and the id of one of its users.
_SEPARATOR = ":"


@dataclasses.dataclass(frozen=True)
class MixedLog:
    """A log of the same catalogue of items, mixed with the main one.

    Attributes:
        name: Lower-case name.
        interactions: What differs from the main log, as in a YAML spec.
        own_users: Whether its users are other people than the main log's,
            ids alike or not. They are learned from and never judged.
        weight: How often one of its own users is drawn in training, against
            one of the main log with as many events.
    """

    name: str
    interactions: Mapping[str, Any]
    own_users: bool = True
    weight: float = 1.0

    @property
    def prefix(self) -> str:
        """What the ids of its users start with downstream; may be empty."""
        return self.name + _SEPARATOR if self.own_users else ""

    def to_dict(self) -> dict[str, Any]:
        """Returns what `read_mix` reads."""
        values = {
            "name": self.name,
            "users": _OWN if self.own_users else _SHARED,
            **self.interactions,
        }
        return values | ({"weight": self.weight} if self.own_users else {})


def read_mix(top: Section) -> tuple[MixedLog, ...]:
    """Reads the section `mix` of a spec."""
    entries = top.take("mix", (list, tuple), "a list of logs", ())
    logs = tuple(
        _read(Section(values, top.source, f"mix[{index}]"))
        for index, values in enumerate(entries)
    )
    names = [log.name for log in logs]
    if len(set(names)) != len(names):
        raise top.error("mix", f"expected different names, got {names}")
    return logs


def _read(section: Section) -> MixedLog:
    name = section.text("name")
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise section.error(
            "name",
            f"expected lower-case letters, digits, '-', '_', '.', got {name!r}",
        )
    own_users = section.choice("users", (_OWN, _SHARED), _OWN) == _OWN
    if section.has("weight") and not own_users:
        raise section.error(
            "weight",
            "only a log with users of its own can be weighed; events of "
            "shared users count like any other of theirs",
        )
    weight = section.number("weight", 1.0)
    if weight <= 0:
        raise section.error("weight", f"expected more than 0, got {weight}")
    section.texts("files")
    ours = ("name", "users", "weight")
    interactions = {
        key: section.take(key, object, "a value")
        for key in section.names()
        if key not in ours
    }
    return MixedLog(name, interactions, own_users, weight)
