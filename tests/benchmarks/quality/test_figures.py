"""Intervals, convergence and tuning on numbers known in advance."""

import trainer  # noqa: F401 - chooses Keras 2  # isort: skip

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.quality import sources, tuning
from benchmarks.quality.convergence import steps_to_quality
from benchmarks.quality.intervals import Draws, only
from benchmarks.quality.outcome import Outcome
from serving.contract.intervals import Rows


def make_rows(users=30, per_user=12):
    random = np.random.default_rng(0)
    return Rows(
        user=np.repeat(np.arange(users), per_user),
        window=np.tile(np.arange(per_user) // 6, users),
        label=random.integers(0, 2, users * per_user),
    )


def noisy(rows, noise, seed):
    random = np.random.default_rng(seed)
    return rows.label + noise * random.normal(size=len(rows.label))


def test_figures_are_means_over_seeds():
    rows = make_rows()
    by_seed = [noisy(rows, 2.0, seed) for seed in range(3)]
    found = Draws(rows, {"ours": by_seed}, draws=50).figures("ours")["auc"]
    expected = [roc_auc_score(rows.label, scores) for scores in by_seed]
    assert found["value"] == pytest.approx(np.mean(expected))
    assert found["low"] < found["value"] < found["high"]


def test_a_lift_over_an_equal_regime_is_zero_without_any_width():
    rows = make_rows()
    scores = noisy(rows, 2.0, 0)
    drawn = Draws(rows, {"a": [scores], "b": [2 * scores]}, draws=50)
    assert drawn.lift("a", "b")["auc"] == {
        "value": 0.0,
        "low": 0.0,
        "high": 0.0,
    }


def test_gap_closed_is_the_share_of_the_way_to_the_ceiling():
    rows = make_rows()
    columns = {
        "floor": [noisy(rows, 4.0, 0)],
        "ours": [noisy(rows, 2.0, 1)],
        "ceiling": [noisy(rows, 1.0, 2)],
    }
    drawn = Draws(rows, columns, draws=50)
    floor, ours, ceiling = (
        roc_auc_score(rows.label, of[0]) for of in columns.values()
    )
    found = drawn.gap_closed("ours", "floor", "ceiling")["auc"]
    assert found["value"] == pytest.approx((ours - floor) / (ceiling - floor))


def test_popularity_has_no_log_loss():
    rows = make_rows()
    drawn = Draws(rows, {"popularity": [noisy(rows, 1.0, 0)]}, draws=5)
    figures = drawn.figures("popularity")
    assert figures["log_loss"]["value"] is None
    assert figures["auc"]["value"] is not None


def test_users_without_a_row_left_are_not_drawn():
    rows = make_rows()
    chosen = rows.user % 3 == 0
    assert only(rows, chosen).user.max() == 9


def test_steps_to_quality_are_those_of_the_first_evaluation_as_good():
    curves = {
        "joint": [{50: 0.6, 100: 0.7, 150: 0.65}],
        "meta": [{50: 0.71, 100: 0.75}],
        "maml_all": [{50: 0.5, 100: 0.69}],
    }
    assert steps_to_quality(curves) == {
        "target": [0.7],
        "joint": [100],
        "meta": [50],
        "maml_all": [None],
    }


def test_every_training_draws_the_same_step_sizes_and_regularization():
    joint, meta, oracle = (
        tuning.draw_values(name, 4) for name in ("joint", "meta", "oracle")
    )
    assert joint[0] == {}
    assert joint == meta
    assert [
        {name: trial[name] for name in joint[1]} for trial in oracle[1:4]
    ] == joint[1:]
    assert len(oracle) == 1 + 3 * 3


def test_tuning_takes_the_best_trial_and_goes_on_after_a_kill(
    tmp_path, monkeypatch
):
    seen = []

    def training(inputs, values, score, log_dir):
        seen.append(values)
        assert not score
        if len(seen) == 3:
            raise KeyboardInterrupt
        value = np.nan if len(seen) == 2 else float(values["dropout"])
        return Outcome(value, {})

    monkeypatch.setattr(tuning, "TRAININGS", {"joint": training})
    base = {"dropout": 0.15}
    with pytest.raises(KeyboardInterrupt):
        tuning.tune(None, "joint", base, 4, tmp_path)
    best = tuning.tune(None, "joint", base, 4, tmp_path)
    # Two were done before the kill; one was cut off and made again.
    assert len(seen) == 3 + 2
    finished = [seen[0], *seen[3:]]
    assert best["dropout"] == max(float(v["dropout"]) for v in finished)
    assert "seed" not in best
    other = {"vector_size": 8}
    assert tuning.best_known("joint", other, 4, tmp_path) == other


def test_trials_of_other_sources_are_made_again(tmp_path, monkeypatch):
    seen = []

    def training(inputs, values, score, log_dir):
        seen.append(values)
        return Outcome(float(len(seen)), {})

    monkeypatch.setattr(tuning, "TRAININGS", {"joint": training})
    tuning.tune(None, "joint", {}, 3, tmp_path)
    tuning.tune(None, "joint", {}, 3, tmp_path)
    assert len(seen) == 3
    monkeypatch.setattr(sources, "current_code", lambda: "edited")
    monkeypatch.setattr(tuning, "current_code", lambda: "edited")
    best = tuning.tune(None, "joint", {}, 3, tmp_path)
    assert len(seen) == 6
    assert best == {k: v for k, v in seen[-1].items() if k != "seed"}
    trials = json.loads((tmp_path / "joint.json").read_text())
    assert [trial["code"] for trial in trials] == ["edited"] * 3
