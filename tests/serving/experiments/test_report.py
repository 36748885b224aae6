"""Joins and figures against plain loops and closed forms."""

import json
import math
import os
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.contract import metrics
from serving.contract.intervals import Interval
from serving.experiments.__main__ import main
from serving.experiments.config import Arm, Experiment
from serving.experiments.figures import (
    AUC,
    REWARD,
    WGAUC,
    arm_figures,
    sample_ratio_z,
)
from serving.experiments.joining import Exposure, join
from serving.experiments.report import make_report


def exposure(user, ms, items, arm="a", scores=None):
    return {
        "kind": "exposure",
        "ms": ms,
        "user": user,
        "experiment": "x",
        "arm": arm,
        "items": items,
        "scores": scores or [float(n) for n in range(len(items))],
    }


def outcome(user, ms, item, label=1.0, event=None):
    return {
        "kind": "outcome",
        "ms": ms,
        "user": user,
        "item": item,
        "label": label,
        "event": event or f"{ms}-{item}",
    }


def labels(lines, arm="a", horizon_seconds=1.0):
    joined = join(lines, horizon_seconds)
    return [shown.labels for shown in joined.get(("x", arm), [])]


def test_outcome_counts_for_the_newest_exposure_that_held_the_item():
    lines = [
        exposure("u", 100, ["1", "2"]),
        exposure("u", 200, ["1"]),
        exposure("u", 300, ["2"]),
        outcome("u", 400, "1"),
        outcome("u", 400, "2", 0.0),
    ]
    assert labels(lines) == [{}, {"1": 1.0}, {"2": 0.0}]
    assert labels(reversed(lines)) == labels(lines)


def test_outcome_counts_in_every_arm_that_showed_or_shadowed_the_item():
    lines = [
        exposure("u", 100, ["1"]),
        exposure("u", 101, ["1"], "shadow"),
        outcome("u", 200, "1"),
    ]
    assert labels(lines) == labels(lines, "shadow") == [{"1": 1.0}]


def test_outcome_before_the_exposure_or_too_late_does_not_count():
    lines = [
        outcome("u", 99, "1"),
        exposure("u", 100, ["1", "2"]),
        outcome("u", 1101, "1", 0.0),
        outcome("u", 1100, "2"),
        outcome("v", 200, "1"),
    ]
    assert labels(lines) == [{"2": 1.0}]


def test_event_sent_twice_counts_once_and_the_last_of_two_wins():
    lines = [
        exposure("u", 100, ["1"]),
        outcome("u", 200, "1", 1.0, "e1"),
        outcome("u", 300, "1", 0.0, "e2"),
        outcome("u", 400, "1", 1.0, "e1"),
    ]
    assert labels(lines) == [{"1": 0.0}]


def test_forgotten_user_is_left_out_up_to_that_moment():
    lines = [
        exposure("u", 100, ["1"]),
        exposure("v", 100, ["1"]),
        outcome("u", 200, "1"),
        {"kind": "forget", "ms": 300, "user": "u"},
        exposure("u", 400, ["2"]),
        outcome("u", 500, "2"),
        # The exposure it belongs to is gone.
        outcome("u", 500, "1"),
    ]
    assert labels(lines) == [{}, {"2": 1.0}]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30),
            st.sampled_from("uv"),
            st.booleans(),
            st.sampled_from(["1", "2", "3"]),
        ),
        max_size=25,
    )
)
def test_join_is_that_of_a_plain_search(events):
    lines = [
        exposure(user, ms * 100, [item])
        if shown
        else outcome(user, ms * 100, item, number / 100, str(number))
        for number, (ms, user, shown, item) in enumerate(events)
    ]
    found = [
        (e.user, e.ms, e.items[0], e.labels.get(e.items[0]))
        for e in join(lines, 1.0).get(("x", "a"), [])
    ]
    exposures = [line for line in lines if line["kind"] == "exposure"]
    exposures.sort(key=lambda line: line["ms"])
    expected = [[e["user"], e["ms"], e["items"][0], None] for e in exposures]
    outcomes = [line for line in lines if line["kind"] == "outcome"]
    for line in sorted(outcomes, key=lambda line: line["ms"]):
        fitting = [
            row
            for row in expected
            if row[0] == line["user"]
            and row[2] == line["item"]
            and line["ms"] - row[1] >= 0
        ]
        if fitting and line["ms"] - fitting[-1][1] <= 1000:
            fitting[-1][3] = line["label"]
    assert found == [tuple(row) for row in expected]


