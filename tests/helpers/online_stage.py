"""An online stage in this process, taught by the toy's oracle."""

import asyncio
import contextlib

from serving.contract.meta_config import OnlineMetaConfig
from serving.event_log import LogConfig, LoggedEvent, Submission
from serving.event_log.config import open_event_log
from serving.metrics import Metrics
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.adapting import Adapting
from serving.online.learner import Learner
from serving.online.meta_stage import MetaStage
from serving.online.meta_state_memory import MemoryMetaStates
from serving.online.stage import OnlineStage
from serving.store import MemoryStore, UserKey
from serving.store.config import StoreConfig
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.toy_model import ToyOracle

MODEL = "adaptower"


class Stages:
    """What makes online stages; they share all but their event loop.

    Attributes:
        backend: What stands in for the model server.
        store: Users' weights.
        log: Users' events.
        metrics: Of the stage that runs.
    """

    def __init__(self, base_path, store=None, log=None, versions=(1,)):
        self.backend = OracleBackend(
            {version: ToyOracle.from_seed(version) for version in versions}
        )
        for version, oracle in self.backend.versions.items():
            oracle.parameters.manifest().save(base_path / str(version))
        self._base_path = base_path
        self.store = store or MemoryStore()
        self.log = log or open_event_log(StoreConfig(), LogConfig())

    @contextlib.asynccontextmanager
    async def running(self, dtype="float32", reads=True):
        """Gives a stage that learns until the block ends."""
        self.metrics = Metrics()
        registry = ModelRegistry(self.backend, {MODEL: self._base_path}, MODEL)
        with self.backend.sound():
            await registry.refresh()
        learner = Learner(
            Adapting(self.backend, dtype, self.metrics.count_guarded),
            self.store,
            self.log,
            Ladder(),
            registry,
            (),
            MetaStage(
                self.backend,
                self.store,
                OnlineMetaConfig(enabled=False),
                MemoryMetaStates(),
            ),
        )
        stage = OnlineStage(self.log, learner, self.metrics)
        if reads:
            stage.start()
        yield stage
        await stage.close(5)

    def submit(self, *submissions, **options):
        """Submits one after the other; returns what each changed."""

        async def run():
            async with self.running(**options) as stage:
                return [
                    await stage.submit(submission, 20)
                    for submission in submissions
                ]

        return asyncio.run(run())

    def record(self, user_id="u"):
        """What is stored of a user."""
        return self.store.get(UserKey(MODEL, user_id))

    def close(self):
        """Releases the log."""
        self.log.close()


def submission(*events, user_id="u", features=b""):
    """What a user hands in; events are (id, item, label)."""
    return Submission(
        UserKey(MODEL, user_id),
        tuple(LoggedEvent(str(i), item, label) for i, item, label in events),
        features,
    )


def several(start, size, user_id="u"):
    """A submission of events in a row, of the toy's items in turn."""
    return submission(
        *(
            (n, f"{n % 8:03d}", float(n % 2))
            for n in range(start, start + size)
        ),
        user_id=user_id,
    )


def unlearned(stages):
    """How many submissions wait in the log."""
    return stages.log.status().unlearned
