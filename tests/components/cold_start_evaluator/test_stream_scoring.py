"""The regime `online` of a SavedModel against the toy's closed form."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from components.cold_start_evaluator.stream_scoring import (
    online_scores,
    stream_scores,
)
from components.cold_users import ColdUser
from components.served_model import ServedModel
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.online_stream import score_online
from tests.helpers.cold_examples import known_features
from tests.helpers.stream_users import OracleModel

CONFIG = OnlineMetaConfig(
    tasks_per_update=2,
    held_back_share=0.4,
    held_back_tasks=4,
    min_held_back_tasks=1,
    outer_lr=0.05,
)


@pytest.fixture(scope="module")
def cold_users(users):
    return [
        ColdUser(
            rows[0]["user_id"],
            known_features(rows[0]),
            np.array([row["item_id"] for row in rows], object),
            np.array([row["label"] for row in rows], np.float32),
            np.arange(len(rows)),
            # One session after the other, with some overlap.
            300 * number + 10 * np.arange(len(rows)),
        )
        for number, rows in enumerate(users)
    ]


@pytest.fixture(scope="module")
def model(candidate):
    return ServedModel.load(Path(candidate.uri) / "Format-Serving")


def test_meta_updated_scores_equal_the_closed_form(cold_users, model, oracles):
    found = online_scores(model, cold_users, CONFIG)
    expected = score_online(
        OracleModel(cold_users, oracles["candidate"]),
        cold_users,
        oracles["candidate"].parameters.meta_state,
        model.manifest.reservoir_events,
        CONFIG,
    )
    assert found.progress.promoted == expected.progress.promoted > 1
    assert found.progress.refused == expected.progress.refused
    np.testing.assert_allclose(
        np.concatenate(found.scores),
        np.concatenate(expected.scores),
        atol=1e-4,
    )
    np.testing.assert_allclose(
        found.progress.current.log_inner_lr,
        expected.progress.current.log_inner_lr,
        atol=1e-5,
    )


def test_offline_is_scored_with_the_exported_meta_state(cold_users, model):
    """Whatever the stream has taught meanwhile, and in whatever batches."""
    off = dataclasses.replace(CONFIG, enabled=False)
    first_windows = [
        scores[:10] for scores in stream_scores(model, cold_users, learn=True)
    ]
    online = [s[:10] for s in online_scores(model, cold_users, off).scores]
    for a, b in zip(first_windows, online, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