def make_arm(num_users, lift, seed, prefix):
    """Exposures of users; scores tell labels apart by `lift`."""
    random = np.random.default_rng(seed)
    shown = []
    for user in range(num_users):
        for moment in range(3):
            given = random.integers(0, 2, 6).astype(float)
            scores = random.normal(size=6) + lift * given
            items = [str(n) for n in range(6)]
            shown.append(
                Exposure(
                    f"{prefix}{user}",
                    moment,
                    items,
                    scores.tolist(),
                    dict(zip(items, given.tolist(), strict=True)),
                )
            )
    return shown


def test_values_are_the_figures_of_all_exposures():
    arms = {"a": make_arm(30, 0.5, 0, "a"), "b": make_arm(25, 1.5, 1, "b")}
    found = arm_figures(arms, draws=50)
    for name, exposures in arms.items():
        given = np.array([v for e in exposures for v in e.labels.values()])
        scores = np.array([s for e in exposures for s in e.scores])
        groups = np.repeat(np.arange(len(exposures)), 6)
        values = found[name].values
        assert values[AUC].value == pytest.approx(metrics.auc(given, scores))
        assert values[WGAUC].value == pytest.approx(
            metrics.wgauc(given, scores, groups)
        )
        assert values[REWARD].value == pytest.approx(
            given.sum() / len(exposures)
        )
    for figure in (AUC, WGAUC, REWARD):
        assert found["b"].lifts[figure].value == pytest.approx(
            found["b"].values[figure].value - found["a"].values[figure].value
        )
    assert (found["a"].users, found["a"].exposures, found["a"].judged) == (
        *(30, 90, 540),
    )


def test_interval_of_a_lift_is_that_of_normal_theory():
    arms = {"a": make_arm(400, 0.0, 2, "a"), "b": make_arm(300, 0.0, 3, "b")}
    lift = arm_figures(arms, draws=600)["b"].lifts[REWARD]
    variance = 0.0
    for exposures in arms.values():
        by_user: dict[str, float] = {}
        for shown in exposures:
            reward = sum(shown.labels.values()) / 3
            by_user[shown.user] = by_user.get(shown.user, 0.0) + reward
        rewards = list(by_user.values())
        variance += np.var(rewards, ddof=1) / len(rewards)
    half = 1.96 * math.sqrt(variance)
    assert lift.low == pytest.approx(lift.value - half, abs=0.15 * half)
    assert lift.high == pytest.approx(lift.value + half, abs=0.15 * half)


def test_shadow_with_the_same_scores_is_exactly_level():
    served = make_arm(40, 1.0, 4, "u")
    lifts = arm_figures({"a": served, "shadow": served}, draws=50)["shadow"]
    for interval in lifts.lifts.values():
        assert interval == Interval(0.0, 0.0, 0.0)


def test_pairing_narrows_the_interval_of_a_shadow():
    def width(other_users):
        served = make_arm(100, 1.0, 5, "u")
        better = make_arm(100, 1.0, 5, other_users)
        random = np.random.default_rng(6)
        for shown in better:
            noise = random.normal(size=6) * 0.1
            shown.scores = [
                score + n for score, n in zip(shown.scores, noise, strict=True)
            ]
        lift = arm_figures({"a": served, "b": better}, draws=200)["b"]
        return lift.lifts[AUC].high - lift.lifts[AUC].low

    assert width("u") < width("others") / 2


def test_shadow_is_judged_on_what_the_first_arms_users_were_shown():
    """Other arms show other lists, on which the first was not judged."""
    first, second = make_arm(40, 1.0, 4, "u"), make_arm(40, 3.0, 5, "v")
    arms = {"a": first, "b": second, "shadow": [*first, *second]}
    found = arm_figures(arms, draws=50, shadows=["shadow"])
    assert found["shadow"].lifts[AUC] == Interval(0.0, 0.0, 0.0)
    assert found["shadow"].values[AUC] == found["a"].values[AUC]
    sizes = (found["shadow"].users, found["shadow"].exposures)
    assert sizes == (found["a"].users, found["a"].exposures)


def test_shadow_has_no_reward_and_is_called_one():
    """What the users made of lists, they made of those of other arms."""
    experiment = Experiment("x", (Arm("a"), Arm("b")), (Arm("s"),))
    shown = make_arm(30, 1.0, 4, "u")
    joined = {
        ("x", "a"): shown,
        ("x", "b"): make_arm(30, 1.0, 5, "v"),
        ("x", "s"): make_arm(30, 2.0, 6, "u"),
    }
    found = make_report(experiment, joined, draws=20)
    told = found.as_json()["arms"]["s"]
    assert told["values"]["reward"]["value"] is None
    assert told["lifts"]["reward"]["value"] is None
    assert told["lifts"]["auc"]["value"] > 0.0
    assert [*found.as_json()["shadows"]] == ["s"]
    *_, arm, shadow = found.as_text().splitlines()
    assert shadow.startswith("s (shadow)")
    assert "(shadow)" not in arm
    assert shadow.split()[-2:] == ["-", "-"]


