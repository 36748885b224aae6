"""Specs of a dataset's tables: their files, and the features in them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from components.spec_section import Section, closest
from serving.contract.errors import FeatureError
from serving.contract.features import CATEGORICAL_LIST, KINDS, Feature

FORMATS = ("csv", "parquet", "tfrecord")


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


def check_column(
    section: Section, key: str, column: str, known: tuple[str, ...]
) -> None:
    """Checks that `columns` of a file without a header line has a column."""
    if known and column and column not in known:
        raise section.error(
            key,
            f"there is no column {column!r}; `columns` lists "
            f"{', '.join(known)}." + closest(column, known),
        )


def read_table(section: Section) -> TableSpec:
    """Reads the keys that say how to read a table."""
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


def table_dict(table: TableSpec) -> dict[str, Any]:
    """Returns what `read_table` reads."""
    values = dataclasses.asdict(table)
    return values | {"files": list(table.files), "columns": list(table.columns)}


def read_entity(top: Section, key: str) -> EntitySpec:
    """Reads the section `users` or `items` of a spec."""
    if not top.has(key):
        return EntitySpec()
    section = top.section(key)
    features = section.section("features", {})
    table = read_table(section)
    entity = EntitySpec(
        table=table,
        key=section.text("key"),
        features=tuple(
            _read_feature(features, name) for name in features.names()
        ),
        display=section.text("display", "") if key == "items" else "",
    )
    section.finish()
    check_column(section, "key", entity.key, table.columns)
    check_column(section, "display", entity.display, table.columns)
    for source in entity.features:
        for column in source.columns:
            name = f"features.{source.feature.name}"
            check_column(section, name, column, table.columns)
    return entity


def _read_feature(features: Section, name: str) -> FeatureSource:
    # `age: numeric` is short for `age: {kind: numeric, column: age}`.
    value = features.take(
        name, (str, Mapping), f"a kind ({', '.join(KINDS)}) or a mapping"
    )
    values = {"kind": value} if isinstance(value, str) else value
    section = Section(values, features.source, f"{features.key}.{name}")
    kind = section.choice("kind", KINDS)
    _check_name(section, name)
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


def _check_name(section: Section, name: str) -> None:
    """Checks that TensorFlow takes the name for an input as it stands."""
    if name and not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        raise section.error(
            "",
            "the name of a feature is one of the model's inputs too: expected "
            f"a letter, then letters, digits and '_' (no {name!r}). Give it "
            f"such a name, and say `column: {name}`",
        )


def entity_dict(entity: EntitySpec, table: TableSpec) -> dict[str, Any]:
    """Returns what `read_entity` reads."""
    values = table_dict(table) | {"key": entity.key}
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
