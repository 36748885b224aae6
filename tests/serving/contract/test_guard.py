import numpy as np
import pytest

from serving.contract.guard import (
    LOSS,
    NORM,
    NOT_FINITE,
    Adapted,
    Guard,
    GuardConfig,
)

P = 3
META_INIT = np.array([0.5, -0.5, 0.0], np.float32)
STD = np.array([1.0, 0.5, 0.0])
GUARD = Guard(STD, GuardConfig(max_norm=4.0))


def adapted(weights, before=0.6, after=0.5):
    weights = np.array(weights, np.float32)
    ones = np.ones(len(weights))
    return Adapted(weights, before * ones, after * ones)


def check(weights, **losses):
    start = np.tile(META_INIT + np.float32(0.1), (len(weights), 1))
    return start, GUARD.check(start, adapted(weights, **losses), META_INIT)


def named(found):
    return {
        reason: np.flatnonzero(rows).tolist()
        for reason, rows in found.reasons.items()
    }


def test_honest_weights_pass_as_they_are():
    weights = META_INIT + np.float32([[0.3, -0.2, 0.0], [1.0, 1.0, 0.0]])
    _, found = check(weights)
    np.testing.assert_array_equal(found.weights, weights)
    assert named(found) == {NOT_FINITE: [], LOSS: [], NORM: []}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_give_way_to_those_before(value):
    start, found = check([META_INIT, [0.0, value, 0.0]])
    assert named(found) == {NOT_FINITE: [1], LOSS: [], NORM: []}
    np.testing.assert_array_equal(found.weights, [META_INIT, start[1]])


def test_loss_that_is_not_finite_tells_against_weights():
    start, found = check([META_INIT], after=np.nan)
    assert named(found)[NOT_FINITE] == [0]
    np.testing.assert_array_equal(found.weights, start)


def test_weights_that_explain_their_own_events_worse_are_not_used():
    start, found = check([META_INIT], before=0.4, after=0.46)
    assert named(found) == {NOT_FINITE: [], LOSS: [0], NORM: []}
    np.testing.assert_array_equal(found.weights, start)
    assert named(check([META_INIT], before=0.4, after=0.44)[1])[LOSS] == []


def test_far_weights_are_pulled_back_onto_the_ball():
    far = META_INIT + np.float32([[30.0, -20.0, 0.0], [1.0, 1.0, 0.0]])
    _, found = check(far)
    assert named(found)[NORM] == [0]
    shift = found.weights[0] - META_INIT
    # In the same direction, root mean square of (30, 40) cut down to 4.
    norm = np.sqrt((shift[0] ** 2 + (shift[1] / 0.5) ** 2) / P)
    assert norm == pytest.approx(4.0, rel=1e-5)
    assert shift[0] / shift[1] == pytest.approx(-1.5, rel=1e-5)
    np.testing.assert_array_equal(found.weights[1], far[1])


def misled(start, nobodys, num_new, sizes):
    batch = adapted(np.zeros((len(start), P)))._replace(
        event_loss=np.array(start), event_loss_meta_init=np.array(nobodys)
    )
    return GUARD.misled(batch, np.array(num_new), np.array(sizes)).tolist()


def test_new_events_judge_the_weights_before_they_are_learned_from():
    # Two kept events, four new ones, padding that must not count.
    rows = {
        "far worse": [0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 99.0],
        "a little worse": [0.0, 0.0, 1.4, 1.4, 1.4, 1.4, 99.0],
        "bad of old only": [9.0, 9.0, 0.5, 0.5, 0.5, 0.5, 99.0],
    }
    nobodys = [[0.5] * 7] * len(rows)
    found = misled([*rows.values()], nobodys, [4] * 3, [6] * 3)
    assert found == [[*rows].index("far worse")]
    # Three events are too few to judge by.
    assert misled([rows["far worse"]], [[0.5] * 7], [3], [6]) == []


def test_model_that_tells_no_losses_of_events_misleads_nobody():
    batch = adapted(np.zeros((2, P)))
    assert not len(GUARD.misled(batch, np.array([9, 9]), np.array([9, 9])))


@pytest.mark.parametrize(
    ("inner_loop", "std"),
    [
        ({"prior_precision": [4.0, 1.0, 0.25]}, [0.5, 1.0, 2.0]),
        ({"prior_variance": [4.0, 1.0, 0.0]}, [2.0, 1.0, 0.0]),
        ({"prior_precision": 4.0}, [0.5] * 3),
        ({}, [1.0] * 3),
    ],
)
def test_spread_of_the_prior_is_that_of_the_inner_loop(inner_loop, std):
    np.testing.assert_allclose(Guard.of(inner_loop, P).prior_std, std)
