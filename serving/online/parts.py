"""What learns, put together: for a gateway behind its RPCs, or a worker."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

from serving.contract.meta_config import OnlineMetaConfig
from serving.event_log import EventLog
from serving.event_log.config import open_event_log
from serving.experiments.config import (
    ExperimentsConfig,
    check_models,
    load_experiments,
)
from serving.metrics import Metrics
from serving.models.backend import ModelServer
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.adapting import Adapting
from serving.online.learner import Learner
from serving.online.learning_config import LearningConfig
from serving.online.meta_stage import MetaStage
from serving.online.meta_stage_config import INLINE, OFF, open_meta_states
from serving.online.stage import OnlineStage
from serving.online.stragglers import Stragglers
from serving.online.upkeep import upkeep
from serving.store import AdaptiveStore
from serving.store.config import open_store

# So long may what another gateway deleted stay in this one's memory.
_FORGET_SECONDS = 600.0


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The parts, made for each other; they live inside one event loop.

    Attributes:
        store: The users' weights.
        log: The users' events.
        backend: The model server.
        metrics: What counts.
        experiments: What is tried on users; None: nothing.
        meta_stage: Learns what new users start from.
        registry: The models.
        ladder: Says which weights apply for a user.
        stage: Learns from the log.
        stragglers: Users to learn again for the version that met them.
    """

    store: AdaptiveStore
    log: EventLog
    backend: ModelServer
    metrics: Metrics
    experiments: ExperimentsConfig | None
    meta_stage: MetaStage
    registry: ModelRegistry
    ladder: Ladder
    stage: OnlineStage
    stragglers: Stragglers


def make_parts(
    config: LearningConfig,
    store: AdaptiveStore,
    log: EventLog,
    backend: ModelServer,
    experiments: ExperimentsConfig | None = None,
    read_wait_seconds: float = 0.0,
) -> Parts:
    """Puts the parts together.

    Args:
        config: What the flags say.
        store: The users' weights.
        log: The users' events.
        backend: The model server.
        experiments: What is tried on users; None: nothing.
        read_wait_seconds: See `OnlineStage`.

    Raises:
        StoreError: Where meta states are kept can't be reached.
    """
    metrics = Metrics()
    meta_stage = MetaStage(
        backend,
        store,
        OnlineMetaConfig(enabled=config.meta.mode != OFF),
        open_meta_states(config.store, config.meta.folder),
        inline=config.meta.mode == INLINE,
    )
    registry = ModelRegistry(
        backend, config.models, config.default_model, meta_stage
    )
    meta_stage.subscribe(lambda name, _: registry.renew(name))
    meta_stage.subscribe(metrics.count_meta_step)
    adapting = Adapting(
        backend, config.weights_dtype, on_guard=metrics.count_guarded
    )
    stragglers = Stragglers(adapting, store, log, metrics.count_relearned)
    ladder = Ladder(config.decay_half_life_days, stragglers.meet)
    learner = Learner(
        adapting,
        store,
        log,
        ladder,
        registry,
        experiments.experiments if experiments else (),
        meta_stage,
    )
    stage = OnlineStage(log, learner, metrics, read_wait_seconds)
    return Parts(
        store,
        log,
        backend,
        metrics,
        experiments,
        meta_stage,
        registry,
        ladder,
        stage,
        stragglers,
    )


@contextlib.asynccontextmanager
async def open_parts(
    config: LearningConfig, read_wait_seconds: float = 0.0
) -> AsyncIterator[Parts]:
    """Opens all that the flags name; closes it at the end.

    Whoever uses the stage closes it first: it still needs the others.

    Raises:
        LaunchError: A file can't be used.
        StoreError: The store can't be opened.
        EventLogError: The log can't be opened.
    """
    async with contextlib.AsyncExitStack() as stack:
        experiments = (
            load_experiments(config.experiments) if config.experiments else None
        )
        if experiments is not None:
            check_models(experiments, config.models, config.default_model)
        store = stack.enter_context(open_store(config.store))
        log = stack.enter_context(open_event_log(config.store, config.log))
        stack.enter_context(upkeep(store, log))
        backend = ModelServer(
            config.backend,
            config.backend_timeout_seconds,
            config.backend_tls,
        )
        stack.push_async_callback(backend.close)
        parts = make_parts(
            config, store, log, backend, experiments, read_wait_seconds
        )
        stack.push_async_callback(parts.meta_stage.close)
        stack.push_async_callback(parts.stragglers.close)
        forgetting = asyncio.create_task(
            parts.meta_stage.forget_gone_forever(_FORGET_SECONDS)
        )
        stack.callback(forgetting.cancel)
        yield parts
