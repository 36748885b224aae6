"""Validation of batches against judging their rows one by one."""

import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from components.interaction_example_gen import parsing
from components.interaction_example_gen.raw_batch import RawBatch
from tests.components.interaction_example_gen import runs

NOW = 1000
IDS = st.sampled_from([b"007", b"7", "é".encode(), b"", b" ", b"\xff\xfe"])
LABELS = st.sampled_from(
    [b"4", b" 3.9 ", b"5.0", b"4e0", b"", b"nan", b"inf", b"x", b"1,5"]
)
TIMES = st.sampled_from(
    [b"0", b"1000", b"1000.9", b"1001", b"99999999999", b"", b"now", b"-5"]
)
ROWS = st.lists(st.tuples(IDS, IDS, LABELS, TIMES), max_size=30)


def judge(user, item, label, time):
    """Returns why a row is unusable, or the row that is made of it."""
    try:
        user, item = user.decode(), item.decode()
    except UnicodeDecodeError:
        return "invalid_encoding"
    if not user.strip():
        return "empty_user_id"
    if not item.strip():
        return "empty_item_id"
    if label.strip() in (b"", b"nan"):
        return "missing_label"
    try:
        rating = float(label)
    except ValueError:
        return "unparsable_label"
    if not math.isfinite(rating):
        return "unparsable_label"
    try:
        seconds = math.floor(float(time))
    except ValueError:
        return "unparsable_timestamp"
    if seconds < 0:
        return "timestamp_before_1970"
    if seconds > NOW:
        return "timestamp_in_future"
    return user, item, float(rating >= 4), seconds


@given(ROWS, st.integers(1, 10**6))
def test_each_row_is_judged_as_if_it_were_alone(rows, first):
    columns = [
        pa.Array.from_buffers(
            pa.string(), len(rows), pa.array(column, pa.binary()).buffers()
        )
        for column in (zip(*rows, strict=True) if rows else [()] * 4)
    ]
    names = ["user", "item", "rating", "time"]
    raw = RawBatch(
        np.arange(first, first + len(rows)),
        pa.RecordBatch.from_arrays(columns, names),
        [],
    )
    batch, letters = parsing.parse_interactions(
        raw, runs.make_spec(), "log.csv", 3, NOW
    )
    verdicts = {first + i: judge(*row) for i, row in enumerate(rows)}
    assert {letter.row: letter.reason for letter in letters} == {
        row: verdict
        for row, verdict in verdicts.items()
        if isinstance(verdict, str)
    }
    usable = {
        parsing.place_of(event["order"]): (
            event["user_id"],
            event["item_id"],
            event["label"],
            event["timestamp"],
        )
        for event in batch.to_pylist()
    }
    assert usable == {
        (3, row): verdict
        for row, verdict in verdicts.items()
        if not isinstance(verdict, str)
    }


