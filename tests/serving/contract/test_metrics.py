"""The protocol's figures against scikit-learn and against enumeration."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from serving.contract import metrics

# Few different values, so that most draws hold ties.
SCORES = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0])
ROWS = st.lists(st.tuples(st.booleans(), SCORES), min_size=1, max_size=30)


def columns(rows):
    labels, scores = zip(*rows, strict=True)
    return np.array(labels, np.float32), np.array(scores)


@given(ROWS)
def test_auc_is_that_of_scikit_learn_ties_and_all(rows):
    labels, scores = columns(rows)
    found = metrics.auc(labels, scores)
    if len(set(labels)) == 1:
        assert math.isnan(found)
    else:
        expected = sklearn_metrics.roc_auc_score(labels, scores)
        assert found == pytest.approx(expected, abs=1e-12)


@given(ROWS, st.data())
def test_a_weight_counts_like_repeating_the_row(rows, data):
    labels, scores = columns(rows)
    times = np.array([data.draw(st.integers(0, 4)) for _ in rows])
    weighted = metrics.auc(labels, scores, times.astype(float))
    repeated = metrics.auc(np.repeat(labels, times), np.repeat(scores, times))
    assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)


def test_auc_of_one_class_is_nan():
    assert math.isnan(metrics.auc(np.ones(3), np.arange(3.0)))
    assert math.isnan(metrics.auc(np.zeros(3), np.arange(3.0), np.ones(3)))


@given(
    st.lists(
        st.tuples(st.booleans(), SCORES, st.integers(0, 4)),
        min_size=1,
        max_size=40,
    )
)
def test_wgauc_is_the_mean_of_the_groups_aucs(rows):
    labels, scores = columns([row[:2] for row in rows])
    groups = np.array([group for _, _, group in rows])
    expected = {
        group: sklearn_metrics.roc_auc_score(
            labels[groups == group], scores[groups == group]
        )
        for group in np.unique(groups)
        if len(set(labels[groups == group])) == 2
    }
    values, judged = metrics.group_aucs(labels, scores, groups)
    assert judged.tolist() == list(expected)
    np.testing.assert_allclose(values, list(expected.values()), atol=1e-12)
    mean = np.mean(list(expected.values())) if expected else math.nan
    assert metrics.wgauc(labels, scores, groups) == pytest.approx(
        mean, abs=1e-12, nan_ok=True
    )


def test_a_bias_per_user_lifts_auc_but_not_wgauc():
    random = np.random.default_rng(0)
    groups = np.repeat(np.arange(50), 20)
    rate = random.uniform(0.1, 0.9, 50)
    labels = (random.random(len(groups)) < rate[groups]).astype(float)
    scores = random.normal(size=len(groups))
    biased = scores + 10 * rate[groups]
    assert metrics.auc(labels, biased) > metrics.auc(labels, scores) + 0.1
    assert metrics.wgauc(labels, biased, groups) == pytest.approx(
        metrics.wgauc(labels, scores, groups), abs=1e-12
    )


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_without_ties_is_that_of_scikit_learn(k):
    random = np.random.default_rng(1)
    groups = random.permutation(np.repeat(np.arange(12), 8))
    labels = (random.random(len(groups)) < 0.3).astype(float)
    scores = random.normal(size=len(groups))
    expected = [
        sklearn_metrics.ndcg_score(
            labels[groups == g][None], scores[groups == g][None], k=k
        )
        for g in range(12)
        if labels[groups == g].any()
    ]
    assert metrics.ndcg(labels, scores, groups, k) == pytest.approx(
        np.mean(expected)
    )


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 1.0, 2.0])),
        min_size=1,
        max_size=6,
    ).filter(lambda rows: any(label for label, _ in rows)),
    st.integers(1, 4),
)
def test_ndcg_with_ties_is_the_worst_that_their_order_can_give(rows, k):
    def dcg(ordered):
        return sum(
            label / math.log2(place + 2)
            for place, (label, _) in enumerate(ordered[:k])
        )

    worst = min(
        dcg(ordered)
        for ordered in itertools.permutations(rows)
        if all(a[1] >= b[1] for a, b in itertools.pairwise(ordered))
    )
    ideal = dcg(sorted(rows, reverse=True))
    labels, scores = columns(rows)
    found = metrics.ndcg(labels, scores, np.zeros(len(rows), int), k)
    assert found == pytest.approx(worst / ideal, abs=1e-12)


def test_no_rows_have_no_auc_and_no_wgauc():
    nothing = np.empty(0)
    assert math.isnan(metrics.auc(nothing, nothing))
    assert math.isnan(metrics.wgauc(nothing, nothing, nothing.astype(int)))


def test_ndcg_without_any_positive_is_nan():
    assert math.isnan(metrics.ndcg(np.zeros(4), np.arange(4.0), np.zeros(4)))


@given(st.lists(st.tuples(st.booleans(), st.floats(-15, 15)), min_size=1))
def test_log_loss_of_logits_is_that_of_scikit_learn(rows):
    labels, logits = columns(rows)
    expected = sklearn_metrics.log_loss(
        labels, 1 / (1 + np.exp(-logits)), labels=[0, 1]
    )
    found = metrics.log_loss(labels, logits)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_log_loss_of_far_out_logits_stays_finite():
    labels = np.array([1.0, 0.0])
    assert metrics.log_loss(labels, np.array([-1e4, 1e4])) == 1e4
    assert metrics.log_loss(labels, np.array([1e4, -1e4])) == 0.0
