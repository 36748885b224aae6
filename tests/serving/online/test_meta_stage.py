"""Feedback through both online stages against the stream's closed form."""

import asyncio
import contextlib
import dataclasses
import threading
import time

import numpy as np
import pytest

from serving.contract.guard import Guard
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.online_stream import score_online
from serving.contract.timeline import RANK, arrival_order, timeline
from serving.errors import BackendUnavailableError
from serving.event_log import LogConfig, LoggedEvent, Submission
from serving.event_log.config import open_event_log
from serving.gateway.ranker import Ranker
from serving.metrics import Metrics
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.adapting import Adapting
from serving.online.learner import Learner
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_files import MetaStateFiles
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.meta_state_redis import RedisMetaStates
from serving.online.meta_states import roll_back
from serving.online.stage import OnlineStage
from serving.online.told import encode_told
from serving.protos import recommender_pb2 as pb
from serving.shared_reads import SharedReads
from serving.store import MemoryStore, UserKey, UserRecord
from serving.store.config import StoreConfig
from tests.helpers.hanging_file import hanging
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.redis_server import RunningRedis
from tests.helpers.stream_users import OracleModel, make_users
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle

CONFIG = OnlineMetaConfig(
    tasks_per_update=5,
    held_back_share=0.3,
    held_back_tasks=6,
    min_held_back_tasks=2,
    outer_lr=0.05,
)
ORACLE = ToyOracle.from_seed(0)
GUARD = Guard(np.ones(NUM_ADAPTIVE))


class Gateway:
    """Stages, ranker and registry, as `serve` puts them together."""

    def __init__(
        self, base_path, config=CONFIG, states=None, inline=True, clock=None
    ):
        manifest = ORACLE.parameters.manifest()
        manifest.save(base_path / "1")
        self.backend = OracleBackend({1: ORACLE})
        self.store = MemoryStore()
        self.states = states or MemoryMetaStates()
        self.stage = MetaStage(
            self.backend,
            self.store,
            config,
            self.states,
            inline,
            clock or time.monotonic,
        )
        self.registry = ModelRegistry(
            self.backend,
            {"adaptower": base_path},
            "adaptower",
            self.stage,
        )
        self.outcomes = []
        self.stage.subscribe(lambda name, _: self.registry.renew(name))
        self.stage.subscribe(lambda _, outcome: self.outcomes.append(outcome))
        self.ladder = Ladder()
        self.log = open_event_log(StoreConfig(), LogConfig())
        self.ranker = Ranker(self.backend)

    @property
    def progress(self):
        """What is kept of the one fixed part that there is."""
        ((name, fingerprint),) = self.states.known()
        return self.states.load(name, fingerprint)[0]

    @property
    def meta_state(self):
        return self.registry.resolve().meta_state

    def know(self, user_id):
        """Gives somebody a record without a lesson."""
        assert self.store.compare_and_put(
            UserRecord(
                key=UserKey("adaptower", user_id),
                fingerprint=bytes(8),
                sequence=1,
                support_count=0,
                weights=np.zeros(NUM_ADAPTIVE, np.float32),
                reservoir=(),
                updated_ms=0,
            )
        )

    async def learn(self, user, rows):
        submission = Submission(
            UserKey("adaptower", user.user_id),
            tuple(
                LoggedEvent(str(row), user.item_ids[row], user.labels[row])
                for row in rows
            ),
        )
        learner = Learner(
            Adapting(self.backend),
            self.store,
            self.log,
            self.ladder,
            self.registry,
            (),
            self.stage,
        )
        online = OnlineStage(self.log, learner, Metrics())
        submitted = await online.submit(submission, 20)
        await online.close(1)
        return submitted.learned

    async def rank(self, user, rows):
        model = self.registry.resolve()
        state = await self.ladder.read(self.store, model, user.user_id)
        items = [user.item_ids[row] for row in rows]
        return (await self.ranker.rank(model, state, items, {})).scores

    async def replay(self, users):
        """Scores of each user, in the order of the calls of a stream."""
        await self.registry.refresh()
        ordered = [users[index] for index in arrival_order(users)]
        scores = {user.user_id: [] for user in users}
        for step in timeline(ordered):
            user = ordered[step.arrival]
            if step.kind == RANK:
                scores[user.user_id] += list(await self.rank(user, step.rows))
            else:
                await self.learn(user, step.rows)
        # Steps in the background.
        await asyncio.gather(*self.stage._steps)
        return [scores[user.user_id] for user in users]


@pytest.fixture(scope="module")
def users():
    return make_users(14)


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
    gateway = Gateway(tmp_path)
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
    gateway = Gateway(tmp_path, inline=False)
    asyncio.run(gateway.replay(users))
    progress = gateway.progress
    steps = progress.promoted + progress.refused
    assert steps == expected.progress.promoted + expected.progress.refused
    assert gateway.meta_state.version == progress.current.version > 0


