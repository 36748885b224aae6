import pytest

from pipeline.cold_stream import load_cold_stream
from pipeline.errors import ColdStreamError
from serving.contract.features import (
    CATEGORICAL,
    CATEGORICAL_LIST,
    NUMERIC,
    Feature,
)
from tests.helpers.raw_examples import to_example, write_records

FEATURES = (
    Feature("job", CATEGORICAL),
    Feature("age", NUMERIC),
    Feature("tags", CATEGORICAL_LIST),
    Feature("never", CATEGORICAL),
)


def _events(user_id, count, start, **features):
    return [
        {
            "user_id": user_id,
            "item_id": f"00{position}",
            "label": float(position % 2),
            "timestamp": start + position,
            "position": position,
            "genre": "drama",
            **features,
        }
        for position in range(count)
    ]


def _write(folder, *shards):
    for number, rows in enumerate(shards):
        path = folder / "Split-meta_test" / f"data-{number}.gz"
        write_records(path, [to_example(row) for row in rows])
    return str(folder)


def test_users_come_in_order_of_their_first_event(tmp_path):
    late = _events("a-late", 30, 900)
    early = _events("z-early", 30, 100)
    tied = _events("b-tied", 30, 900)
    stream = load_cold_stream(_write(tmp_path, late + early, tied), FEATURES)
    assert [u.user_id for u in stream.users] == ["z-early", "a-late", "b-tied"]
    assert stream.num_windows == 6


def test_raw_features_and_ids_survive_as_a_client_knows_them(tmp_path):
    full = _events("007", 30, 0, job="poet", age=31.5, tags=["go", "chess"])
    bare = _events("8", 30, 1, job=None, age=None, tags=[])
    stream = load_cold_stream(_write(tmp_path, full, bare), FEATURES)
    first, second = stream.users
    assert first.user_id == "007"
    assert first.features == {
        "job": "poet",
        "age": 31.5,
        "tags": ("go", "chess"),
    }
    assert second.features == {}
    assert first.item_ids[:3].tolist() == ["000", "001", "002"]
    assert first.labels[:3].tolist() == [0.0, 1.0, 0.0]


def test_only_events_that_the_protocol_uses_are_kept(tmp_path):
    stream = load_cold_stream(_write(tmp_path, _events("u", 250, 0)), FEATURES)
    (user,) = stream.users
    assert user.positions.tolist() == list(range(90))
    assert len(user.windows) == 8


def test_rows_of_one_user_are_joined_across_shards(tmp_path):
    rows = _events("u", 40, 0)
    stream = load_cold_stream(_write(tmp_path, rows[25:], rows[:25]), FEATURES)
    (user,) = stream.users
    assert user.positions.tolist() == list(range(40))
    assert user.timestamps.tolist() == list(range(40))


def test_sampled_negatives_stay_with_their_event(tmp_path):
    rows = [
        {**row, "item_id": f"{row['item_id']}-{copy}", "label": float(not copy)}
        for row in _events("u", 30, 0)
        for copy in range(5)
    ]
    stream = load_cold_stream(_write(tmp_path, rows), FEATURES)
    (user,) = stream.users
    assert len(user.first_support) == 50
    assert [len(window.rows) for window in user.windows] == [50, 50]
    assert user.labels[user.windows[0].rows].reshape(-1, 5)[:, 0].all()


def test_max_users_keeps_the_first_arrivals(tmp_path):
    folder = _write(tmp_path, _events("b", 30, 50), _events("a", 30, 60))
    stream = load_cold_stream(folder, FEATURES, max_users=1)
    assert [user.user_id for user in stream.users] == ["b"]


def test_missing_examples_say_what_to_run(tmp_path):
    with pytest.raises(ColdStreamError, match="adaptower run"):
        load_cold_stream(str(tmp_path), FEATURES)


def test_missing_column_is_named(tmp_path):
    rows = [
        {k: v for k, v in row.items() if k != "position"}
        for row in _events("u", 30, 0)
    ]
    with pytest.raises(ColdStreamError, match="position"):
        load_cold_stream(_write(tmp_path, rows), FEATURES)


def test_streams_too_short_to_judge_are_an_error(tmp_path):
    with pytest.raises(ColdStreamError, match="longer histories"):
        load_cold_stream(_write(tmp_path, _events("u", 10, 0)), FEATURES)
