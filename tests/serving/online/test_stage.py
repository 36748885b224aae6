"""What users hand in, up to the weights that are stored."""

import asyncio
import threading

import numpy as np
import pytest

from serving.contract.support import SupportEvent, merge_support
from serving.models.ladder import Ladder
from serving.online.told import encode_told
from serving.protos import recommender_pb2 as pb
from serving.store.record_bytes import encode_record
from tests.helpers.online_stage import (
    MODEL,
    Stages,
    several,
    submission,
    unlearned,
)
from tests.helpers.patience import until
from tests.helpers.toy_model import ToyOracle

ORACLES = {seed: ToyOracle.from_seed(seed) for seed in (1, 2)}


def test_stored_weights_equal_the_oracle_over_several_submissions(stages):
    batches = [several(9 * n, 9) for n in range(4)]
    outcomes = stages.submit(*batches)
    weights, reservoir, count = None, (), 0
    for batch, outcome in zip(batches, outcomes, strict=True):
        new = [SupportEvent(e.item_id, e.label) for e in batch.events]
        support = merge_support(reservoir, new, count, 16)
        reservoir, count = support.reservoir, support.count
        weights, before, after = ORACLES[1].adapt(
            {},
            [e.item_id for e in support.events],
            [e.label for e in support.events],
            None,
            weights,
        )
        assert outcome.learned.losses == pytest.approx(
            (before, after), abs=1e-5
        )
    record = stages.record()
    np.testing.assert_allclose(record.weights, weights, atol=1e-5)
    assert (record.support_count, record.sequence) == (36, 4)
    assert record.reservoir == reservoir
    assert record.log_position == outcomes[-1].entry.position
    assert unlearned(stages) == 0


def test_users_learned_together_equal_each_alone(stages, tmp_path):
    """Of other support sizes and features; some share a call, some don't."""
    features = [
        {"age": pb.FeatureValues(numbers=pb.NumberList(values=[20.0 + n]))}
        for n in range(40)
    ]
    together = [
        submission(
            *((i, f"{(i * n) % 8:03d}", float(i % 2)) for i in range(1 + n)),
            user_id=f"u{n}",
            features=encode_told(features[n]),
        )
        for n in range(40)
    ]

    async def run():
        async with stages.running() as stage:
            await asyncio.gather(*(stage.submit(s, 20) for s in together))

    asyncio.run(run())
    assert stages.backend.calls.count("adapt") < len(together)
    for number, each in enumerate(together):
        expected, _, _ = ORACLES[1].adapt(
            {"age": 20.0 + number},
            [e.item_id for e in each.events],
            [e.label for e in each.events],
        )
        record = stages.record(each.key.user_id)
        np.testing.assert_allclose(record.weights, expected, atol=1e-5)
        assert record.features == each.features


def test_known_events_are_not_learned_from_again(stages):
    first, again = stages.submit(several(0, 2), several(0, 2))
    assert first.learned.accepted == {first.entry.position: 2}
    assert (again.entry, again.learned) == (None, None)
    assert stages.backend.calls == ["adapt"]


def test_features_told_once_are_used_until_others_are_told(stages):
    age = {"age": pb.FeatureValues(numbers=pb.NumberList(values=[40.0]))}
    stages.submit(
        submission((1, "001", 1.0), features=encode_told(age)),
        submission((2, "002", 0.0), features=encode_told({}, True)),
    )
    weights = None
    for items, labels in ((["001"], [1.0]), (["001", "002"], [1.0, 0.0])):
        weights, _, _ = ORACLES[1].adapt(
            {"age": 40.0}, items, labels, weights=weights
        )
    np.testing.assert_allclose(stages.record().weights, weights, atol=1e-5)


def test_entries_delivered_again_count_once(stages):
    """As after a crash between storing weights and acknowledging."""
    acknowledge = stages.log.ack
    stages.log.ack = lambda entries: None
    stages.submit(several(0, 3), several(3, 3), reads=False)
    before = encode_record(stages.record())
    assert unlearned(stages) == 2
    stages.log.ack = acknowledge
    # Leases end with their holder in another process; here, by force.
    stages.log._deliveries._leases._leases.clear()

    async def run():
        async with stages.running():
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    assert encode_record(stages.record()) == before
    assert stages.backend.calls == ["adapt"] * 2


def test_entries_left_by_another_process_are_read_and_learned(stages):
    stages.log.append([several(n, 1, f"u{n % 50}") for n in range(300)])

    async def run():
        async with stages.running():
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    for number in range(50):
        assert stages.record(f"u{number}").support_count == 6
    # Each user's entries were merged, and the users batched.
    assert stages.backend.calls.count("adapt") < 50


def test_simultaneous_submissions_of_one_user_are_all_counted(stages):
    async def run():
        async with stages.running() as one, stages.running() as other:
            await asyncio.gather(
                *(
                    (one, other)[n % 2].submit(several(n % 20, 1), 20)
                    for n in range(60)
                )
            )
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    record = stages.record()
    assert record.support_count == 20
    assert len(record.reservoir) == 16


def test_whoever_does_not_wait_has_them_learned_all_the_same(stages):
    async def run():
        async with stages.running() as stage:
            outcome = await stage.submit(several(0, 2))
            assert outcome.learned is None
            await until(lambda: stages.record() is not None)

    asyncio.run(run())
    assert stages.record().support_count == 2


def test_closing_learns_what_was_taken_in(stages):
    async def run():
        async with stages.running(reads=False) as stage:
            await asyncio.gather(
                *(stage.submit(several(0, 2, f"u{n}")) for n in range(600))
            )

    asyncio.run(run())
    assert unlearned(stages) == 0
    assert sum(1 for _ in stages.store.iterate(MODEL)) == 600


def test_nothing_is_claimed_after_a_read_that_closing_cut_short(stages):
    """Nobody holds what that gave, which must not be learned later."""
    read = stages.log.read
    reading, goes_on = threading.Event(), threading.Event()

    def slow_read(*arguments):
        found = read(*arguments)
        reading.set()
        goes_on.wait(20)
        return found

    async def run():
        stages.log.append([several(0, 1)])
        stages.log.read = slow_read
        async with stages.running() as stage:
            await asyncio.to_thread(reading.wait, 20)
            await stage.close(5)
            goes_on.set()
            assert not (await stage.submit(several(1, 1))).entry.claimed

    asyncio.run(run())
    assert (stages.record(), unlearned(stages)) == (None, 2)


def test_kept_events_are_learned_again_for_a_new_fixed_part(tmp_path):
    first = Stages(tmp_path)
    first.submit(submission(*((n, "001", 1.0) for n in range(5))))
    second = Stages(tmp_path, first.store, first.log, versions=(1, 2))
    (outcome,) = second.submit(submission((9, "002", 0.0)))
    expected, _, _ = ORACLES[2].adapt(
        {}, ["001"] * 5 + ["002"], [1.0] * 5 + [0.0]
    )
    user = outcome.learned.user
    np.testing.assert_allclose(user.weights, expected, atol=1e-5)
    assert user.support_count == 6
    state = Ladder().state_of(outcome.learned.model, second.record())
    assert state.hit
    first.close()
