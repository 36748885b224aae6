import functools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.dataset_labels import LabelSpec
from components.interaction_example_gen.grading import labels_of

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "datasets.md"
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
    st.floats(-10, 10),
    st.floats(-3, 3),
    st.floats(0.01, 3),
    st.one_of(st.just(0.0), st.floats(0.01, 3)),
)
def test_formula_of_the_guide_gives_the_labels_of_the_training(
    rating, at_least, below, above
):
    lowest, highest = at_least - below, at_least + above
    rule = LabelSpec(
        column="r", at_least=at_least, lowest=lowest, highest=highest
    )
    (expected,) = labels_of(np.array([rating]), rule)
    told = label_of_the_guide()(rating, lowest, at_least, highest)
    assert told == pytest.approx(expected, abs=1e-6)


@functools.cache
def label_of_the_guide():
    text = GUIDE.read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(def label.*?)```", text, re.DOTALL)
    names = {}
    exec(code, names)
    return names["label"]


@example(ratings=[-1.0, 1.0], at_least=0.0, below=1.0, above=5e-324)
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
