"""A gateway's stages in this process, whose feedback moves the meta state."""

import asyncio
import time

import numpy as np

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.timeline import RANK, arrival_order, timeline
from serving.event_log import LogConfig, LoggedEvent, Submission
from serving.event_log.config import open_event_log
from serving.gateway.batcher import RankBatcher
from serving.gateway.ranker import Ranker
from serving.gateway.scoring import Scoring
from serving.metrics import Metrics
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.adapting import Adapting
from serving.online.learner import Learner
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.stage import OnlineStage
from serving.store import MemoryStore, UserKey, UserRecord
from serving.store.config import StoreConfig
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import NUM_ADAPTIVE, ToyOracle

CONFIG = OnlineMetaConfig(
    tasks_per_update=5,
    held_back_share=0.3,
    held_back_tasks=6,
    min_held_back_tasks=2,
    outer_lr=0.05,
)
ORACLE = ToyOracle.from_seed(0)


class MetaGateway:
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
        scoring = Scoring(RankBatcher(self.backend), 0, Metrics())
        self.ranker = Ranker(self.backend, scoring)

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
