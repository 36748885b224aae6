"""Store, model server and log in trouble: nothing is lost, nobody held up."""

import asyncio

import pytest

from serving.errors import (
    BackendRefusalError,
    BackendUnavailableError,
    DeletedUserError,
    LogFullError,
    StoreError,
)
from serving.event_log import LogConfig, LoggedEvent, Submission
from serving.event_log.config import open_event_log
from serving.store import MemoryStore, UserKey
from serving.store.config import StoreConfig
from tests.helpers.online_stage import (
    MODEL,
    Stages,
    several,
    submission,
    unlearned,
)
from tests.helpers.patience import until


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


def test_model_that_is_gone_holds_up_nobody_of_another(stages):
    # Of an experiment that has ended: its last events were never learned.
    gone = Submission(
        UserKey("candidate", "u2"), (LoggedEvent("1", "001", 1.0),)
    )
    others = [several(0, 3, f"u{n}") for n in range(6)]

    async def run():
        # The first two leave alone, those behind them together.
        stages.log.append([*others[:2], gone, *others[2:]])
        async with stages.running():
            await until(lambda: unlearned(stages) == 1)

    asyncio.run(run())
    counts = {stages.record(e.key.user_id).support_count for e in others}
    assert counts == {3}
