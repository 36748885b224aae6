"""Validates raw rows and types their columns, whole batches at a time."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset_spec import DatasetSpec
from components.dataset_tables import EntitySpec
from components.interaction_example_gen.dead_letters import (
    INTERACTIONS,
    DeadLetter,
    shorten,
)
from components.interaction_example_gen.grading import labels_of
from components.interaction_example_gen.raw_batch import RawBatch
from components.interaction_example_gen.times import as_seconds
from components.interaction_example_gen.values import (
    as_feature,
    as_number,
    as_text,
    is_inexact,
    is_list,
    is_textual,
)
from serving.limits import Limits

# `order` says which of two equal rows came first, and where it stands.
_ROW_BITS = 40
EVENTS = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("label", pa.float32()),
        ("timestamp", pa.int64()),
        ("order", pa.int64()),
    ]
)

# Of a user or item table, beside its features: no feature has such a name.
ENTITY_ID = "#id"
ENTITY_ORDER = "#order"
ENTITY_DISPLAY = "#display"

Check = tuple[str, NDArray[np.bool_], pa.Array]


def order_of(file_index: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns sortable numbers of rows: by file, then by place in it."""
    return rows + (np.int64(file_index) << _ROW_BITS)


def place_of(order: int) -> tuple[int, int]:
    """Returns the file index and the row that `order_of` was given."""
    return order >> _ROW_BITS, order & ((1 << _ROW_BITS) - 1)


def interaction_columns(spec: DatasetSpec) -> list[str]:
    """Returns the columns of the log that are read."""
    columns = [spec.user_column, spec.item_column, spec.timestamp_column]
    if spec.label.column:
        columns.append(spec.label.column)
    return list(dict.fromkeys(columns))


def entity_columns(entity: EntitySpec) -> list[str]:
    """Returns the columns of a user or item table that are read."""
    columns = [entity.key]
    for source in entity.features:
        columns.extend(source.columns)
    if entity.display:
        columns.append(entity.display)
    return list(dict.fromkeys(columns))


def parse_interactions(
    raw: RawBatch, spec: DatasetSpec, path: str, file_index: int, now: int
) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """Types a batch of the log and takes out the rows that can't be used.

    Args:
        raw: The rows, with the columns of `interaction_columns`.
        spec: The dataset.
        path: The file, for dead letters.
        file_index: Number of the file among the log's files.
        now: Seconds; an event later than this is in the future.

    Returns:
        The usable rows with the schema `EVENTS`, and a dead letter for each
        of the others, with the first reason found.
    """
    user, item = _column(raw, spec.user_column), _column(raw, spec.item_column)
    user_id, item_id = as_text(user), as_text(item)
    times = _column(raw, spec.timestamp_column)
    seconds = as_seconds(times, spec.timestamp_format)
    checks = [
        ("invalid_encoding", _lost(user, user_id), user),
        ("invalid_encoding", _lost(item, item_id), item),
        ("empty_user_id", _is_blank(user_id), user),
        ("empty_item_id", _is_blank(item_id), item),
        ("inexact_user_id", is_inexact(user), user),
        ("inexact_item_id", is_inexact(item), item),
        ("user_id_too_long", _is_too_long(user_id), user),
        ("item_id_too_long", _is_too_long(item_id), item),
    ]
    if spec.label.column:
        ratings = _column(raw, spec.label.column)
        number = as_number(ratings)
        missing = _is_blank(as_text(ratings)) | _mask(pc.is_nan(number))
        # What is neither finite nor NaN is infinite, or never was a number.
        infinite = ~_mask(pc.is_finite(number))
        checks.append(("missing_label", missing, ratings))
        checks.append(("unparsable_label", infinite, ratings))
        label = pa.array(
            labels_of(number.to_numpy(zero_copy_only=False), spec.label)
        )
    else:
        label = pa.array(np.ones(len(raw.rows), np.float32))
    unknown_time = _mask(pc.is_null(seconds))
    checks.append(("unparsable_timestamp", unknown_time, times))
    checks.append(("timestamp_before_1970", _mask(pc.less(seconds, 0)), times))
    checks.append(
        ("timestamp_in_future", _mask(pc.greater(seconds, now)), times)
    )
    usable, letters = _judge(raw, checks, INTERACTIONS, path)
    order = pa.array(order_of(file_index, raw.rows))
    batch = pa.RecordBatch.from_arrays(
        [user_id, item_id, label, seconds, order], schema=EVENTS
    )
    return batch.filter(usable), letters


