"""One line of meta states in all gateways that share its record."""

import asyncio
import contextlib
import dataclasses
import threading

import numpy as np
import pytest

from serving.contract.support import SupportEvent
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_files import MetaStateFiles
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.meta_state_redis import RedisMetaStates
from serving.online.meta_states import roll_back
from serving.shared_reads import SharedReads
from serving.store import MemoryStore
from tests.helpers.hanging_file import hanging
from tests.helpers.meta_gateway import CONFIG, ORACLE, MetaGateway
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.redis_server import RunningRedis


@pytest.fixture(params=["folder", "redis"])
def open_states(request, tmp_path):
    """Opens the place that gateways share, for one more of them."""
    with contextlib.ExitStack() as stack:
        if request.param == "folder":
            yield lambda: MetaStateFiles(tmp_path / "states")
            return
        server = RunningRedis()
        stack.callback(server.close)

        def open_redis():
            states = RedisMetaStates(server.config())
            stack.callback(states.close)
            return states

        yield open_redis


def test_a_restarted_gateway_goes_on_from_its_versions(
    users, tmp_path, open_states
):
    gateway = MetaGateway(tmp_path, states=open_states())
    asyncio.run(gateway.replay(users))
    newest = gateway.meta_state
    again = MetaGateway(tmp_path, states=open_states())
    asyncio.run(again.registry.refresh())
    assert again.meta_state.version == newest.version > 0
    assert again.meta_state.same_values(newest)


def test_a_number_means_the_same_values_in_all_gateways(
    users, tmp_path, open_states
):
    """Two that learn in turn, each from its own users, share one line."""
    one, other = (MetaGateway(tmp_path, states=open_states()) for _ in range(2))
    found = {}

    async def run():
        for start in range(0, len(users), 2):
            for gateway, user in zip((one, other), users[start:], strict=False):
                await gateway.replay([user])
                for each in (one, other):
                    await each.registry.refresh()
                    state = each.meta_state
                    known = found.setdefault(state.version, state)
                    assert known.same_values(state)
            assert one.meta_state.version == other.meta_state.version

    asyncio.run(run())
    assert len(found) > 2
    for gateway in (one, other):
        assert "promoted" in gateway.outcomes


def test_versions_of_another_export_are_not_served(
    users, tmp_path, open_states
):
    """The same fixed part, exported anew with another meta state."""
    states = open_states()
    gateway = MetaGateway(tmp_path, states=states)
    asyncio.run(gateway.replay(users))
    manifest = ORACLE.parameters.manifest()
    other = dataclasses.replace(manifest, meta_init=(0.0,) * 5)
    for served, is_known in ((manifest, True), (other, False)):
        stage = MetaStage(OracleBackend({}), MemoryStore(), CONFIG, states)
        asyncio.run(stage.look("adaptower", served))
        assert (stage.newest("adaptower", served) is not None) == is_known
    # A gateway that ran meanwhile does not serve them, either.
    asyncio.run(gateway.stage.look("adaptower", other))
    assert gateway.stage.newest("adaptower", other) is None


def test_two_exports_of_one_fixed_part_keep_their_tasks(tmp_path):
    """Model servers keep the version before: both are looked at each time."""
    gateway = MetaGateway(tmp_path)
    asyncio.run(gateway.registry.refresh())
    manifest = gateway.registry.resolve().manifest
    anew = [value + 0.125 for value in manifest.meta_init]
    dataclasses.replace(manifest, meta_init=anew).save(tmp_path / "2")
    gateway.backend.versions = {1: ORACLE, 2: ORACLE}

    async def run():
        await gateway.registry.refresh()
        model = gateway.registry.resolve()
        assert model.version == 2
        events = [SupportEvent("001", 1.0)] * 3
        gateway.stage.observe(model, "u", b"", events, 3, events)
        await gateway.registry.refresh()
        return gateway.stage._lines.get(model.name, model.manifest).collector

    assert asyncio.run(run()).user_ids == {"u"}


