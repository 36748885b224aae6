import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.dataset_spec import LabelSpec
from components.interaction_example_gen.grading import labels_of

STARS = LabelSpec(column="stars", at_least=4, lowest=1, highest=5)


def test_five_stars_become_labels_from_0_to_1_liked_from_a_half_on():
    labels = labels_of(np.array([1.0, 2, 3, 4, 5]), STARS)
    assert labels.dtype == np.float32
    assert labels == pytest.approx([0, 1 / 6, 1 / 3, 0.5, 1])


def test_without_a_scale_labels_are_0_and_1():
    rule = LabelSpec(column="stars", at_least=4)
    labels = labels_of(np.array([1.0, 3.5, 4, 5]), rule)
    assert labels.tolist() == [0, 0, 1, 1]


def test_ratings_off_the_scale_count_as_its_ends():
    labels = labels_of(np.array([-3.0, 0, 6, 100]), STARS)
    assert labels.tolist() == [0, 0, 1, 1]


def test_one_step_scale_has_no_degrees_of_liking():
    rule = LabelSpec(column="thumb", at_least=1, lowest=-1, highest=1)
    assert labels_of(np.array([-1.0, 0, 1]), rule).tolist() == [0, 0.25, 1]


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20),
    st.floats(-1e5, 1e5),
    st.floats(1e-3, 1e5),
    st.floats(0, 1e5),
)
def test_labels_keep_the_order_and_say_what_is_liked(
    ratings, at_least, below, above
):
    rule = LabelSpec(
        column="r",
        at_least=at_least,
        lowest=at_least - below,
        highest=at_least + above,
    )
    ratings = np.sort(np.array(ratings))
    labels = labels_of(ratings, rule)
    assert np.all(np.diff(labels) >= 0)
    assert np.all((labels >= 0) & (labels <= 1))
    assert ((labels >= 0.5) == (ratings >= at_least)).all()
