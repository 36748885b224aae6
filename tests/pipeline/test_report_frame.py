import numpy as np
import pytest

from pipeline.report.frame import nice_ticks, spread, tick_labels


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.61, 0.79, [0.65, 0.7, 0.75]),
        (-3.0, 7.0, [-2.0, 0.0, 2.0, 4.0, 6.0]),
        (5.0, 5.0, [5.0]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ticks", "expected"),
    [
        ([0.675, 0.7, 0.725], ["0.675", "0.700", "0.725"]),
        ([0.65, 0.7, 0.75], ["0.65", "0.70", "0.75"]),
        ([-2.0, 0.0, 2.0], ["-2", "0", "2"]),
    ],
)
def test_tick_labels_say_the_exact_value(ticks, expected):
    assert tick_labels(ticks) == expected


def test_labels_are_spread_without_changing_their_order():
    placed = spread([50.0, 52.0, 51.0, 99.0], 10.0, 0.0, 100.0)
    assert sorted(placed) == [placed[0], placed[2], placed[1], placed[3]]
    assert np.diff(sorted(placed)).min() >= 10.0
    assert max(placed) <= 100.0
