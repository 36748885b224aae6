import asyncio
import dataclasses
import threading

import numpy as np
import pytest

from serving.contract.guard import Guard
from serving.contract.support import SupportEvent, merge_support
from serving.errors import (
    BackendRefusalError,
    BackendUnavailableError,
    DeletedUserError,
    LogFullError,
    StoreError,
)
from serving.event_log import LogConfig
from serving.event_log.config import open_event_log
from serving.models.ladder import Ladder
from serving.online.told import encode_told
from serving.protos import recommender_pb2 as pb
from serving.store import MemoryStore, UserKey
from serving.store.config import StoreConfig
from tests.helpers.online_stage import MODEL, Stages, submission
from tests.helpers.patience import until
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle

ORACLES = {seed: ToyOracle.from_seed(seed) for seed in (1, 2)}


@pytest.fixture
def stages(tmp_path):
    stages = Stages(tmp_path)
    yield stages
    stages.close()


def several(start, size, user_id="u"):
    return submission(
        *(
            (n, f"{n % 8:03d}", float(n % 2))
            for n in range(start, start + size)
        ),
        user_id=user_id,
    )


def unlearned(stages):
    return stages.log.status().unlearned


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
    before = stages.record().to_bytes()
    assert unlearned(stages) == 2
    stages.log.ack = acknowledge
    # Leases end with their holder in another process; here, by force.
    stages.log._leases._leases.clear()

    async def run():
        async with stages.running():
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    assert stages.record().to_bytes() == before
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


class TroubledStore(MemoryStore):
    """Fails or refuses writes on demand."""

    def __init__(self):
        super().__init__()
        self.error = None
        self.refusals = 0

    def compare_and_put_many(self, records):
        if self.error is not None:
            raise self.error
        if self.refusals:
            self.refusals -= 1
            return [False] * len(records)
        return super().compare_and_put_many(records)


def test_lost_race_is_run_again(tmp_path):
    stages = Stages(tmp_path, TroubledStore())
    stages.store.refusals = 4
    (outcome,) = stages.submit(several(0, 3))
    assert outcome.learned.user.support_count == 3
    assert unlearned(stages) == 0
    stages.close()


def test_troubled_store_puts_learning_off_and_loses_nothing(tmp_path):
    stages = Stages(tmp_path, TroubledStore())
    stages.store.error = StoreError("the disk is gone")

    async def run():
        async with stages.running() as stage:
            outcome = await stage.submit(several(0, 3), 20)
            assert outcome.entry is not None
            assert outcome.learned is None
            assert unlearned(stages) == 1
            stages.store.error = None
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    assert stages.record().support_count == 3
    stages.close()


def test_model_server_that_is_down_is_tried_ever_less_often(stages):
    run_backend = stages.backend.run
    delays = []

    async def gone(model, request):
        raise BackendUnavailableError("gone")

    async def run():
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noting(delay, callback, *args, **kwargs):
            if callback.__module__.startswith("serving.online"):
                delays.append(delay)
            return call_later(delay, callback, *args, **kwargs)

        loop.call_later = noting
        async with stages.running() as stage:
            stages.backend.run = gone
            first = await stage.submit(several(0, 2), 20)
            second = await stage.submit(several(2, 2), 0)
            assert (first.learned, second.learned) == (None, None)
            await until(lambda: len(delays) >= 6)
            stages.backend.run = run_backend
            await until(lambda: unlearned(stages) == 0)

    asyncio.run(run())
    assert delays[5] > delays[0]
    assert stages.record().support_count == 4


def test_refused_events_are_left_out_and_hold_nobody_up(stages):
    run_backend = stages.backend.run

    async def refuse(model, request):
        if b"poison" in request:
            raise BackendRefusalError("that item is poison")
        return await run_backend(model, request)

    stages.backend.run = refuse
    good = [several(0, 2, f"u{n}") for n in range(20)]
    bad = submission((9, "poison", 1.0), user_id="u7")

    async def run():
        async with stages.running() as stage:
            return await asyncio.gather(
                *(stage.submit(each, 20) for each in [*good, bad]),
                return_exceptions=True,
            )

    *learned, refused = asyncio.run(run())
    assert isinstance(refused, BackendRefusalError)
    assert all(each.learned.user.support_count == 2 for each in learned)
    assert stages.record("u7").support_count == 2
    assert unlearned(stages) == 0
    counters = stages.metrics.counters()
    assert counters["adaptower_left_out_submissions_total"] == 1


def test_deleted_users_events_are_dropped(stages):
    key = UserKey(MODEL, "u")
    # Between log and store, as a worker meets it that read it just before.
    stages.store.delete(key)
    with pytest.raises(DeletedUserError):
        stages.submit(several(0, 2))
    assert unlearned(stages) == 0
    stages.log.delete(key)
    with pytest.raises(DeletedUserError):
        stages.submit(several(2, 2))
    assert stages.record() is None


def test_full_log_refuses_and_the_rest_is_learned(tmp_path):
    log = open_event_log(StoreConfig(), LogConfig(max_entries=3))
    stages = Stages(tmp_path, log=log)
    log.append([several(n, 1, f"u{n}") for n in range(3)])
    with pytest.raises(LogFullError):
        stages.submit(several(9, 1), reads=False)

    async def run():
        async with stages.running() as stage:
            await until(lambda: unlearned(stages) == 0)
            return await stage.submit(several(9, 1), 20)

    assert asyncio.run(run()).learned is not None
    stages.close()


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
    meta_init = ORACLES[1].parameters.meta_init
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
    wrong = ORACLES[1].parameters.meta_init + np.float32(30.0)
    record = stages.record()
    stages.store.compare_and_put(
        dataclasses.replace(record, sequence=record.sequence + 1, weights=wrong)
    )
    honest = submission(*((100 + n, "003", 0.0) for n in range(8)))
    (outcome,) = stages.submit(honest)
    expected, _, _ = ORACLES[1].adapt({}, ["003"] * 16, [1.0] * 8 + [0.0] * 8)
    np.testing.assert_allclose(
        outcome.learned.user.weights, expected, atol=1e-5
    )
    name = 'adaptower_guarded_users_total{reason="held_back"}'
    assert stages.metrics.counters()[name] == 1