def test_a_rollback_reaches_all_running_gateways(users, tmp_path, open_states):
    states = open_states()
    gateway = MetaGateway(tmp_path, states=states)
    other = MetaGateway(tmp_path, states=open_states())
    fingerprint = ORACLE.parameters.fingerprint

    async def run():
        await gateway.replay(users)
        newest = gateway.meta_state.version
        roll_back(states, "adaptower", fingerprint, 1)
        assert gateway.meta_state.version == newest
        for each in (gateway, other):
            await each.registry.refresh()
            assert each.meta_state.version == 1
        roll_back(states, "adaptower", fingerprint, 0)
        for each in (gateway, other):
            await each.registry.refresh()
            assert each.meta_state.same_values(ORACLE.parameters.meta_state)

    asyncio.run(run())


def test_a_rollback_during_a_step_overtakes_it(users, tmp_path, open_states):
    """Even if the gateway has noticed it before the step is at its end."""
    states = open_states()
    fingerprint = ORACLE.parameters.fingerprint
    asyncio.run(MetaGateway(tmp_path, states=open_states()).replay(users))
    gateway = MetaGateway(tmp_path, states=states)
    predict = gateway.backend.predict
    versions = []

    async def roll_back_meanwhile(model, version, signature, inputs):
        outputs = await predict(model, version, signature, inputs)
        if signature == "meta_gradient" and not versions:
            versions.append(gateway.meta_state.version)
            roll_back(states, "adaptower", fingerprint, 1)
            await gateway.registry.refresh()
            versions.append(gateway.meta_state.version)
        return outputs

    def note_saved(*unused):
        saved, _ = states.load("adaptower", fingerprint)
        versions.append(saved.current.version)

    gateway.backend.predict = roll_back_meanwhile
    gateway.stage.subscribe(note_saved)
    asyncio.run(gateway.replay(users))
    assert gateway.outcomes[0] == "overtaken"
    before, *after = versions[:3]
    assert before > 1
    assert after == [1, 1]


def test_save_that_hangs_fails_its_step_and_holds_nobody_up(users, tmp_path):
    answer, saves = threading.Event(), []

    class Hanging(MemoryMetaStates):
        def save(self, *record):
            saves.append(record)
            answer.wait()
            return super().save(*record)

    gateway = MetaGateway(tmp_path, states=Hanging())
    gateway.stage._lines._reads = SharedReads(0.05)
    # What waits for it all the same comes to another outcome.
    late = threading.Timer(60.0, answer.set)
    late.start()

    async def run():
        await gateway.replay(users)
        await gateway.stage.close()

    asyncio.run(run())
    late.cancel()
    answer.set()
    assert set(gateway.outcomes) == {"failed"}
    assert len(gateway.outcomes) > len(saves) == 1


def test_file_that_hangs_leaves_the_meta_state_as_it_is(users, tmp_path):
    files = MetaStateFiles(tmp_path / "states")
    asyncio.run(MetaGateway(tmp_path, states=files).replay(users))
    gateway = MetaGateway(tmp_path, states=files)
    (path,) = tmp_path.glob("states/*/*.json")

    async def run():
        await gateway.registry.refresh()
        newest = gateway.meta_state
        assert newest.version > 0
        with hanging(path):
            looking = asyncio.create_task(gateway.registry.refresh())
            # The loop goes on, and ranks with what is known.
            scores = await gateway.rank(users[0], range(5))
            assert np.isfinite(scores).all()
            await looking
            assert gateway.meta_state.version == newest.version

    asyncio.run(run())


def test_who_loses_a_race_takes_over_the_other_ones_version(
    users, tmp_path, open_states
):
    states = open_states()
    other = MetaGateway(tmp_path, states=open_states())
    save = states.save

    def save_later(model, fingerprint, progress, expected):
        """Lets the other gateway be quicker once."""
        if expected is None:
            asyncio.run(other.replay(users))
        return save(model, fingerprint, progress, expected)

    states.save = save_later
    mine = MetaGateway(tmp_path, states=states)
    asyncio.run(mine.replay(users[:9]))
    asyncio.run(mine.registry.refresh())
    saved, _ = states.load("adaptower", ORACLE.parameters.fingerprint)
    assert mine.meta_state.version == saved.current.version
    assert saved.current.version >= other.meta_state.version
    assert mine.outcomes[0] == "overtaken"
