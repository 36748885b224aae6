"""Scores that are the same for everybody, counted by hand."""

import collections

import numpy as np
import pytest

from tests.helpers import tiny_world
from trainer.baselines.item_statistics import (
    count_labels,
    item_mean,
    popularity,
)

CATALOG = tiny_world.make_catalog()


def make_episodes():
    return [tiny_world.make_episode(range(30), seed=seed) for seed in range(5)]


def counted():
    positives, rows = collections.Counter(), collections.Counter()
    for episode in make_episodes():
        for item, label in zip(
            episode["item_row"], episode["label"], strict=True
        ):
            positives[item] += label
            rows[item] += 1
    return positives, rows


def test_every_row_is_counted_once():
    positives, rows = count_labels(
        tiny_world.as_dataset(make_episodes()), CATALOG
    )
    expected_positives, expected_rows = counted()
    assert len(rows) == CATALOG.unknown_row + 1
    for item in range(len(rows)):
        assert positives[item] == expected_positives[item]
        assert rows[item] == expected_rows[item]


def test_popularity_orders_by_positives():
    positives = np.array([3.0, 0.0, 7.0])
    scores = popularity(positives).score(None, np.array([[0, 1, 2]]))
    assert np.argsort(scores[0]).tolist() == [1, 0, 2]


def test_item_mean_is_the_logit_of_the_smoothed_share():
    positives, rows = np.array([4.0, 0.0, 0.0]), np.array([4.0, 4.0, 0.0])
    scores = item_mean(positives, rows, prior_rows=2.0).score(
        None, np.array([[0, 1, 2]])
    )
    shares = 1 / (1 + np.exp(-scores[0]))
    assert shares == pytest.approx([5 / 6, 1 / 6, 1 / 2])