def parse_entities(
    raw: RawBatch, entity: EntitySpec, table: str, path: str, file_index: int
) -> tuple[pa.RecordBatch, list[DeadLetter]]:
    """Types a batch of the user or the item table.

    Args:
        raw: The rows, with the columns of `entity_columns`.
        entity: The table's spec.
        table: "users" or "items".
        path: The file, for dead letters.
        file_index: Number of the file among the table's files.

    Returns:
        The usable rows (columns `ENTITY_ID`, `ENTITY_ORDER`, the features by
        name, and `ENTITY_DISPLAY` if there is one), and the dead letters. A
        feature that is text but can't be parsed is missing; its row stays.
    """
    key = _column(raw, entity.key)
    ids = as_text(key)
    checks = [
        ("invalid_encoding", _lost(key, ids), key),
        (f"empty_{table[:-1]}_id", _is_blank(ids), key),
        (f"inexact_{table[:-1]}_id", is_inexact(key), key),
        (f"{table[:-1]}_id_too_long", _is_too_long(ids), key),
    ]
    for name in entity_columns(entity):
        column = _column(raw, name)
        if is_list(column.type):
            # What of a list is no text is missing from it.
            continue
        lost = _lost(column, as_text(column))
        checks.append(("invalid_encoding", lost, column))
    usable, letters = _judge(raw, checks, table, path)
    columns = {
        ENTITY_ID: ids,
        ENTITY_ORDER: pa.array(order_of(file_index, raw.rows)),
    }
    for source in entity.features:
        columns[source.feature.name] = as_feature(raw.columns, source)
    if entity.display:
        text = as_text(_column(raw, entity.display))
        columns[ENTITY_DISPLAY] = pc.utf8_trim_whitespace(text)
    batch = pa.RecordBatch.from_arrays(list(columns.values()), list(columns))
    return batch.filter(usable), letters


def _column(raw: RawBatch, name: str) -> pa.Array:
    return raw.columns.column(raw.columns.schema.get_field_index(name))


def _mask(values: pa.Array) -> NDArray[np.bool_]:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _lost(before: pa.Array, after: pa.Array) -> NDArray[np.bool_]:
    """Where bytes were no text."""
    if not is_textual(before.type):
        return np.zeros(len(before), bool)
    return _mask(pc.and_(pc.is_valid(before), pc.is_null(after)))


def _is_blank(text: pa.Array) -> NDArray[np.bool_]:
    trimmed = pc.utf8_trim_whitespace(text)
    return pc.fill_null(pc.equal(trimmed, ""), True).to_numpy(
        zero_copy_only=False
    )


def _is_too_long(text: pa.Array) -> NDArray[np.bool_]:
    """Whom a gateway would refuse to hear of, once the model is served."""
    return _mask(pc.greater(pc.binary_length(text), Limits.id_bytes))


def _judge(
    raw: RawBatch, checks: list[Check], table: str, path: str
) -> tuple[pa.Array, list[DeadLetter]]:
    """Which rows pass every check, and letters for those that don't."""
    usable = np.ones(len(raw.rows), bool)
    letters = list(raw.unreadable)
    for reason, failed, values in checks:
        for index in np.flatnonzero(failed & usable):
            letters.append(
                DeadLetter(
                    reason,
                    table,
                    path,
                    int(raw.rows[index]),
                    _show(values, int(index)),
                )
            )
        usable &= ~failed
    return pa.array(usable), letters


def _show(values: pa.Array, index: int) -> str:
    try:
        return shorten(values[index].as_py())
    except UnicodeDecodeError:
        # Values of a text column whose bytes are not UTF-8.
        return shorten(values[index].cast(pa.binary()).as_py())