def test_users_without_id_or_listed_twice_become_dead_letters(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating,time\na,b,5,1\n")
    (tmp_path / "users.csv").write_bytes(
        b"id,city\na,first\n,none\nb,ok\na,second\n\xff,bad\nc,\xff\n"
    )
    users = {
        "files": "users.csv",
        "key": "id",
        "features": {"city": "categorical"},
    }
    spec = runs.make_spec(users=users, max_dead_letter_share=0.7)
    runs.run(spec, tmp_path, tmp_path / "out")
    letters = runs.read_letters(tmp_path / "out" / "dead_letters")
    assert {
        (letter["table"], letter["row"], letter["reason"]) for letter in letters
    } == {
        ("users", 3, "empty_user_id"),
        ("users", 5, "duplicate_id"),
        ("users", 6, "invalid_encoding"),
        ("users", 7, "invalid_encoding"),
    }
    folder = tmp_path / "out" / "examples" / "Split-meta_train"
    (row,) = runs.read_examples(folder)
    assert row["city"] == ["first"]


TAGS = {"kind": "categorical_list", "separator": "|"}
ITEMS = {"key": "id", "features": {"tags": TAGS, "price": "numeric"}}


def write_tfrecord(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for item_id, tags, price in rows:
            example = tf.train.Example()
            feature = example.features.feature
            feature["id"].bytes_list.value.append(item_id.encode())
            feature["tags"].bytes_list.value.extend(t.encode() for t in tags)
            if price is not None:
                feature["price"].float_list.value.append(price)
            writer.write(example.SerializeToString())


def write_parquet(path, rows):
    names = ["id", "tags", "price"]
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    pyarrow.parquet.write_table(pa.table(columns), path)


@pytest.mark.parametrize(
    ("form", "write"),
    [("parquet", write_parquet), ("tfrecord", write_tfrecord)],
)
def test_lists_of_a_file_that_has_lists_are_read(tmp_path, form, write):
    (tmp_path / "log.csv").write_text("user,item,rating,time\na,x,5,1\n")
    write(tmp_path / "items", [("x", ["new", "é"], 2.0), ("y", ["old"], 3.0)])
    spec = runs.make_spec(items={"files": "items", "format": form, **ITEMS})
    runs.run(spec, tmp_path, tmp_path / "out")
    catalog = runs.read_examples(tmp_path / "out" / "catalog")
    assert [item["tags"] for item in catalog] == [["new", "é"], ["old"]]


def test_whole_floats_of_one_file_are_the_whole_numbers_of_another(tmp_path):
    nan = float("nan")
    log = {
        "user": [1.0, 1e15, nan, 1.5, 2.0**60, 1.0],
        "item": pa.array([7.0, 7.0, 7.0, 7.0, 7.0, None], pa.float32()),
        "rating": [5] * 6,
        "time": [1] * 6,
    }
    pyarrow.parquet.write_table(pa.table(log), tmp_path / "log.csv")
    items = pa.table({"id": [7, 8], "size": [40.0, nan]})
    pyarrow.parquet.write_table(items, tmp_path / "items")
    spec = runs.make_spec(
        interactions=runs.INTERACTIONS | {"format": "parquet"},
        items={
            "files": "items",
            "format": "parquet",
            "key": "id",
            "features": {"size": "categorical"},
        },
        max_dead_letter_share=0.7,
    )
    runs.run(spec, tmp_path, tmp_path / "out")
    rows = runs.read_examples(tmp_path / "out/examples/Split-meta_train")
    assert {
        (*row["user_id"], *row["item_id"], *row["size"]) for row in rows
    } == {("1", "7", "40"), (str(10**15), "7", "40")}
    catalog = runs.read_examples(tmp_path / "out" / "catalog")
    assert [item.get("size") for item in catalog] == [["40"], None]
    letters = runs.read_letters(tmp_path / "out" / "dead_letters")
    assert {(letter["row"], letter["reason"]) for letter in letters} == {
        (3, "empty_user_id"),
        (4, "inexact_user_id"),
        (5, "inexact_user_id"),
        (6, "empty_item_id"),
    }


def test_features_may_be_called_as_the_columns_of_tables_are(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,rating,time\na,x,5,1\n")
    (tmp_path / "items").write_text(
        "key,title,id,order,display\nx,Xi,1,9,big\nx,Xi,1,3,small\n"
    )
    names = ("id", "order", "display")
    items = {
        "files": "items",
        "key": "key",
        "display": "title",
        "features": dict.fromkeys(names, "categorical"),
    }
    spec = runs.make_spec(items=items, max_dead_letter_share=0.7)
    runs.run(spec, tmp_path, tmp_path / "out")
    (item,) = runs.read_examples(tmp_path / "out" / "catalog")
    assert item == {
        "item_id": ["x"],
        "display_title": ["Xi"],
        "id": ["1"],
        "order": ["9"],
        "display": ["big"],
    }


def test_ids_that_a_gateway_would_refuse_become_dead_letters(tmp_path):
    long, most = 256 * "é", 128 * "é"
    (tmp_path / "log.csv").write_text(
        "user,item,rating,time\n"
        f"a,b,5,1\n{most},{most},5,1\n{long},b,5,1\na,{long},5,1\n",
        encoding="utf-8",
    )
    (tmp_path / "items").write_text(f"id\n{long}\n{most}\n", encoding="utf-8")
    items = {"files": "items", "key": "id"}
    spec = runs.make_spec(items=items, max_dead_letter_share=0.5)
    runs.run(spec, tmp_path, tmp_path / "out")
    letters = runs.read_letters(tmp_path / "out" / "dead_letters")
    assert {
        (letter["table"], letter["row"], letter["reason"]) for letter in letters
    } == {
        ("interactions", 4, "user_id_too_long"),
        ("interactions", 5, "item_id_too_long"),
        ("items", 2, "item_id_too_long"),
    }
