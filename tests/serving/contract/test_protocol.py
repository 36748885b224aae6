"""Splits, windows and few-shot sets against plain loops."""

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.contract import protocol


@st.composite
def user_positions(draw):
    """Positions of a user's rows; events of implicit sets have several."""
    num_events = draw(st.integers(0, 110))
    rows_of_event = draw(
        st.lists(st.integers(1, 5), min_size=num_events, max_size=num_events)
    )
    positions = np.repeat(np.arange(num_events), rows_of_event)
    if draw(st.booleans()):
        seed = draw(st.integers(0, 2**32 - 1))
        positions = np.random.default_rng(seed).permutation(positions)
    return positions


@given(user_positions())
def test_each_row_is_in_the_window_of_its_event(positions):
    expected = collections.defaultdict(list)
    for row, position in enumerate(positions):
        for index in range(8):
            if 10 + 10 * index <= position < 20 + 10 * index:
                expected[index].append(row)
    found = [(n, r.tolist()) for n, r in protocol.stream_windows(positions)]
    assert found == sorted(expected.items())


@given(user_positions())
def test_each_judged_row_is_judged_once_and_no_early_one_is(positions):
    judged = [
        row
        for window in protocol.stream_windows(positions)
        for row in window.rows
    ]
    support = protocol.first_support_rows(positions).tolist()
    assert len(set(judged)) == len(judged)
    assert sorted(judged + support) == [
        row for row, position in enumerate(positions) if position < 90
    ]
    assert all(positions[row] < 10 for row in support)


@given(user_positions(), st.sampled_from(protocol.FEW_SHOT_SUPPORT_SIZES))
def test_few_shot_support_set_is_the_events_before_the_query_set(
    positions, size
):
    support, query_set = protocol.few_shot_rows(positions, size)
    assert support.tolist() == [
        row
        for row, position in enumerate(positions)
        if position in range(20 - size, 20)
    ]
    assert query_set.tolist() == [
        row
        for row, position in enumerate(positions)
        if position in range(20, 70)
    ]
    if len(support) and len(query_set):
        assert positions[support].max() < positions[query_set].min()


@pytest.mark.parametrize("size", protocol.FEW_SHOT_SUPPORT_SIZES)
def test_few_shot_support_set_has_k_events(size):
    positions = np.repeat(np.arange(80), 5)
    support, query_set = protocol.few_shot_rows(positions, size)
    assert len(set(positions[support])) == size
    assert len(set(positions[query_set])) == 50


def test_users_are_split_seventy_ten_twenty():
    splits = [protocol.split_of_bucket(b, 30) for b in range(100)]
    assert splits == (
        ["meta_train"] * 70 + ["meta_valid"] * 10 + ["meta_test"] * 20
    )


def test_users_with_few_events_are_never_judged():
    for bucket in range(100):
        assert protocol.split_of_bucket(bucket, 29) == "meta_train"
