"""Reading files against Python's csv module, and files that go wrong."""

import csv
import gzip
import io

import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.dataset_tables import TableSpec
from components.errors import InputDataError
from components.interaction_example_gen import csv_files, reading
from components.interaction_example_gen.reading import read_batches

CELL = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"),
    max_size=5,
) | st.sampled_from(["a,b", 'say "x"', "two\nlines", "007", "::", ":"])


def read(folder, content, wanted=("a", "b"), suffix="", **table):
    path = folder / f"t.csv{suffix}"
    path.write_bytes(content)
    return read_file(path, wanted, TableSpec((path.name,), **table))


def read_file(path, wanted, table):
    rows, unreadable = [], []
    for raw in read_batches(
        str(path), str(path.parent), table, list(wanted), "users"
    ):
        columns = [column.to_pylist() for column in raw.columns.columns]
        rows += zip(raw.rows.tolist(), *columns, strict=True)
        unreadable += [(letter.row, letter.value) for letter in raw.unreadable]
    return rows, unreadable


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=20))
def test_cells_equal_those_of_the_csv_module(tmp_path, cells):
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerows([("a", "b", "c"), *cells])
    rows, unreadable = read(tmp_path, text.getvalue().encode(), ("c", "a"))
    assert rows == [
        (number, c, a) for number, (a, _, c) in enumerate(cells, start=2)
    ]
    assert not unreadable


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.text("ab: é", max_size=4), min_size=2, max_size=2),
        min_size=1,
        max_size=30,
    ),
    st.integers(8, 40),
)
def test_long_delimiter_may_straddle_two_blocks(tmp_path, cells, block):
    # A colon at the edge of a cell would be ambiguous in the file itself.
    cells = [[c.strip(":").replace("::", ":") + "." for c in r] for r in cells]
    cells = [[c if c[0] != ":" else "." + c for c in row] for row in cells]
    text = "".join("::".join(row) + "\n" for row in cells)
    stream = csv_files._Stream(io.BytesIO(text.encode()), b"::")
    data = b""
    while chunk := stream.read(block):
        assert len(chunk) <= block
        data += chunk
    assert data == text.replace("::", "\x1f").encode()
    rows, _ = read(
        tmp_path,
        text.encode(),
        delimiter="::",
        columns=("a", "b"),
        quoting=False,
    )
    assert [list(row[1:]) for row in rows] == cells


def test_bom_crlf_quotes_and_leading_zeros_are_read_as_meant(tmp_path):
    content = b'\xef\xbb\xbfa,b\r\n007,"x, y"\r\n\r\n008,"two\r\nlines"\r\n'
    rows, unreadable = read(tmp_path, content)
    assert rows == [(2, "007", "x, y"), (3, "008", "two\r\nlines")]
    assert not unreadable


def test_latin1_is_read_as_the_spec_says(tmp_path):
    content = "a,b\ncafé,Señor\n".encode("latin-1")
    rows, _ = read(tmp_path, content, encoding="latin-1")
    assert rows == [(2, "café", "Señor")]


@pytest.mark.parametrize("suffix", [".gz", ".GZ"])
def test_compressed_csv_is_read_by_its_name(tmp_path, suffix):
    content = gzip.compress(b"a::b\n1::2\n")
    rows, _ = read(tmp_path, content, suffix=suffix, delimiter="::")
    assert rows == [(2, "1", "2")]


def test_rows_keep_their_numbers_around_rows_of_other_length(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(csv_files, "_BLOCK_BYTES", 100)
    lines = [f"{n},x" if n % 7 else f"{n},x,y" for n in range(2, 500)]
    rows, unreadable = read(tmp_path, "\n".join(["a,b", *lines]).encode())
    assert [row for row, _, _ in rows] == [n for n in range(2, 500) if n % 7]
    assert all(int(a) == row for row, a, _ in rows)
    assert unreadable == [(n, f"{n},x,y") for n in range(7, 500, 7)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty"),
        (b"\n\n", "only empty lines"),
        (b"a,c\n1,2\n", "has no column 'b'"),
        (b"a,b,b\n1,2,3\n", "has the column 'b' 2 times"),
    ],
)
def test_unusable_csv_is_an_error_that_names_the_file(
    tmp_path, content, problem
):
    with pytest.raises(InputDataError, match=r"t\.csv") as raised:
        read(tmp_path, content)
    assert problem in str(raised.value)
    assert "Did you mean" not in str(raised.value)


def test_parquet_keeps_types_and_the_order_asked_for(tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"a": [1, 2], "x": [0, 0], "b": ["p", None]})
    pyarrow.parquet.write_table(table, path)
    rows, _ = read_file(path, ["b", "a"], TableSpec((path.name,), "parquet"))
    assert rows == [(1, "p", 1), (2, None, 2)]


def test_csv_given_as_parquet_is_an_error(tmp_path):
    path = tmp_path / "t.parquet"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputDataError, match="can't be read as parquet"):
        read_file(path, ["a"], TableSpec((path.name,), "parquet"))


def test_tfrecord_features_become_columns(tmp_path):
    path = tmp_path / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in (3, 4):
            example = tf.train.Example()
            feature = example.features.feature
            feature["a"].int64_list.value.append(number)
            feature["tags"].bytes_list.value.extend([b"x"] * (number - 2))
            if number == 4:
                feature["b"].float_list.value.append(0.5)
            writer.write(example.SerializeToString())
    table = TableSpec((path.name,), "tfrecord")
    rows, _ = read_file(path, ["a", "b", "tags"], table)
    assert rows == [(1, 3, None, [b"x"]), (2, 4, 0.5, [b"x", b"x"])]


def test_feature_that_no_example_of_a_later_batch_has_is_missing_there(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(reading, "_BATCH_ROWS", 2)
    path = tmp_path / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(3):
            example = tf.train.Example()
            feature = example.features.feature
            feature["a"].int64_list.value.append(number)
            if number == 0:
                feature["b"].float_list.value.append(0.5)
            writer.write(example.SerializeToString())
    rows, _ = read_file(path, ["a", "b"], TableSpec((path.name,), "tfrecord"))
    assert rows == [(1, 0, 0.5), (2, 1, None), (3, 2, None)]


def test_bytes_that_are_no_csv_are_an_error_that_says_what_to_check(tmp_path):
    table = io.BytesIO()
    pyarrow.parquet.write_table(pa.table({"a": [1], "b": [2]}), table)
    for content in (table.getvalue(), gzip.compress(b"a,b\n1,2\n", mtime=0)):
        with pytest.raises(InputDataError, match=r"t\.csv.*format"):
            read(tmp_path, content)
