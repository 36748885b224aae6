"""Turns columns of whatever type into text, numbers and features.

Every function keeps the number of rows; a value that can't be converted
becomes null, so that the caller can say in which row it stood.
"""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.dataset_tables import FeatureSource
from serving.contract.features import CATEGORICAL_LIST, NUMERIC

_TRUE_FLAGS = pa.array(["1", "1.0", "true", "True", "TRUE"])


def lenient(
    values: pa.Array, convert: Callable[[pa.Array], pa.Array]
) -> pa.Array:
    """Converts values; those that make `convert` fail become null.

    A good array costs one call; each bad value costs about 2 log2(n) more,
    since the array is halved until the bad value stands alone.

    Args:
        values: What to convert, [n].
        convert: A conversion of each value on its own, which raises
            `pa.ArrowInvalid` if any can't be converted.

    Returns:
        The converted values, [n].
    """
    try:
        return convert(values)
    except pa.ArrowInvalid:
        if len(values) == 1:
            return pa.nulls(1, convert(values[:0]).type)
    middle = len(values) // 2
    halves = (values[:middle], values[middle:])
    return pa.concat_arrays([lenient(half, convert) for half in halves])


def as_text(values: pa.Array) -> pa.Array:
    """Returns values as UTF-8 text; null where the bytes are not UTF-8.

    A whole number is the same text whatever type it has: 7, 7.0 and 7.00 are
    "7". NaN is null.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        return values.cast(pa.string())
    if pa.types.is_floating(values.type):
        return _floats_as_text(values)
    if pa.types.is_decimal(values.type):
        return _decimals_as_text(values)
    # Through bytes, since a cast from bytes is what checks the encoding.
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    return lenient(values, lambda v: v.cast(pa.string()))


def is_inexact(values: pa.Array) -> NDArray[np.bool_]:
    """Which floats are no whole numbers, or too large to be surely the same.

    Returns:
        [n]; False where there is no float.
    """
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), bool)
    largest = 2.0 ** (np.finfo(values.type.to_pandas_dtype()).nmant + 1)
    numbers = as_number(values).to_numpy(zero_copy_only=False)
    is_whole = (np.floor(numbers) == numbers) & (np.abs(numbers) <= largest)
    return ~(is_whole | np.isnan(numbers))


def as_number(values: pa.Array) -> pa.Array:
    """Returns values as float64; null where that can't be done."""
    if is_textual(values.type):
        values = pc.utf8_trim_whitespace(as_text(values))
    # A large whole number is rounded, as it is when read from text.
    return lenient(values, lambda v: v.cast(pa.float64(), safe=False))


def as_feature(table: pa.RecordBatch, source: FeatureSource) -> pa.Array:
    """Returns a feature of each row.

    Returns:
        float32, string or list<string>, [n]; null where it is missing.
    """
    if source.flags:
        return _from_flags(table, source.columns)
    values = table.column(table.schema.get_field_index(source.columns[0]))
    if source.pattern:
        values = _extract(as_text(values), re.compile(source.pattern))
    if source.feature.kind == NUMERIC:
        # What float32 can't hold is infinite once it is one.
        numbers = as_number(values).cast(pa.float32(), safe=False)
        nothing = pa.scalar(None, numbers.type)
        return pc.if_else(pc.is_finite(numbers), numbers, nothing)
    if source.feature.kind == CATEGORICAL_LIST:
        return _as_lists(values, source.separator)
    return _empty_to_null(pc.utf8_trim_whitespace(as_text(values)))


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds several values in each row."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def is_textual(kind: pa.DataType) -> bool:
    """Whether a column holds text, checked or not."""
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_fixed_size_binary(kind)
        or pa.types.is_dictionary(kind)
    )


def _floats_as_text(values: pa.Array) -> pa.Array:
    numbers = values.cast(pa.float64())
    is_whole = pc.and_(
        pc.equal(pc.floor(numbers), numbers),
        pc.less(pc.abs(numbers), 2.0**63),
    )
    whole = pc.if_else(is_whole, numbers, pa.scalar(None, pa.float64()))
    other = pc.if_else(
        pc.is_nan(numbers),
        pa.scalar(None, pa.string()),
        values.cast(pa.string()),
    )
    return pc.coalesce(whole.cast(pa.int64()).cast(pa.string()), other)


def _decimals_as_text(values: pa.Array) -> pa.Array:
    encoded = values.dictionary_encode()
    texts = [f"{number:f}" for number in encoded.dictionary.to_pylist()]
    # Their scale says how many digits follow the point, be they zeros.
    if values.type.scale > 0:
        texts = [text.rstrip("0").rstrip(".") for text in texts]
    return pa.array(texts, pa.string()).take(encoded.indices)


def _empty_to_null(text: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def _extract(text: pa.Array, pattern: re.Pattern[str]) -> pa.Array:
    """The first group of the first match; Python's rules, not RE2's."""
    encoded = text.dictionary_encode()
    found = [
        match.group(1) if match else None
        for match in map(pattern.search, encoded.dictionary.to_pylist())
    ]
    return pa.array(found, pa.string()).take(encoded.indices)


def _as_lists(values: pa.Array, separator: str) -> pa.Array:
    if is_list(values.type):
        lists = values
    elif pa.types.is_null(values.type):
        return pa.nulls(len(values), pa.list_(pa.string()))
    else:
        lists = pc.split_pattern(as_text(values), pattern=separator)
    items = pc.utf8_trim_whitespace(as_text(lists.flatten()))
    parents = pc.list_parent_indices(lists)
    return _group(items, parents.to_numpy(), len(values))


def _from_flags(table: pa.RecordBatch, columns: tuple[str, ...]) -> pa.Array:
    raised = np.stack(
        [
            pc.is_in(
                pc.utf8_trim_whitespace(
                    as_text(table.column(table.schema.get_field_index(name)))
                ),
                value_set=_TRUE_FLAGS,
            ).to_numpy(zero_copy_only=False)
            for name in columns
        ],
        axis=1,
    )
    rows, which = np.nonzero(raised)
    items = pa.array(columns, pa.string()).take(pa.array(which))
    return _group(items, rows, len(table))


def _group(items: pa.Array, rows: np.ndarray, num_rows: int) -> pa.Array:
    """Lists of the non-empty items of each row; null for a row with none."""
    kept = pc.fill_null(pc.not_equal(items, ""), False)
    rows = rows[kept.to_numpy(zero_copy_only=False)]
    counts = np.bincount(rows, minlength=num_rows)
    ends = np.cumsum(counts)
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lists = pa.ListArray.from_arrays(pa.array(offsets), items.filter(kept))
    present = pa.array(counts > 0)
    return pc.if_else(present, lists, pa.scalar(None, lists.type))
