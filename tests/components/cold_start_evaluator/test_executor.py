"""The evaluation as a whole, against a loop over users in plain Python."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score
from tensorflow_model_analysis.api import model_eval_lib
from tfx.components.util import model_utils
from tfx.dsl.input_resolution.strategies import latest_blessed_model_strategy

from serving.contract.manifest import AdaptiveManifest
from tests.components.cold_start_evaluator.conftest import evaluate
from tests.helpers.cold_examples import known_features

RESERVOIR = 16


def table(folder: Path, name: str):
    (path,) = (folder / "scores" / name).glob("*.parquet")
    return pq.read_table(path)


def loop_scores(rows, oracle, learn_windows: bool):
    """One user, one event list, no batch: the protocol as it is written."""
    features = known_features(rows[0])
    weights, kept = None, []

    def learn(new):
        nonlocal weights, kept
        events = kept + [(row["item_id"], row["label"]) for row in new]
        items, labels = zip(*events, strict=True)
        weights, _, _ = oracle.adapt(features, items, labels, None, weights)
        kept = events[-RESERVOIR:]

    learn(rows[:10])
    scores = []
    for start in range(10, min(len(rows), 90), 10):
        window = rows[start : start + 10]
        scores += list(
            oracle.rank(features, [row["item_id"] for row in window], weights)
        )
        if learn_windows:
            learn(window)
    return scores


@pytest.fixture(scope="session")
def loop(users, oracles):
    """Scores by regime and labels of every judged row, user after user."""
    judged = [rows for rows in users if len(rows) > 10]
    scores = {"joint": [], "offline": [], "online": []}
    labels = []
    for rows in judged:
        labels += [row["label"] for row in rows[10:90]]
        scores["joint"] += list(
            oracles["joint"].rank(
                known_features(rows[0]), [row["item_id"] for row in rows[10:90]]
            )
        )
        for regime in ("offline", "online"):
            scores[regime] += loop_scores(
                rows, oracles["candidate"], regime == "online"
            )
    return scores, labels


def test_batched_scores_equal_a_loop_over_users(evaluated, loop):
    scores, labels = loop
    stream = table(evaluated.folder, "stream").sort_by(
        [("user_id", "ascending"), ("position", "ascending")]
    )
    np.testing.assert_array_equal(stream["label"].to_numpy(), labels)
    for regime, expected in scores.items():
        np.testing.assert_allclose(
            stream[regime].to_numpy(), expected, atol=2e-5
        )


def test_auc_equals_sklearn(evaluated, loop):
    scores, labels = loop
    for regime, expected in scores.items():
        auc = evaluated.evaluation["figures"][regime]["auc"]
        assert auc["value"] == pytest.approx(roc_auc_score(labels, expected))
        assert auc["low"] <= auc["value"] <= auc["high"]


def test_few_shot_scores_equal_a_loop_over_users(evaluated, users, oracles):
    few_shot = table(evaluated.folder, "few_shot").sort_by(
        [("user_id", "ascending"), ("position", "ascending")]
    )
    oracle = oracles["candidate"]
    for k in (0, 1, 20):
        expected = []
        for rows in users:
            if len(rows) < 30:
                continue
            features, weights = known_features(rows[0]), None
            if k:
                support = rows[20 - k : 20]
                weights, _, _ = oracle.adapt(
                    features,
                    [row["item_id"] for row in support],
                    [row["label"] for row in support],
                )
            items = [row["item_id"] for row in rows[20:70]]
            expected += list(oracle.rank(features, items, weights))
        np.testing.assert_allclose(
            few_shot[f"k_{k}"].to_numpy(), expected, atol=2e-5
        )


def test_users_with_too_few_events_are_counted_not_judged(evaluated):
    assert evaluated.evaluation["users"] == {"judged": 11, "left_out": 1}
    assert evaluated.evaluation["rows"] == 11 * 35


def test_a_model_that_beats_joint_is_blessed(evaluated, candidate):
    assert evaluated.evaluation["reasons"] == []
    assert model_utils.is_model_blessed(evaluated.blessing)
    assert (Path(evaluated.blessing.uri) / "BLESSED").exists()
    resolved = latest_blessed_model_strategy.LatestBlessedModelStrategy()
    # The private step that needs no metadata store.
    found = resolved._resolve(
        {"model": [candidate], "blessing": [evaluated.blessing]},
        "model",
        "blessing",
    )
    assert found["model"] == [candidate]


def test_tfma_finds_the_same_auc_in_every_slice(evaluated):
    stream = table(evaluated.folder, "stream").to_pandas()
    users = table(evaluated.folder, "users").to_pandas()
    rows = stream.merge(users, on="user_id")
    rows["segment"] = rows["segment"].fillna("missing")
    result = model_eval_lib.load_eval_result(
        str(evaluated.folder), model_name="online"
    )
    seen = 0
    for slice_key, figures in result.slicing_metrics:
        if any(column not in ("window", "segment") for column, _ in slice_key):
            continue
        chosen = rows
        for column, value in slice_key:
            chosen = chosen[chosen[column].astype(str) == str(value)]
        if chosen["label"].nunique() < 2:
            continue
        auc = figures[""][""]["auc"]["doubleValue"]
        expected = roc_auc_score(chosen["label"], chosen["online"])
        assert auc == pytest.approx(expected, abs=2e-3)
        seen += 1
    assert seen >= 1 + 4 + 3


def test_a_model_worse_than_the_last_blessed_is_not_blessed(
    examples, candidate, joint, tmp_path
):
    refused = evaluate(
        tmp_path,
        {"min_lift_over_joint": -1.0, "max_slice_rows": 0},
        examples=examples,
        model=joint,
        joint_model=joint,
        baseline_model=candidate,
    )
    assert not refused.blessed
    blessing = Path(refused.blessing.uri)
    assert (blessing / "NOT_BLESSED").exists()
    assert "last blessed" in (blessing / "REASONS").read_text()
    assert "last blessed" in " ".join(refused.evaluation["reasons"])
    lift = refused.evaluation["lifts"]["online_minus_last_blessed"]["auc"]
    assert lift["value"] < -0.005
    assert refused.blessing.get_string_custom_property("baseline_model")


def test_a_model_of_nan_weights_is_not_blessed(
    examples, candidate, joint, tmp_path, monkeypatch
):
    from components import served_model

    nan = float("nan")
    call = served_model.ServedModel.call

    def poisoned(self, signature, inputs):
        outputs = call(self, signature, inputs)
        if self.manifest.fingerprint == fingerprint:
            outputs = {n: np.full_like(v, nan) for n, v in outputs.items()}
        return outputs

    path = Path(candidate.uri) / "Format-Serving"
    fingerprint = AdaptiveManifest.load(path).fingerprint
    monkeypatch.setattr(served_model.ServedModel, "call", poisoned)
    refused = evaluate(
        tmp_path, examples=examples, model=candidate, joint_model=joint
    )
    assert not refused.blessed
    assert "not finite" in refused.evaluation["reasons"][0]


def test_no_more_users_than_asked_for_are_judged(
    examples, candidate, joint, tmp_path
):
    some = evaluate(
        tmp_path,
        {"max_users": 4, "max_slice_rows": 0},
        examples=examples,
        model=candidate,
        joint_model=joint,
    )
    assert sum(some.evaluation["users"].values()) == 4


def test_what_became_of_the_meta_state_is_reported(evaluated):
    """Too few users for an update; the tests of the stream have enough."""
    updates = evaluated.evaluation["meta_updates"]
    assert updates == {
        "candidate": {"promoted": 0, "refused": 0, "max_shift": 0.0}
    }