def test_unanswered_items_count_as_told():
    shown = Exposure("u", 0, ["1", "2", "3"], [3.0, 2.0, 1.0], {"1": 1.0})
    silent = Exposure("v", 0, ["1", "2"], [1.0, 0.0])
    skipped = arm_figures({"a": [shown, silent]}, draws=5)["a"]
    assert (skipped.judged, skipped.exposures) == (1, 2)
    assert math.isnan(skipped.values[AUC].value)
    counted = arm_figures({"a": [shown, silent]}, True, draws=5)["a"]
    assert counted.judged == 3
    assert counted.values[AUC].value == 1.0
    assert counted.values[REWARD].value == 0.5


@pytest.mark.parametrize(
    ("users", "weights", "expected"),
    [
        ([50, 50], [1, 1], 0.0),
        # (600 - 500) / sqrt(1000 / 4)
        ([600, 400], [1, 1], 100 / math.sqrt(250)),
        ([750, 250], [3, 1], 0.0),
        ([0, 0], [1, 1], 0.0),
        ([10], [1], 0.0),
    ],
)
def test_sample_ratio_in_standard_deviations(users, weights, expected):
    assert sample_ratio_z(users, weights) == pytest.approx(expected)


def report(sizes):
    arms = tuple(Arm(name) for name in sizes)
    joined = {
        ("x", name): make_arm(size, 1.0, size, name)
        for name, size in sizes.items()
    }
    return make_report(Experiment("x", arms), joined, draws=20)


def test_arms_of_the_wrong_size_are_pointed_out():
    assert "do not trust the figures" in report({"a": 60, "b": 5}).as_text()
    assert "do not trust" not in report({"a": 30, "b": 35}).as_text()


def test_arm_without_exposures_has_no_figures_and_breaks_nothing():
    found = report({"a": 10, "b": 0})
    assert found.as_text().splitlines()[-1].split()[:4] == ["b", "0", "0", "0"]
    assert found.as_json()["arms"]["b"]["values"]["auc"]["value"] is None
    json.dumps(found.as_json(), allow_nan=False)


@pytest.fixture
def experiment_file(tmp_path):
    log = tmp_path / "exposures"
    log.mkdir()
    lines = []
    for user in range(40):
        arm = "ab"[user % 2]
        scores = [1.0, 0.0] if user % 2 else [0.0, 1.0]
        lines.append(exposure(f"u{user}", 100, ["1", "2"], arm, scores))
        lines.append(outcome(f"u{user}", 200, "1", 1.0))
        lines.append(outcome(f"u{user}", 200, "2", 0.0))
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    # As a kill leaves it.
    (log / "2026-01-01-1.jsonl").write_text(text + text[:50])
    path = tmp_path / "experiments.yaml"
    path.write_text("experiments: [{name: x, arms: [{name: a}, {name: b}]}]\n")
    return path


def test_report_command_prints_lifts(experiment_file, capsys, caplog):
    assert main(["report", str(experiment_file), "--draws=20"]) == 0
    text = capsys.readouterr().out
    assert "100.000 (100.000 to 100.000)" in text
    assert "+100.000 (+100.000 to +100.000)" in text
    assert "1 lines can't be read" in caplog.text


def test_report_command_prints_json(experiment_file, capsys):
    assert main(["report", str(experiment_file), "--draws=20", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["arms"]["b"]["lifts"]["auc"]["value"] == 1.0
    assert found["arms"]["b"]["users"] == 20


def test_commands_say_what_is_missing(tmp_path, capsys):
    path = tmp_path / "experiments.yaml"
    assert main(["report", str(path)]) == 1
    assert "Can't read the experiments" in capsys.readouterr().err
    path.write_text("experiments: [{name: x, arms: [{name: a}]}]")
    for command in ("report", "purge"):
        assert main([command, str(path)]) == 1
        assert "holds no exposure log" in capsys.readouterr().err


def test_purge_command_tells_what_it_removed(experiment_file, capsys):
    (path,) = (experiment_file.parent / "exposures").glob("*")
    days_ago = time.time() - 3 * 86_400
    os.utime(path, (days_ago, days_ago))
    assert main(["purge", str(experiment_file), "--keep-days=2"]) == 0
    assert "Removed 1 files" in capsys.readouterr().out


@pytest.mark.parametrize("days", ["0", "-1", "nan"])
def test_purge_command_refuses_a_time_that_is_none(
    experiment_file, capsys, days
):
    assert main(["purge", str(experiment_file), f"--keep-days={days}"]) == 1
    assert "must be more than 0" in capsys.readouterr().err
    assert [*(experiment_file.parent / "exposures").glob("*.jsonl")]