def test_switched_off_it_asks_for_no_gradient(users, tmp_path):
    gateway = Gateway(tmp_path, dataclasses.replace(CONFIG, enabled=False))
    asyncio.run(gateway.replay(users[:4]))
    assert "meta_gradient" not in gateway.backend.calls
    assert gateway.meta_state.version == 0


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
    gateway = Gateway(tmp_path, states=open_states())
    asyncio.run(gateway.replay(users))
    newest = gateway.meta_state
    again = Gateway(tmp_path, states=open_states())
    asyncio.run(again.registry.refresh())
    assert again.meta_state.version == newest.version > 0
    assert again.meta_state.same_values(newest)


def test_a_number_means_the_same_values_in_all_gateways(
    users, tmp_path, open_states
):
    """Two that learn in turn, each from its own users, share one line."""
    one, other = (Gateway(tmp_path, states=open_states()) for _ in range(2))
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
    gateway = Gateway(tmp_path, states=states)
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


def test_a_rollback_reaches_all_running_gateways(users, tmp_path, open_states):
    states = open_states()
    gateway = Gateway(tmp_path, states=states)
    other = Gateway(tmp_path, states=open_states())
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
    asyncio.run(Gateway(tmp_path, states=open_states()).replay(users))
    gateway = Gateway(tmp_path, states=states)
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

    gateway = Gateway(tmp_path, states=Hanging())
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
    asyncio.run(Gateway(tmp_path, states=files).replay(users))
    gateway = Gateway(tmp_path, states=files)
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
    other = Gateway(tmp_path, states=open_states())
    save = states.save

    def save_later(model, fingerprint, progress, expected):
        """Lets the other gateway be quicker once."""
        if expected is None:
            asyncio.run(other.replay(users))
        return save(model, fingerprint, progress, expected)

    states.save = save_later
    mine = Gateway(tmp_path, states=states)
    asyncio.run(mine.replay(users[:9]))
    asyncio.run(mine.registry.refresh())
    saved, _ = states.load("adaptower", ORACLE.parameters.fingerprint)
    assert mine.meta_state.version == saved.current.version
    assert saved.current.version >= other.meta_state.version
    assert mine.outcomes[0] == "overtaken"


def test_a_failing_model_server_fails_no_feedback(users, tmp_path, caplog):
    gateway = Gateway(tmp_path)
    predict = gateway.backend.predict

    async def fail(model, version, signature, inputs):
        if signature == "meta_gradient":
            raise BackendUnavailableError("gone")
        return await predict(model, version, signature, inputs)

    gateway.backend.predict = fail
    scores = asyncio.run(gateway.replay(users))
    assert len(scores) == len(users)
    assert gateway.meta_state.version == 0
    assert "stays as it is: gone" in caplog.text
    assert set(gateway.outcomes) == {"failed"}


def test_a_deleted_user_is_in_no_later_step(users, tmp_path):
    gateway = Gateway(tmp_path)
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


def test_a_step_without_any_users_left_is_none(users, tmp_path):
    gateway = Gateway(tmp_path)

    async def run():
        await gateway.registry.refresh()
        model = gateway.registry.resolve()
        steps = []
        for user in users:
            gateway.know(user.user_id)
            gateway.store.delete(UserKey("adaptower", user.user_id))
            events = user.events(range(20))
            steps.append(
                gateway.stage.observe(
                    model, user.user_id, b"", events[:10], 10, events[10:]
                )
            )
        await asyncio.gather(*filter(None, steps))

    asyncio.run(run())
    assert set(gateway.outcomes) == {"deserted"}
    assert "meta_gradient" not in gateway.backend.calls
    assert gateway.meta_state.version == 0


def test_features_of_different_lengths_are_sent_together(users, tmp_path):
    """Gradients are sums, so those of the users alone must add up."""
    gateway = Gateway(tmp_path)
    answers = {}
    predict = gateway.backend.predict

    async def note(model, version, signature, inputs):
        outputs = await predict(model, version, signature, inputs)
        if signature == "meta_gradient":
            answers.setdefault(len(outputs["loss"]), []).append(
                (inputs, outputs)
            )
        return outputs

    gateway.backend.predict = note
    tags = ([], ["drama"], ["war", "comedy", "drama"])

    async def run():
        await gateway.registry.refresh()
        model = gateway.registry.resolve()
        for number, user in enumerate(users):
            values = pb.StringList(values=tags[number % 3])
            told = encode_told({"tags": pb.FeatureValues(strings=values)})
            events = user.events(range(20))
            gateway.know(user.user_id)
            step = gateway.stage.observe(
                model, user.user_id, told, events[:10], 10, events[10:]
            )
            if step is not None:
                await step

    asyncio.run(run())
    (inputs, outputs), *_ = answers[CONFIG.tasks_per_update]
    assert [d.size for d in inputs["tags"].tensor_shape.dim] == [5, 3]
    assert np.isfinite(outputs["loss"]).all()
