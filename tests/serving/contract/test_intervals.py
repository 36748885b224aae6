"""Bootstrap intervals against the figures and against normal theory."""

import math

import numpy as np
import pytest
from scipy import stats

from serving.contract import metrics
from serving.contract.intervals import Interval, Rows, bootstrap


def make_rows(num_users=40, windows=3, rows_per_window=8, seed=0):
    random = np.random.default_rng(seed)
    size = num_users * windows * rows_per_window
    rows = Rows(
        user=np.repeat(np.arange(num_users), windows * rows_per_window),
        window=np.tile(np.repeat(np.arange(windows), rows_per_window), 40),
        label=random.integers(0, 2, size).astype(np.float32),
    )
    scores = {
        name: random.normal(size=size) + lift * rows.label
        for name, lift in (("joint", 0.3), ("online", 1.0))
    }
    return rows, scores


def test_values_are_the_figures_of_all_users():
    rows, scores = make_rows()
    found = bootstrap(rows, scores, {"lift": ("online", "joint")}, draws=20)
    auc = {n: metrics.auc(rows.label, s) for n, s in scores.items()}
    wgauc = {
        n: metrics.wgauc(rows.label, s, rows.group) for n, s in scores.items()
    }
    for figure, expected in (("auc", auc), ("wgauc", wgauc)):
        expected["lift"] = expected["online"] - expected["joint"]
        for name, value in expected.items():
            interval = found[figure][name]
            assert interval.value == pytest.approx(value, abs=1e-12)
            assert interval.low < interval.value < interval.high


def test_lift_over_itself_is_zero_without_any_width():
    rows, scores = make_rows()
    found = bootstrap(
        rows,
        {"joint": scores["joint"], "copy": scores["joint"].copy()},
        {"lift": ("copy", "joint")},
        draws=50,
    )
    for figure in ("auc", "wgauc"):
        assert found[figure]["lift"] == Interval(0.0, 0.0, 0.0)


def test_draws_depend_on_the_seed_alone():
    rows, scores = make_rows()
    first = bootstrap(rows, scores, draws=30, seed=4)
    # Another model beside them changes nothing.
    again = bootstrap(rows, {**scores, "z": -scores["joint"]}, draws=30, seed=4)
    other = bootstrap(rows, scores, draws=30, seed=5)
    for figure in ("auc", "wgauc"):
        assert again[figure]["joint"] == first[figure]["joint"]
        assert other[figure]["joint"] != first[figure]["joint"]
        assert other[figure]["joint"].value == first[figure]["joint"].value


def test_a_draw_is_the_figure_of_the_drawn_users_rows():
    """One draw, made by hand by copying users' rows."""
    rows, scores = make_rows()
    drawn = np.random.default_rng(9).integers(0, 40, 40)
    picked = np.concatenate([np.flatnonzero(rows.user == u) for u in drawn])
    group = np.repeat(np.arange(40 * 3), 8)
    found = bootstrap(rows, scores, draws=1, seed=9)
    label, score = rows.label[picked], scores["joint"][picked]
    expected = {
        "auc": metrics.auc(label, score),
        "wgauc": metrics.wgauc(label, score, group),
    }
    for figure, value in expected.items():
        interval = found[figure]["joint"]
        assert interval.low == interval.high == pytest.approx(value)


def test_wgauc_interval_is_near_the_normal_interval_of_a_mean():
    rows, scores = make_rows(windows=1, rows_per_window=24)
    values, _ = metrics.group_aucs(rows.label, scores["online"], rows.user)
    low, high = stats.norm.interval(
        0.95, values.mean(), values.std() / math.sqrt(len(values))
    )
    found = bootstrap(rows, scores, draws=2000)["wgauc"]["online"]
    width = high - low
    assert found.low == pytest.approx(low, abs=0.1 * width)
    assert found.high == pytest.approx(high, abs=0.1 * width)


def test_intervals_hold_the_true_auc_nineteen_times_of_twenty():
    """One row per user; scores of the classes are normals one apart."""
    true_auc = stats.norm.cdf(1 / math.sqrt(2))
    random = np.random.default_rng(2)
    experiments, users = 120, 100
    held = 0
    for _ in range(experiments):
        label = np.repeat([0.0, 1.0], users // 2)
        score = random.normal(size=users) + label
        rows = Rows(np.arange(users), np.zeros(users, int), label)
        found = bootstrap(rows, {"m": score}, draws=200)["auc"]["m"]
        held += found.low <= true_auc <= found.high
    # The chance of less, if 0.95 were exact, is below one in ten thousand.
    assert held >= stats.binom.ppf(1e-4, experiments, 0.95)
    assert held < experiments


def test_scaled_interval_is_in_points():
    scaled = Interval(0.5, 0.25, 0.75).scaled(100)
    assert scaled == Interval(50, 25, 75)


def test_a_single_user_has_figures_but_no_interval():
    """Whoever is drawn is that user: no width would be shown as certainty."""
    label = np.array([0.0, 1.0, 1.0])
    rows = Rows(np.zeros(3, int), np.zeros(3, int), label)
    scores = {"a": np.array([0.1, 0.2, 0.0]), "b": np.zeros(3)}
    found = bootstrap(rows, scores, {"lift": ("a", "b")}, draws=20)
    for figure in ("auc", "wgauc"):
        for name, value in (("a", 0.5), ("b", 0.5), ("lift", 0.0)):
            interval = found[figure][name]
            assert interval.value == value
            assert math.isnan(interval.low)
            assert math.isnan(interval.high)
