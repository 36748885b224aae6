"""What `adaptower data` says of the first rows, against files with faults."""

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
