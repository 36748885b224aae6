"""Parsing columns against parsing their values one by one."""

import datetime
import decimal
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dataset_tables import FeatureSource
from components.interaction_example_gen import times, values
from serving.contract.features import Feature

TEXTS = st.one_of(
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(["", " 4 ", "nan", "-inf", "1e3", "0x10", "1,5", "+3"]),
    st.none(),
)


def number_or_none(text):
    try:
        return float(text.strip()) if "_" not in text else None
    except (ValueError, AttributeError):
        return None


@given(st.lists(TEXTS, max_size=20))
def test_each_text_is_parsed_as_if_it_were_alone(texts):
    together = values.as_number(pa.array(texts, pa.string()))
    alone = [
        values.as_number(pa.array([text], pa.string()))[0].as_py()
        for text in texts
    ]
    assert repr(together.to_pylist()) == repr(alone)


@given(st.lists(st.floats(width=64).map(repr), min_size=1, max_size=20))
def test_numbers_equal_those_of_python(texts):
    parsed = values.as_number(pa.array(texts)).to_pylist()
    for text, number in zip(texts, parsed, strict=True):
        expected = number_or_none(text)
        assert number == expected or (
            math.isnan(number) and math.isnan(expected)
        )


@given(st.lists(st.binary(max_size=6), max_size=20))
def test_bytes_are_text_exactly_if_they_are_utf8(chunks):
    parsed = values.as_text(pa.array(chunks, pa.binary())).to_pylist()
    for chunk, text in zip(chunks, parsed, strict=True):
        try:
            assert text == chunk.decode("utf-8")
        except UnicodeDecodeError:
            assert text is None


@given(st.integers(-(2**40), 2**40), st.sampled_from(["s", "ms", "us"]))
def test_times_are_rounded_down_to_seconds(number, unit):
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000}[unit]
    seconds = number // per_second
    for column in (pa.array([number]), pa.array([str(number)])):
        assert times.as_seconds(column, unit).to_pylist() == [seconds]


MOMENT = datetime.datetime(2017, 1, 28, 19, 6, 53, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("text", "layout"),
    [
        ("2017-01-28T19:06:53Z", "iso8601"),
        ("2017-01-28 19:06:53", "iso8601"),
        ("2017-01-28T19:06:53.900", "iso8601"),
        ("2017-01-28T20:06:53+01:00", "iso8601"),
        ("2017-01-28T19:06:53.1234567Z", "iso8601"),
        ("2017-01-28 20:06:53.123456789+01:00", "iso8601"),
        ("28/01/2017 19.06.53", "%d/%m/%Y %H.%M.%S"),
        ("2017-01-28 19:06:53.900000", "%Y-%m-%d %H:%M:%S.%f"),
        ("2017-01-28 20:06:53.9+0100", "%Y-%m-%d %H:%M:%S.%f%z"),
        (" 1485630413 ", "s"),
        ("1485630413.75", "s"),
        ("1.485630413e9", "s"),
        ("1485630413999", "ms"),
    ],
)
def test_time_is_read_in_each_format(text, layout):
    bad = "2017-13-41T99:99"
    column = pa.array([bad, text, None, "", text])
    expected = int(MOMENT.timestamp())
    assert times.as_seconds(column, layout).to_pylist() == [
        None,
        expected,
        None,
        None,
        expected,
    ]


@pytest.mark.parametrize(
    ("layout", "suffix"),
    [("%Y-%m-%d", ""), ("%F", ""), ("%F %T%z", " 23:30:00-0500")],
)
def test_day_that_its_month_lacks_is_no_time(layout, suffix):
    days = ["2020-02-31", "2021-02-29", "2020-04-31"]
    column = pa.array([day + suffix for day in days])
    assert times.as_seconds(column, layout).to_pylist() == [None] * 3


def test_every_day_of_a_leap_year_is_read_with_and_without_a_zone():
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    days = [start + datetime.timedelta(days=n) for n in range(366)]
    expected = [int(day.timestamp()) for day in days]
    for layout in ("%d.%m.%Y", "%D", "%Y %j", "%Y-%m-%d %H:%M %z"):
        column = pa.array([day.strftime(layout) for day in days])
        assert times.as_seconds(column, layout).to_pylist() == expected


