"""A dataset, described: its files, columns, label rule and features.

A spec is written in YAML (`pipeline/datasets/`, or a user's own file), read
once into frozen dataclasses, and travels as JSON in the exec properties of
the components that need it. `DatasetSpec.from_dict` reads both.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

from components.dataset_labels import LabelSpec, label_dict, read_label
from components.dataset_sources import FetchSpec, fetch_dict, read_fetch
from components.dataset_tables import (
    EntitySpec,
    TableSpec,
    check_column,
    entity_dict,
    read_entity,
    read_table,
    table_dict,
)
from components.mixed_log import MixedLog, read_mix
from components.spec_section import Section
from components.time_formats import unknown_directives
from serving.contract.features import Feature

# Seconds, and how many of the unit make one.
TIMESTAMP_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
ISO_8601 = "iso8601"

_NO_TABLE = EntitySpec()
# Of the runs' folder, where datasets have theirs.
_TAKEN_NAME = "latest"


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Everything the pipeline needs to know about a dataset.

    Attributes:
        name: Lower-case name, used in paths.
        description: One line for people.
        licence: Under which terms the data may be used.
        interactions: The event log.
        user_column: Column of the log with the user's id.
        item_column: Column of the log with the item's id.
        timestamp_column: Column of the log with the time of the event.
        timestamp_format: A unit of `TIMESTAMP_UNITS`, "iso8601", or a
            strptime format; a time without a zone is UTC.
        label: How an event becomes a label.
        users: The user table.
        items: The item table.
        max_dead_letter_share: Share of a table's rows, 0 to 1, that may be
            unusable before the run stops.
        fetch: Where the files come from; None if they simply are in `folder`.
        folder: Folder that the spec file was read from; relative files of a
            spec without `fetch` are looked for there.
        training: Hyper-parameters of the trainer that suit this dataset
            better than its defaults; chosen on meta_valid.
        mix: Further logs to learn from.
    """

    name: str
    interactions: TableSpec
    user_column: str
    item_column: str
    timestamp_column: str
    label: LabelSpec
    description: str = ""
    licence: str = ""
    timestamp_format: str = "s"
    users: EntitySpec = _NO_TABLE
    items: EntitySpec = _NO_TABLE
    max_dead_letter_share: float = 0.05
    fetch: FetchSpec | None = None
    folder: str = ""
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mix: tuple[MixedLog, ...] = ()

    @property
    def logs(self) -> tuple["DatasetSpec", ...]:
        """A spec for each log: this one, then one for each of `mix`."""
        values = self.to_dict()
        values.pop("mix", None)
        main = values["interactions"]
        return (
            self,
            *(
                DatasetSpec.from_dict(
                    values | {"interactions": main | dict(log.interactions)},
                    f"log {log.name!r} of {self.name}",
                )
                for log in self.mix
            ),
        )

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        """All tables: logs, users, items."""
        entities = (self.users.table, self.items.table)
        return (
            *(log.interactions for log in self.logs),
            *(table for table in entities if table),
        )

    @property
    def draw_weights(self) -> dict[str, float]:
        """By prefix of user ids, how often such users are drawn."""
        return {log.prefix: log.weight for log in self.mix if log.prefix}

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """Hyper-parameters that the dataset comes with, by name."""
        if self.label.liked_from is None:
            return dict(self.training)
        return {"liked_from": self.label.liked_from, **self.training}

    @property
    def user_features(self) -> tuple[Feature, ...]:
        """Features of a user, in the order of the spec."""
        return tuple(source.feature for source in self.users.features)

    @property
    def item_features(self) -> tuple[Feature, ...]:
        """Features of an item, in the order of the spec."""
        return tuple(source.feature for source in self.items.features)

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec in the form that a YAML spec has."""
        interactions = table_dict(self.interactions) | {
            "user": self.user_column,
            "item": self.item_column,
            "timestamp": {
                "column": self.timestamp_column,
                "format": self.timestamp_format,
            },
            "label": label_dict(self.label),
        }
        values: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "licence": self.licence,
            "folder": self.folder,
            "max_dead_letter_share": self.max_dead_letter_share,
            "interactions": interactions,
        }
        if self.users.table:
            values["users"] = entity_dict(self.users, self.users.table)
        if self.items.table:
            values["items"] = entity_dict(self.items, self.items.table)
        if self.fetch:
            values["fetch"] = fetch_dict(self.fetch)
        if self.training:
            values["training"] = dict(self.training)
        if self.mix:
            values["mix"] = [log.to_dict() for log in self.mix]
        return values

    def to_json(self) -> str:
        """Returns the spec as JSON, the same text for the same spec."""
        return json.dumps(self.to_dict(), sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> "DatasetSpec":
        """Reads what `to_json` wrote."""
        return cls.from_dict(json.loads(text), "dataset spec in JSON")

    @classmethod
    def from_dict(
        cls, values: Mapping[str, Any], source: str, folder: str = ""
    ) -> "DatasetSpec":
        """Reads a spec.

        Args:
            values: What a YAML spec holds.
            source: File that errors name.
            folder: Folder of that file.

        Raises:
            DatasetSpecError: A key is unknown or missing, or a value is not
                what the key takes.
        """
        top = Section(values, source)
        log = top.section("interactions")
        timestamp = log.section("timestamp")
        spec = cls(
            name=top.text("name"),
            description=top.text("description", ""),
            licence=top.text("licence", ""),
            folder=top.text("folder", folder),
            max_dead_letter_share=top.number("max_dead_letter_share", 0.05),
            interactions=read_table(log),
            user_column=log.text("user"),
            item_column=log.text("item"),
            timestamp_column=timestamp.text("column"),
            timestamp_format=timestamp.text("format", "s"),
            label=read_label(log.section("label")),
            users=read_entity(top, "users"),
            items=read_entity(top, "items"),
            fetch=read_fetch(top.section("fetch"))
            if top.has("fetch")
            else None,
            training=dict(top.take("training", Mapping, "a mapping", {})),
            mix=read_mix(top),
        )
        for section in (timestamp, log, top):
            section.finish()
        _check(spec, top, log)
        return spec


def _check(spec: DatasetSpec, top: Section, log: Section) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", spec.name):
        raise top.error(
            "name",
            "expected lower-case letters, digits, '-', '_' and '.', got "
            f"{spec.name!r}",
        )
    if spec.name == _TAKEN_NAME:
        raise top.error(
            "name",
            f"{_TAKEN_NAME!r} is the link to the newest run, beside the "
            "datasets' folders; choose another name",
        )
    if not 0 <= spec.max_dead_letter_share <= 1:
        raise top.error(
            "max_dead_letter_share",
            f"expected a share from 0 to 1, got {spec.max_dead_letter_share}",
        )
    layout = spec.timestamp_format
    if layout not in (*TIMESTAMP_UNITS, ISO_8601) and "%" not in layout:
        raise log.error(
            "timestamp.format",
            f"expected {', '.join(TIMESTAMP_UNITS)}, {ISO_8601} or a strptime "
            f"format such as '%d/%m/%Y %H:%M', got {layout!r}",
        )
    if unknown := unknown_directives(layout):
        raise log.error(
            "timestamp.format",
            f"{layout!r} holds {', '.join(unknown)}, which Python's strptime "
            "does not know; seconds since 1970 are the format 's'",
        )
    names = [f.name for f in (*spec.user_features, *spec.item_features)]
    for name in names:
        if names.count(name) > 1:
            raise top.error(
                "items.features",
                f"the feature {name!r} is declared twice; names must be "
                "unique over users and items",
            )
    if any(
        log.label.is_implicit != spec.label.is_implicit for log in spec.logs
    ):
        raise top.error(
            "mix", "expected either ratings in all logs or implicit ones in all"
        )
    known = spec.interactions.columns
    for key, column in (
        ("user", spec.user_column),
        ("item", spec.item_column),
        ("timestamp.column", spec.timestamp_column),
        ("label.column", spec.label.column),
    ):
        check_column(log, key, column, known)
