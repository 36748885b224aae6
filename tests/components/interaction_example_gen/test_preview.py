"""What `adaptower data` says of the first rows, against files with faults."""

import datetime
import re

import pyarrow as pa
import pyarrow.parquet
import pytest

from components.dataset_spec import DatasetSpec
from components.errors import InputDataError
from components.interaction_example_gen.preview import preview

SPEC = {
    "name": "shop",
    "interactions": {
        "files": "log.csv",
        "user": "user",
        "item": "item",
        "timestamp": {"column": "time"},
        "label": {"column": "stars", "at_least": 4},
    },
    "users": {
        "files": "users.csv",
        "key": "user",
        "features": {"city": "categorical"},
    },
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log.csv").write_text(
        "user,item,stars,time\n"
        "ann,1,5,100\n"
        "ann,2,many,101\n"
        ",3,4,102\n"
        "bob,1,4,99999999999\n"
    )
    (tmp_path / "users.csv").write_bytes(
        "user,city\nann,Zürich\nbob,Bern\n".encode("latin-1")
    )
    return tmp_path


def look(folder, **changes):
    spec = DatasetSpec.from_dict(SPEC | changes, "shop.yaml")
    return {seen.table: seen for seen in preview(spec, str(folder))}


def test_unusable_rows_are_counted_by_reason(folder):
    seen = look(folder)["interactions"]
    assert seen.rows == 4
    assert seen.dead_letters == {
        "unparsable_label": 1,
        "empty_user_id": 1,
        "timestamp_in_future": 1,
    }


def test_feature_in_another_encoding_is_a_dead_letter_not_a_lost_value(folder):
    assert look(folder)["users"].dead_letters == {"invalid_encoding": 1}
    users = SPEC["users"] | {"encoding": "latin-1"}
    assert look(folder, users=users)["users"].dead_letters == {}


def test_wrong_column_is_named(folder):
    users = SPEC["users"] | {"features": {"town": "categorical"}}
    with pytest.raises(InputDataError, match="town"):
        look(folder, users=users)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("user", ["ann"]),
        ("stars", datetime.date(2020, 1, 2)),
        ("time", datetime.timedelta(days=1)),
    ],
)
def test_type_of_no_use_is_an_error_that_names_the_column(
    folder, column, value
):
    row = {"user": "ann", "item": 1, "stars": 5, "time": 100, column: value}
    table = pa.Table.from_pylist([row])
    pyarrow.parquet.write_table(table, folder / "log.parquet")
    log = {"files": "log.parquet", "format": "parquet"}
    kind = re.escape(f"{column} ({table.schema.field(column).type})")
    with pytest.raises(InputDataError, match=rf"log\.parquet: .*{kind}"):
        look(folder, interactions=SPEC["interactions"] | log)


def write_log(folder, name, rows):
    (folder / name).write_text(
        "\n".join(["user,item,stars,time", *rows]) + "\n"
    )


def look_at_logs(folder):
    return look(folder, interactions=SPEC["interactions"] | {"files": "l-*"})


def test_every_file_of_a_glob_is_looked_at_and_the_worst_is_named(folder):
    write_log(folder, "l-1.csv", ["ann,1,5,100", "ann,2,4,101"])
    write_log(folder, "l-2.csv", ["bob,1,good,100", "bob,2,bad,101"])
    write_log(folder, "l-3.csv", ["cyd,1,5,100", "cyd,2,soso,101"])
    seen = look_at_logs(folder)["interactions"]
    assert (seen.files, seen.rows) == (3, 6)
    assert seen.dead_letters == {"unparsable_label": 3}
    assert seen.worst_file == str(folder / "l-2.csv")


def test_wrong_column_of_a_later_file_is_named(folder):
    write_log(folder, "l-1.csv", ["ann,1,5,100"])
    (folder / "l-2.csv").write_text("user,article,stars,time\nann,1,5,100\n")
    with pytest.raises(InputDataError, match=r"l-2\.csv has no column 'item'"):
        look_at_logs(folder)


def test_of_long_files_the_first_rows_are_looked_at(folder):
    rows = ["ann,1,5,100"] * 25_000
    rows[3] = "ann,1,5"
    rows[7] = "ann,1,good,100"
    rows[20_000] = "ann,1,5"
    rows[20_001] = "ann,1,bad,100"
    for number in range(2):
        write_log(folder, f"l-{number}.csv", rows)
    seen = look_at_logs(folder)["interactions"]
    # Rows with too few values are not among the 10,000.
    assert (seen.files, seen.rows) == (2, 2 * 10_001)
    assert seen.dead_letters == {"wrong_column_count": 2, "unparsable_label": 2}