def test_zone_that_nobody_can_tell_is_no_time():
    column = pa.array(["2017-01-28 19:06:53 UTC", "2017-01-28 19:06:53 XYZ"])
    seconds = times.as_seconds(column, "%Y-%m-%d %H:%M:%S %Z").to_pylist()
    assert seconds == [int(MOMENT.timestamp()), None]


@pytest.mark.parametrize(
    "kind",
    [pa.int64(), pa.float32(), pa.float64(), pa.decimal128(21, 2)],
)
def test_whole_number_is_the_same_text_in_every_type(kind):
    column = pa.array([0, 7, -120, 1 << 20, None]).cast(kind)
    texts = ["0", "7", "-120", "1048576", None]
    assert values.as_text(column).to_pylist() == texts


def test_large_and_broken_numbers_are_read_as_they_are():
    numbers = [1e16, -0.0, 1.5, math.inf, math.nan]
    assert values.as_text(pa.array(numbers)).to_pylist() == [
        "10000000000000000",
        "0",
        "1.5",
        "inf",
        None,
    ]
    column = pa.array([decimal.Decimal("10.50"), None])
    assert values.as_text(column).to_pylist() == ["10.5", None]


def test_arrow_timestamps_need_no_format():
    column = pa.array([MOMENT, None], pa.timestamp("ms", "UTC"))
    expected = [int(MOMENT.timestamp()), None]
    assert times.as_seconds(column, "s").to_pylist() == expected


def test_arrow_timestamps_in_nanoseconds_are_rounded_down():
    nanos = [1_485_630_413_123_456_789, -1, None]
    for zone in (None, "Europe/Berlin"):
        column = pa.array(nanos, pa.timestamp("ns", zone))
        expected = [1_485_630_413, -1, None]
        assert times.as_seconds(column, "s").to_pylist() == expected


def feature(kind, column, **options):
    columns = options.pop("columns", {"c": column})
    batch = pa.RecordBatch.from_pydict(columns)
    source = FeatureSource(Feature("f", kind), tuple(columns), **options)
    return values.as_feature(batch, source).to_pylist()


def test_empty_text_is_a_missing_category():
    assert feature("categorical", ["a", "", " ", None, " b "]) == [
        "a",
        None,
        None,
        None,
        "b",
    ]


def test_what_is_not_a_finite_number_is_missing():
    column = ["3.5", "", "old", "inf", "nan", None]
    assert feature("numeric", column) == [3.5, None, None, None, None, None]


def test_list_is_split_trimmed_and_freed_of_empty_values():
    column = ["a|b", "a| b||", "", None, "|"]
    assert feature("categorical_list", column, separator="|") == [
        ["a", "b"],
        ["a", "b"],
        None,
        None,
        None,
    ]


def test_list_column_needs_no_separator_in_the_file():
    column = pa.array([["a", ""], [], None, ["b", "c"]])
    assert feature("categorical_list", column, separator="|") == [
        ["a"],
        None,
        None,
        ["b", "c"],
    ]


def test_flags_become_the_names_of_their_columns():
    columns = {"Drama": ["1", "0", "0"], "Comedy": ["1", "true", ""]}
    assert feature("categorical_list", None, columns=columns, flags=True) == [
        ["Drama", "Comedy"],
        ["Comedy"],
        None,
    ]


def test_pattern_takes_its_group_or_nothing():
    column = ["Heat (1995)", "Heat", None]
    pattern = r"\((\d{4})\)$"
    assert feature("numeric", column, pattern=pattern) == [1995, None, None]


def test_number_that_float32_cannot_hold_is_missing():
    column = ["3.4e38", "1e39", "-1e300"]
    [held, *others] = feature("numeric", column)
    assert held == pytest.approx(3.4e38, rel=1e-6)
    assert others == [None, None]


def test_large_whole_number_is_a_number_in_parquet_as_in_csv():
    nanos = 1_485_630_413_123_456_789
    numbers = feature("numeric", pa.array([nanos, 1]))
    assert numbers == feature("numeric", [str(nanos), "1"])
    assert numbers[0] == pytest.approx(nanos)


def test_time_beyond_the_years_there_are_is_none():
    text = pa.array(
        ["0001-01-01 00:00:00.0 +0500", "2017-01-28 00:00:00.0 +0000"]
    )
    found = times.as_seconds(text, "%Y-%m-%d %H:%M:%S.%f %z")
    assert found.to_pylist() == [None, 1485561600]
