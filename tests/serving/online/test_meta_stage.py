"""Feedback through both online stages against the stream's closed form."""

import asyncio
import dataclasses

import numpy as np
import pytest

from serving.contract.guard import Guard
from serving.contract.online_stream import score_online
from tests.helpers.meta_gateway import CONFIG, ORACLE, MetaGateway
from tests.helpers.stream_users import OracleModel
from tests.helpers.toy_model import NUM_ADAPTIVE

GUARD = Guard(np.ones(NUM_ADAPTIVE))


@pytest.fixture(scope="module")
def expected(users):
    """What the offline evaluation says of the same users."""
    return score_online(
        OracleModel(users),
        users,
        ORACLE.parameters.meta_state,
        16,
        CONFIG,
        GUARD,
    )


def test_served_scores_equal_the_offline_evaluation(users, expected, tmp_path):
    gateway = MetaGateway(tmp_path)
    scores = asyncio.run(gateway.replay(users))
    progress = gateway.progress
    assert progress.promoted == expected.progress.promoted > 2
    assert progress.refused == expected.progress.refused
    for found, wanted in zip(scores, expected.scores, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert gateway.meta_state.version == expected.progress.current.version
    assert gateway.outcomes.count("promoted") == progress.promoted
    assert gateway.outcomes.count("refused") == progress.refused


def test_background_steps_come_to_the_same_versions(users, expected, tmp_path):
    """Here a step has time between two calls; under load it may come later."""
    gateway = MetaGateway(tmp_path, inline=False)
    asyncio.run(gateway.replay(users))
    progress = gateway.progress
    steps = progress.promoted + progress.refused
    assert steps == expected.progress.promoted + expected.progress.refused
    assert gateway.meta_state.version == progress.current.version > 0


def test_switched_off_it_asks_for_no_gradient(users, tmp_path):
    gateway = MetaGateway(tmp_path, dataclasses.replace(CONFIG, enabled=False))
    asyncio.run(gateway.replay(users[:4]))
    assert "meta_gradient" not in gateway.backend.calls
    assert gateway.meta_state.version == 0


def test_a_deleted_user_is_in_no_later_step(users, tmp_path):
    gateway = MetaGateway(tmp_path)
    asked = []
    predict = gateway.backend.predict

    async def note(model, version, signature, inputs):
        if signature == "meta_gradient":
            items = inputs["support_item_id"].string_val
            asked.extend(item.decode() for item in items)
        return await predict(model, version, signature, inputs)

    gateway.backend.predict = note
    marked = dataclasses.replace(
        users[0], item_ids=("secret",) * len(users[0].item_ids)
    )

    async def run():
        await gateway.registry.refresh()
        for start in (0, 10):
            await gateway.learn(marked, range(start, start + 10))
        gateway.stage.forget(marked.user_id)
        await gateway.replay(users[1:])

    asyncio.run(run())
    assert asked
    assert "secret" not in asked
