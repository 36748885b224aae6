import dataclasses
import io
import json

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score

from pipeline.closing_table import print_closing_table
from pipeline.replay import ReplayResult
from pipeline.skew import Skew
from pipeline.summary import summarize, write_summary
from serving.contract.intervals import Rows
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES

STAGES = {"Transform": 12.5, "Trainer": 60.0, "replay": 3.0}
BYTES = {"weights": 132.0, "record": 391.5}


def make_result(num_users=40, seed=0, gain=(0.2, 0.6, 1.2)):
    """Scores that know more of the label from regime to regime."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(num_users), 30)
    window = np.tile(np.repeat(np.arange(3), 10), num_users)
    label = rng.integers(0, 2, len(user)).astype(np.float32)
    noise = rng.normal(size=len(user))
    return ReplayResult(
        rows=Rows(user, window, label),
        scores={
            regime: noise + strength * label
            for regime, strength in zip(REGIMES, gain, strict=True)
        },
        user_ids=tuple(f"u{index}" for index in range(num_users)),
        item_ids=np.array([str(i) for i in range(len(user))], object),
        rank_ms=rng.gamma(2.0, 1.0, 300),
        feedback_ms=rng.gamma(3.0, 1.0, 200),
        rank_rows=np.full(300, 10),
        degraded=0,
        model_versions=("adaptower/1", "joint/1"),
        seconds=3.0,
    )


def summary_of(result, skew=None):
    return summarize(
        result,
        dataset="toy",
        revision="abc",
        stage_seconds=STAGES,
        bytes_per_user=BYTES,
        skew=skew,
    )


def _groups(result):
    for user in np.unique(result.rows.user):
        for window in np.unique(result.rows.window):
            yield (result.rows.user == user) & (result.rows.window == window)


@pytest.mark.parametrize("regime", REGIMES)
def test_figures_equal_those_of_scikit_learn(regime):
    result = make_result()
    summary = summary_of(result)
    label, score = result.rows.label, result.scores[regime]
    auc = roc_auc_score(label, score)
    inside = [
        roc_auc_score(label[g], score[g])
        for g in _groups(result)
        if len(set(label[g])) == 2
    ]
    ndcg = [
        ndcg_score([label[g]], [score[g]], k=10)
        for g in _groups(result)
        if label[g].any()
    ]
    loss = log_loss(label, 1 / (1 + np.exp(-score)))
    assert summary.auc[regime].value == pytest.approx(auc, abs=1e-12)
    assert summary.wgauc[regime].value == pytest.approx(np.mean(inside))
    assert summary.ndcg[regime].value == pytest.approx(np.mean(ndcg))
    assert summary.log_loss[regime].value == pytest.approx(loss)


def test_intervals_hold_the_figure_and_shrink_with_more_users():
    few, many = (summary_of(make_result(n)) for n in (20, 320))
    for figure in ("auc", "wgauc", "ndcg", "log_loss", "lift"):
        for name, interval in getattr(few, figure).items():
            wide = interval.high - interval.low
            other = getattr(many, figure)[name]
            assert interval.low < interval.value < interval.high
            # Sixteen times the users: a quarter of the width.
            assert 0.15 < (other.high - other.low) / wide < 0.4


def test_one_user_has_figures_without_intervals():
    summary = summary_of(make_result(num_users=1))
    for figure in (summary.auc, summary.wgauc, summary.ndcg, summary.log_loss):
        assert np.isfinite(figure[ONLINE].value)
        assert np.isnan([figure[ONLINE].low, figure[ONLINE].high]).all()


def test_lifts_are_in_points_and_paired():
    summary = summary_of(make_result())
    for name, minus in ((OFFLINE, JOINT), (ONLINE, OFFLINE)):
        lift = summary.lift[name]
        points = 100 * (summary.auc[name].value - summary.auc[minus].value)
        assert lift.value == pytest.approx(points)
        # The noise is shared, so a paired interval is narrower than one
        # of independent draws would be.
        alone = summary.auc[name].high - summary.auc[name].low
        assert lift.high - lift.low < 100 * alone


def test_summary_json_has_the_promised_keys(tmp_path):
    write_summary(summary_of(make_result()), tmp_path / "summary.json")
    values = json.loads((tmp_path / "summary.json").read_text())
    for figure in ("auc", "wgauc"):
        assert set(values[figure]) == set(REGIMES)
        assert all(isinstance(v, float) for v in values[figure].values())
    assert set(values["lift"]) == {OFFLINE, ONLINE}
    assert set(values["lift"][ONLINE]) == {"value", "low", "high"}
    for call in ("rank_ms", "feedback_ms"):
        assert set(values[call]) == {"p50", "p99"}
    assert values["bytes_per_user"] == BYTES
    assert values["stage_seconds"] == STAGES
    assert values["skew"] == {}
    assert (values["dataset"], values["revision"]) == ("toy", "abc")
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


def test_skew_is_part_of_the_summary(tmp_path):
    skew = Skew(
        auc=dict.fromkeys(REGIMES, 2e-5),
        score=dict.fromkeys(REGIMES, 1e-6),
        worst_user=dict.fromkeys(REGIMES, "u3"),
        users=40,
    )
    write_summary(summary_of(make_result(), skew), tmp_path / "summary.json")
    values = json.loads((tmp_path / "summary.json").read_text())
    assert values["skew"] == dict.fromkeys(REGIMES, 2e-5)
    assert values["max_skew"] == 1e-3


def test_figures_without_a_value_are_null_in_json(tmp_path):
    result = make_result()
    one_class = dataclasses.replace(
        result,
        rows=dataclasses.replace(
            result.rows, label=np.ones_like(result.rows.label)
        ),
    )
    with np.errstate(all="ignore"):
        summary = summary_of(one_class)
    write_summary(summary, tmp_path / "summary.json")
    values = json.loads((tmp_path / "summary.json").read_text())
    assert values["auc"] == dict.fromkeys(REGIMES)


def test_closing_table_shows_figures_lifts_and_where_to_look():
    summary = summary_of(make_result())
    console = Console(file=io.StringIO(), width=80, color_system=None)
    long = f"runs/{'long/' * 30}my report.html"
    where = {"report": "runs/latest/report.html", "serve it": long}
    print_closing_table(summary, where=where, console=console)
    text = console.file.getvalue()
    for regime in REGIMES:
        assert f"{summary.auc[regime].value:.4f}" in text
        assert f"{summary.wgauc[regime].value:.4f}" in text
    for expected in ("+2.48", "+2.46", "392 B", "Trainer", where["report"]):
        assert expected in text
    assert f"report    {where['report']}\nserve it  {long}\n" in text
    assert "…" not in text
    assert "degraded" not in text


def test_closing_table_warns_of_degraded_answers():
    result = dataclasses.replace(make_result(), degraded=7)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    print_closing_table(summary_of(result), where={}, console=console)
    assert "7 answers were degraded" in console.file.getvalue()
