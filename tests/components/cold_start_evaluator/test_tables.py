"""Figures and slices from tables that are written by hand."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.cold_start_evaluator import figures, slices
from components.errors import EvaluationError
from serving.contract.regimes import REGIMES


def test_examples_without_a_user_to_judge_say_what_is_needed(tmp_path):
    (tmp_path / "stream").mkdir()
    empty = pa.table({"user_id": pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "stream" / "scores.parquet")
    with pytest.raises(EvaluationError, match="needs 30 events"):
        figures.load_table(tmp_path, "stream")


def test_a_lift_is_paired_over_users():
    """Users differ a lot, models by little: only pairing sees it."""
    random = np.random.default_rng(0)
    num_users, rows = 60, 40
    user = np.repeat(np.arange(num_users), rows)
    label = random.integers(0, 2, len(user)).astype(np.float32)
    signal = random.normal(0, 1.5, num_users)[user]
    noise = random.normal(0, 1, len(user))
    stream = pa.table(
        {
            "user_id": [f"{u:03d}" for u in user],
            "window": np.tile(np.repeat(np.arange(4), 10), num_users),
            "label": label,
            "joint": signal * label + noise,
            "offline": signal * label + noise + 0.1 * label,
            "online": signal * label + noise + 0.2 * label,
        }
    )
    found, lifts = figures.stream_figures(stream, draws=200)
    lift = lifts["online_minus_joint"]["auc"]
    assert 0 < lift["low"] <= lift["value"] <= lift["high"]
    joint = found["joint"]["auc"]
    assert lift["high"] - lift["low"] < (joint["high"] - joint["low"]) / 4
    assert [w["window"] for w in figures.window_figures(stream, 10)] == [
        0,
        1,
        2,
        3,
    ]


def test_numbers_become_ranges_between_quartiles():
    users = pa.table(
        {
            "user_id": [str(n) for n in range(9)],
            "judged_rows": [1] * 9,
            "age": pa.array([0, 1, 2, 3, 4, 5, 6, 8, None], pa.float32()),
            "gender": ["f", "m", None, "f", "m", "f", "f", "m", "m"],
            "zip_code": [str(n) for n in range(9)],
            "country": ["at"] * 9,
        }
    )
    found = slices.slice_columns(users)
    assert found.column_names == ["user_id", "age", "gender", "zip_code"]
    assert found["gender"].to_pylist()[2] == "missing"
    ages = found["age"].to_pylist()
    assert ages[0] == ages[1] == "0 to 1.75"
    assert ages[7] == "5.25 to 8"
    assert ages[8] == "missing"


def test_a_feature_of_too_many_values_is_not_sliced(monkeypatch):
    monkeypatch.setattr(slices, "MAX_SLICE_VALUES", 3)
    users = pa.table(
        {"user_id": list("abcd"), "judged_rows": [1] * 4, "job": list("wxyz")}
    )
    assert slices.slice_columns(users).column_names == ["user_id"]


@pytest.mark.parametrize("name", ["window", "joint", "offline", "online"])
def test_a_feature_called_like_a_column_of_the_rows_is_sliced(name):
    stream = pa.table(
        {
            "user_id": ["a", "b"],
            "label": [1.0, 0.0],
            "window": pa.array([0, 0], pa.int32()),
            **{regime: [0.0, 0.0] for regime in REGIMES},
        }
    )
    users = pa.table(
        {"user_id": ["a", "b"], "judged_rows": [1, 1], name: ["yes", "no"]}
    )
    rows = slices.rows_to_slice(stream, slices.slice_columns(users), 10)
    assert rows.column_names == [*stream.column_names, f"user_{name}"]
    assert sorted(rows[f"user_{name}"].to_pylist()) == ["no", "yes"]


def test_rows_of_whole_users_are_kept_up_to_the_bound():
    stream = pa.table(
        {
            "user_id": [str(n // 10) for n in range(100)],
            "label": [1.0] * 100,
            "window": pa.array([0] * 100, pa.int32()),
            "joint": [0.0] * 100,
            "offline": [0.0] * 100,
            "online": [np.log(3.0)] * 100,
        }
    )
    users = pa.table({"user_id": [str(n) for n in range(10)]})
    rows = slices.rows_to_slice(stream, users, max_rows=35)
    assert rows.num_rows == 30
    assert len(set(rows["user_id"].to_pylist())) == 3
    np.testing.assert_allclose(rows["online"].to_numpy(), 0.75)
