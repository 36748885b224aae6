import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.contract.errors import MetaStateError
from serving.contract.meta_state import MetaState

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def meta_states(draw):
    size, steps = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    return MetaState(
        draw(arrays.arrays(np.float32, size, elements=FLOATS)),
        draw(arrays.arrays(np.float32, (steps, size), elements=FLOATS)),
        draw(st.integers(0, 1000)),
    )


@given(meta_states())
def test_json_keeps_every_bit(state):
    read = MetaState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert read.version == state.version
    assert read.fits(state)
    for name, array in state.inputs().items():
        assert array.dtype == np.float32
        assert read.inputs()[name].tobytes() == array.tobytes()


def test_values_can_not_be_changed_in_place():
    given_array = np.ones(2, np.float32)
    state = MetaState(given_array, np.zeros((1, 2), np.float32))
    given_array[0] = 7.0
    assert state.meta_init[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        state.meta_init[0] = 7.0


def test_new_users_start_at_the_meta_init():
    state = MetaState(np.array([1.0, 2.0]), np.zeros((0, 2)))
    np.testing.assert_array_equal(
        state.initial_weights(3), [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    )


@pytest.mark.parametrize(
    ("meta_init", "log_inner_lr", "message"),
    [
        ([0.0, np.nan], [[0.0, 0.0]], "meta_init of meta state 4.*not finite"),
        ([0.0, 0.0], [[np.inf, 0.0]], "log_inner_lr of meta state 4.*not fin"),
        ([0.0, 0.0], [[0.0]], r"\[2\] and step sizes of shape \[1, 1\]"),
        ([[0.0]], [[0.0]], r"expected \[P\] and \[T, P\]"),
    ],
)
def test_what_can_not_be_served_is_refused(meta_init, log_inner_lr, message):
    with pytest.raises(MetaStateError, match=message):
        MetaState(np.array(meta_init), np.array(log_inner_lr), version=4)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"version": 0, "meta_init": "x", "log_inner_lr": []},
        {"version": None, "meta_init": [0.0], "log_inner_lr": []},
        {"version": 0, "meta_init": [0.0], "log_inner_lr": [[0.0], []]},
    ],
)
def test_what_is_no_meta_state_is_refused(values):
    with pytest.raises(MetaStateError):
        MetaState.from_dict(values)


def test_same_values_are_the_same_in_every_version():
    state = MetaState(np.zeros(2), np.zeros((1, 2)))
    assert state.same_values(MetaState(np.zeros(2), np.zeros((1, 2)), 3))
    assert not state.same_values(MetaState(np.ones(2), np.zeros((1, 2))))
    assert not state.same_values(MetaState(np.zeros(2), np.ones((1, 2))))


def test_another_shape_does_not_fit():
    state = MetaState(np.zeros(2), np.zeros((3, 2)))
    assert state.fits(MetaState(np.ones(2), np.ones((3, 2)), 5))
    assert not state.fits(MetaState(np.zeros(2), np.zeros((2, 2))))
    assert not state.fits(MetaState(np.zeros(3), np.zeros((3, 3))))
