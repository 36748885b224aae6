"""Raw examples become users with the values that a client would send."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from components.cold_users import ColdUser, join_runs, runs_of_users
from components.errors import EvaluationError
from components.served_model import feature_inputs
from tests.helpers.toy_model import USER_FEATURES


def batch(**columns) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    base = {
        "item_id": [[b"007"]] * rows,
        "label": [[1.0]] * rows,
        "position": [[n] for n in range(rows)],
        "timestamp": [[1_000 + n] for n in range(rows)],
    }
    return pa.RecordBatch.from_pydict(base | columns)


def test_a_batch_is_cut_where_the_user_changes():
    runs = list(
        runs_of_users(
            batch(
                user_id=[[b"01"], [b"01"], [b"2"]],
                segment=[[b"artist"], [b"artist"], None],
                tags=[[b"war", b"drama"], [b"war", b"drama"], []],
                age=[[33.0], [33.0], [float("nan")]],
            ),
            USER_FEATURES,
        )
    )
    assert [run.user_id for run in runs] == ["01", "2"]
    assert list(runs[0].item_ids) == ["007", "007"]
    assert list(runs[0].timestamps) == [1000, 1001]
    assert runs[0].features == {
        "segment": "artist",
        "tags": ("war", "drama"),
        "age": 33.0,
    }
    assert runs[1].features == {}


def test_events_that_are_never_judged_are_not_kept():
    runs = list(
        runs_of_users(
            batch(user_id=[[b"1"]] * 3, position=[[88], [89], [90]]), ()
        )
    )
    assert list(runs[0].positions) == [88, 89]
    late = batch(user_id=[[b"1"]], position=[[90]])
    assert list(runs_of_users(late, ())) == []


def test_runs_come_together_in_order_and_events_keep_theirs():
    def run(items: str, positions: list[int]) -> ColdUser:
        return ColdUser(
            "1",
            {},
            np.array(list(items), object),
            np.zeros(len(items), np.float32),
            np.array(positions),
            100 + 10 * np.array(positions),
        )

    # Sampled negatives share the position of their event; the second run
    # starts within an event.
    joined = join_runs([run("dE", [1, 2]), run("abc", [0, 1, 1])])
    assert "".join(joined.item_ids) == "abcdE"
    assert list(joined.timestamps) == [100, 110, 110, 110, 120]
    assert dataclasses.astuple(joined)[0] == "1"


def test_examples_of_another_component_are_refused():
    with pytest.raises(EvaluationError, match="raw examples"):
        list(runs_of_users(pa.RecordBatch.from_pydict({"x": [[1]]}), ()))


def test_missing_features_are_sent_as_the_contract_says():
    inputs = feature_inputs(
        USER_FEATURES, [{}, {"segment": "artist", "tags": ("a", "b")}]
    )
    assert list(inputs["segment"]) == [b"", b"artist"]
    assert inputs["tags"].tolist() == [[b"", b""], [b"a", b"b"]]
    assert np.isnan(inputs["age"]).all()
    assert inputs["age"].dtype == np.float32
