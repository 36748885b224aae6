"""Turns columns of whatever type into times.

A value that can't be converted becomes null, as in `values`.
"""

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from components.dataset_spec import ISO_8601, TIMESTAMP_UNITS
from components.interaction_example_gen.values import (
    as_number,
    as_text,
    is_textual,
    lenient,
)
from components.time_formats import spell_out

# Where a day that a month lacks, such as February 31st, would end up in the
# month after it: by the zone of its text, and then in UTC.
_ROLLED_OVER = range(1, 4)
_ROLLED_OVER_UTC = (*range(1, 5), *range(28, 32))


def as_seconds(values: pa.Array, layout: str) -> pa.Array:
    """Returns times as int64 seconds since 1970, UTC, rounded down.

    Args:
        values: Numbers, texts or Arrow timestamps, [n].
        layout: `DatasetSpec.timestamp_format`; Arrow timestamps ignore it.
    """
    if pa.types.is_timestamp(values.type):
        per_second = TIMESTAMP_UNITS[values.type.unit]
        return _floor_divide(values.cast(pa.int64()), per_second)
    if pa.types.is_temporal(values.type):
        micros = values.cast(pa.timestamp("us")).cast(pa.int64())
        return _floor_divide(micros, 1_000_000)
    if layout in TIMESTAMP_UNITS:
        return _floor_divide(_as_integer(values), TIMESTAMP_UNITS[layout])
    text = pc.utf8_trim_whitespace(as_text(values))
    if layout == ISO_8601:
        times = lenient(text, _iso_to_timestamp)
    else:
        times = _parse_times(text, spell_out(layout))
    return _floor_divide(times.cast(pa.int64()), 1_000_000)


def _as_integer(values: pa.Array) -> pa.Array:
    """Whole numbers exactly, others rounded down."""
    if pa.types.is_integer(values.type):
        return values.cast(pa.int64())
    if is_textual(values.type):
        text = pc.utf8_trim_whitespace(as_text(values))
        try:
            return text.cast(pa.int64())
        except pa.ArrowInvalid:
            whole = lenient(text, lambda v: v.cast(pa.int64()))
            return pc.coalesce(whole, _floor(as_number(text)))
    return _floor(as_number(values))


def _floor(numbers: pa.Array) -> pa.Array:
    fits = pc.less(pc.abs(numbers), 2.0**62)
    numbers = pc.if_else(fits, numbers, pa.scalar(None, pa.float64()))
    return pc.floor(numbers).cast(pa.int64())


def _floor_divide(values: pa.Array, divisor: int) -> pa.Array:
    # Arrow divides toward zero.
    valid = pc.is_valid(values).to_numpy(zero_copy_only=False)
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    return pa.array(numbers // divisor, pa.int64(), mask=~valid)


def _iso_to_timestamp(text: pa.Array) -> pa.Array:
    # Arrow refuses digits beyond the unit; seconds are all that is wanted.
    text = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    try:
        with_zone = text.cast(pa.timestamp("us", "UTC"))
    except pa.ArrowInvalid:
        return text.cast(pa.timestamp("us"))
    return with_zone.cast(pa.timestamp("us"))


def _parse_times(text: pa.Array, layout: str) -> pa.Array:
    """Times by a strptime format."""
    if "%f" in layout or "%Z" in layout:
        # Arrow knows no fractions of a second, and passes over names of zones.
        return _parse_one_by_one(text, layout)
    times = pc.strptime(text, format=layout, unit="us", error_is_null=True)
    times = times.cast(pa.timestamp("us"))
    # Arrow takes February 31st for a day of March; Python refuses it.
    days = _ROLLED_OVER_UTC if "%z" in layout else _ROLLED_OVER
    doubtful = pc.is_in(pc.day(times), value_set=pa.array(days, pa.int64()))
    checked = _parse_one_by_one(text.filter(doubtful), layout)
    return pc.replace_with_mask(times, doubtful, checked)


def _parse_one_by_one(text: pa.Array, layout: str) -> pa.Array:
    """Times by Python's strptime, which is slow."""
    encoded = text.dictionary_encode()
    times = [_parse_time(value, layout) for value in encoded.dictionary]
    return pa.array(times, pa.timestamp("us")).take(encoded.indices)


def _parse_time(text: pa.StringScalar, layout: str) -> datetime.datetime | None:
    try:
        time = datetime.datetime.strptime(text.as_py(), layout)
        if time.tzinfo is None:
            return time
        return time.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    except (ValueError, OverflowError):
        # The latter, if a zone takes it out of the years there are.
        return None
