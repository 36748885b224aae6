"""Weights that must not be used, and what is stored in their place."""

import asyncio
import dataclasses

import numpy as np
import pytest

from serving.contract.guard import Guard
from tests.helpers.online_stage import (
    Stages,
    several,
    submission,
    unlearned,
)
from tests.helpers.patience import until
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle

ORACLE = ToyOracle.from_seed(1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_that_are_not_finite_are_not_used(stages, dtype):
    stages.submit(several(0, 1), dtype=dtype)
    before = stages.record()
    # Infinite once it is rounded to half precision.
    value = {"float32": np.nan, "float16": 1e5}[dtype]
    stages.backend.adapt_result = np.full(NUM_ADAPTIVE, value)
    stages.submit(several(1, 1), dtype=dtype)
    record = stages.record()
    assert record.weights.dtype == dtype
    np.testing.assert_array_equal(record.weights, before.weights)
    # What the user did is kept all the same.
    assert (record.support_count, len(record.reservoir)) == (2, 2)
    name = 'adaptower_guarded_users_total{reason="not_finite"}'
    assert stages.metrics.counters()[name] == 1


def test_weights_of_another_shape_change_nothing_until_a_rollback(stages):
    stages.submit(several(0, 1))

    async def run():
        async with stages.running() as stage:
            stages.backend.adapt_result = np.zeros(NUM_ADAPTIVE + 1)
            outcome = await stage.submit(several(1, 1), 20)
            assert outcome.learned is None
            assert stages.record().support_count == 1
            stages.backend.adapt_result = None
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    assert stages.record().support_count == 2


def test_one_user_who_poisons_moves_within_bounds_and_alone(tmp_path):
    """10,000 events on one item; others' weights are the same to the bit."""
    poisoned = [
        submission(*((n, "003", 1.0) for n in range(start, start + 1000)))
        for start in range(0, 10_000, 1000)
    ]
    others = [several(0, 5, f"o{number}") for number in range(5)]
    clean = Stages(tmp_path / "clean")
    clean.submit(*others)
    stages = Stages(tmp_path / "poisoned")

    async def run():
        async with stages.running() as stage:
            await asyncio.gather(
                *(stage.submit(each, 20) for each in [*poisoned, *others])
            )

    asyncio.run(run())
    record = stages.record()
    assert record.support_count == 10_000
    guard = Guard(np.ones(NUM_ADAPTIVE))
    meta_init = ORACLE.parameters.meta_init
    norm = guard.norm(record.weights[np.newaxis], meta_init)
    assert norm <= guard.config.max_norm
    for each in others:
        np.testing.assert_array_equal(
            stages.record(each.key.user_id).weights,
            clean.record(each.key.user_id).weights,
        )
    stages.close()
    clean.close()


def test_weights_that_new_events_speak_against_are_learned_over(stages):
    """A poisoned start is left behind instead of continued from."""
    bad = submission(*((n, "003", 1.0) for n in range(8)))
    stages.submit(bad)
    wrong = ORACLE.parameters.meta_init + np.float32(30.0)
    record = stages.record()
    stages.store.compare_and_put(
        dataclasses.replace(record, sequence=record.sequence + 1, weights=wrong)
    )
    honest = submission(*((100 + n, "003", 0.0) for n in range(8)))
    (outcome,) = stages.submit(honest)
    expected, _, _ = ORACLE.adapt({}, ["003"] * 16, [1.0] * 8 + [0.0] * 8)
    np.testing.assert_allclose(
        outcome.learned.user.weights, expected, atol=1e-5
    )
    name = 'adaptower_guarded_users_total{reason="held_back"}'
    assert stages.metrics.counters()[name] == 1
