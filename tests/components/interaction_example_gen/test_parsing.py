"""Validation of batches against judging their rows one by one."""

import math

import numpy as np
import pyarrow as pa
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
