"""When a model is refused, and what it is told."""

import pytest

from components.cold_start_evaluator.gate import Thresholds, refusal_reasons


def lift(value, low=None, high=None):
    low = value - 0.01 if low is None else low
    high = value + 0.01 if high is None else high
    return {"value": value, "low": low, "high": high}


def lifts(over_joint, to_last_blessed=None):
    found = {
        "online_minus_joint": dict(
            zip(("auc", "wgauc"), over_joint, strict=True)
        )
    }
    if to_last_blessed is not None:
        found["online_minus_last_blessed"] = dict(
            zip(("auc", "wgauc"), to_last_blessed, strict=True)
        )
    return found


def test_a_clear_lift_in_both_figures_passes():
    assert refusal_reasons(lifts([lift(0.05), lift(0.02)]), Thresholds()) == []


@pytest.mark.parametrize("figure", ["auc", "wgauc"])
def test_an_interval_that_holds_zero_is_refused_by_its_figure(figure):
    found = lifts([lift(0.05), lift(0.05)])
    found["online_minus_joint"][figure] = lift(0.005)
    (reason,) = refusal_reasons(found, Thresholds())
    assert reason.startswith(f"{figure}: online minus joint is +0.0050")


def test_the_lift_asked_for_is_compared_with_the_lower_bound():
    found = lifts([lift(0.05), lift(0.05)])
    assert refusal_reasons(found, Thresholds(min_lift_over_joint=0.03)) == []
    assert len(refusal_reasons(found, Thresholds(min_lift_over_joint=0.045)))


def test_a_figure_of_one_class_is_refused_not_passed():
    none = {"value": None, "low": None, "high": None}
    reasons = refusal_reasons(lifts([none, none]), Thresholds())
    assert len(reasons) == 2
    assert "not defined" in reasons[0]


def test_a_loss_within_the_tolerance_to_the_last_blessed_passes():
    over_joint = [lift(0.05), lift(0.05)]
    within = lifts(over_joint, [lift(-0.004), lift(-0.004)])
    beyond = lifts(over_joint, [lift(-0.006), lift(0.0)])
    assert refusal_reasons(within, Thresholds()) == []
    (reason,) = refusal_reasons(beyond, Thresholds())
    assert "may lose at most 0.005" in reason
