import dataclasses
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from pipeline.errors import ConfigError, SkewError
from pipeline.evaluation import Evaluation, load_evaluation
from pipeline.skew import check_skew, measure_skew
from serving.contract.intervals import Interval
from serving.contract.regimes import JOINT, OFFLINE, ONLINE, REGIMES
from tests.pipeline.test_summary import make_result


def _evaluation(result, scores=None, shuffle=True):
    """The evaluator's table of the same rows, in an order of its own."""
    table = pa.table(
        {
            "user_id": np.array(result.user_ids, object)[result.rows.user],
            "item_id": result.item_ids,
            "label": result.rows.label,
            "window": result.rows.window.astype(np.int32),
            **{
                regime: values.astype(np.float32)
                for regime, values in (scores or result.scores).items()
            },
        }
    )
    if shuffle:
        order = np.random.default_rng(5).permutation(table.num_rows)
        table = table.take(order)
    return Evaluation(table, {})


def test_same_scores_have_no_skew_whatever_the_order_of_rows():
    result = make_result()
    skew = measure_skew(result, _evaluation(result))
    check_skew(skew)
    assert skew.users == 40
    for regime in REGIMES:
        assert skew.auc[regime] < 1e-5
        assert skew.score[regime] < 1e-5


def test_skew_is_the_difference_of_both_aucs():
    result = make_result()
    noise = np.random.default_rng(1).normal(size=len(result.rows.label))
    other = {**result.scores, ONLINE: result.scores[ONLINE] + noise}
    skew = measure_skew(result, _evaluation(result, other))
    expected = abs(
        roc_auc_score(result.rows.label, result.scores[ONLINE])
        - roc_auc_score(result.rows.label, other[ONLINE])
    )
    assert expected > 1e-3
    assert skew.auc[ONLINE] == pytest.approx(expected, abs=1e-6)
    assert skew.score[ONLINE] == pytest.approx(np.abs(noise).max(), rel=1e-5)
    worst = result.rows.user[np.abs(noise).argmax()]
    assert skew.worst_user[ONLINE] == f"u{worst}"
    with pytest.raises(SkewError, match=rf"online by .*'u{worst}'.*limit"):
        check_skew(skew)


def test_skew_at_the_limit_passes_and_nan_does_not():
    result = make_result()
    skew = measure_skew(result, _evaluation(result))
    check_skew(dataclasses.replace(skew, auc={OFFLINE: 1e-3}))
    with pytest.raises(SkewError, match="offline by nan"):
        check_skew(dataclasses.replace(skew, auc={OFFLINE: float("nan")}))


def test_only_users_that_both_judged_are_compared():
    result = make_result()
    evaluation = _evaluation(result, shuffle=False)
    first_ten = evaluation.stream.slice(0, 300)
    skew = measure_skew(
        result, dataclasses.replace(evaluation, stream=first_ten)
    )
    assert skew.users == 10


def test_other_rows_of_the_same_user_are_an_error_that_names_one():
    result = make_result()
    evaluation = _evaluation(result, shuffle=False)
    missing_one = evaluation.stream.slice(1)
    with pytest.raises(SkewError, match=r"user 'u0', window 0, item '0'"):
        measure_skew(
            result, dataclasses.replace(evaluation, stream=missing_one)
        )


def test_no_user_in_common_is_an_error():
    result = make_result()
    strangers = dataclasses.replace(
        result, user_ids=tuple(f"x{i}" for i in range(40))
    )
    with pytest.raises(SkewError, match="no user in common"):
        measure_skew(strangers, _evaluation(result))


def test_evaluation_is_read_back_with_its_curves_over_k(tmp_path):
    stream = _evaluation(make_result()).stream
    (tmp_path / "scores" / "stream").mkdir(parents=True)
    pq.write_table(stream, tmp_path / "scores" / "stream" / "scores-0.parquet")
    figure = {"value": 0.7, "low": 0.6, "high": None}
    values = {
        "few_shot": {
            "by_k": {name: {"auc": figure} for name in ("joint", "0", "5")}
        }
    }
    (tmp_path / "evaluation.json").write_text(json.dumps(values))
    evaluation = load_evaluation(tmp_path)
    assert evaluation.stream.num_rows == stream.num_rows
    assert list(evaluation.few_shot_auc) == [JOINT, "adaptive"]
    for curve in evaluation.few_shot_auc.values():
        assert list(curve) == [0, 5]
        assert curve[0] == Interval(
            0.7, 0.6, pytest.approx(np.nan, nan_ok=True)
        )


def test_missing_evaluation_says_what_to_run(tmp_path):
    with pytest.raises(ConfigError, match="ColdStartEvaluator"):
        load_evaluation(tmp_path)


def test_users_who_like_everything_are_no_skew():
    """As the few of `adaptower replay --users 1` may."""
    result = make_result(num_users=1)
    liked = np.ones_like(result.rows.label)
    rows = dataclasses.replace(result.rows, label=liked)
    result = dataclasses.replace(result, rows=rows)
    check_skew(measure_skew(result, _evaluation(result)))
