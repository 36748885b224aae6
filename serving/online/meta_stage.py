"""The online outer loop of a gateway: feedback moves the meta state.

Rules and arithmetic are those of `serving.contract`, which the offline
evaluation goes by as well; here is what it takes to run them: collecting
tasks of many users at once, asking the model server, keeping versions.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Sequence

import numpy as np

from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaBatch, MetaTask
from serving.contract.support import SupportEvent
from serving.errors import ServingError
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.models.templates import Features
from serving.online.meta_gradient import meta_gradient
from serving.online.meta_lines import MetaLine, MetaLines
from serving.online.meta_states import MetaStates
from serving.online.told import decode_told, known_features
from serving.store import AdaptiveStore, UserKey, pack_events
from serving.store.packed_events import PackedEvents

# Outcomes of a step. Overtaken: another process took one, or somebody rolled
# back, between its beginning and its end. Deserted: its users, or those who
# judge it, were all deleted.
PROMOTED = "promoted"
REFUSED = "refused"
OVERTAKEN = "overtaken"
DESERTED = "deserted"
FAILED = "failed"

# Users whose records are looked for at a time.
_MAX_USERS = 256
# What a task may hold of a user, packed: events kept and features told. Some
# hundred bytes are usual, two thousand if ids are UUIDs; who has more than
# these is in no task, so that long ids bring no gateway down.
_MAX_TASK_BYTES = 4 << 10

_log = logging.getLogger(__name__)


class MetaStage:
    """Learns meta states; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        store: AdaptiveStore,
        config: OnlineMetaConfig,
        states: MetaStates,
        inline: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets the stage up.

        Args:
            backend: Answers `meta_gradient`.
            store: Knows who was deleted, by whichever process.
            config: When and how far meta states move.
            states: Where versions are kept; closed with the stage.
            inline: Whether callers of `observe` are given the step that their
                events were enough for, to wait for it: the same calls in the
                same order then give the same versions.
            clock: Tells the time in seconds.
        """
        self._backend = backend
        self._store = store
        self._config = config
        self._inline = inline
        self._lines = MetaLines(states, config, clock)
        self._steps: set[asyncio.Task[None]] = set()
        self._on_step: list[Callable[[str, str], None]] = []

    def subscribe(self, on_step: Callable[[str, str], None]) -> None:
        """Has a function called with each step's model and outcome."""
        self._on_step.append(on_step)

    def newest(self, name: str, manifest: AdaptiveManifest) -> MetaState | None:
        """Returns the meta state to serve; None stands for the exported one.

        It is that of the last look, or of a step since.
        """
        progress = self._lines.get(name, manifest).progress
        return progress.history[-1] if progress.history else None

    async def look(self, name: str, manifest: AdaptiveManifest) -> None:
        """Looks what other processes made of a model's meta states.

        Args:
            name: The model.
            manifest: Of a version in use. What is held of those that are not
                is dropped after a while.
        """
        await self._lines.look(name, manifest)

    def observe(
        self,
        model: ServedModel,
        user_id: str,
        told: bytes,
        reservoir: Sequence[SupportEvent],
        count: int,
        new_events: Sequence[SupportEvent],
    ) -> "asyncio.Future[None] | None":
        """Takes note of what a user did; begins a step if it was due.

        A step that fails is logged: it must not fail the user's feedback.

        Args:
            model: The version that learned from the events.
            user_id: The user.
            told: What the user told, as `told.encode_told` encodes it.
            reservoir: The user's kept events before the new ones.
            count: How many events were seen before the new ones.
            new_events: Oldest first.

        Returns:
            The step to wait for, if the stage is inline and one has begun.
        """
        if not self._config.enabled:
            return None
        # Thousands of these wait: as bytes they take a tenth.
        packed = pack_events(reservoir)
        if len(told) + len(packed) > _MAX_TASK_BYTES:
            return None
        line = self._lines.get(model.name, model.manifest)
        batch = line.collector.observe(
            user_id, told, PackedEvents(packed), count, new_events
        )
        if batch is None:
            return None
        step = asyncio.create_task(self._step(model, line, batch))
        self._steps.add(step)
        step.add_done_callback(self._steps.discard)
        # A caller who hangs up does not end the step.
        return asyncio.shield(step) if self._inline else None

    def forget(self, user_id: str) -> None:
        """Drops what is collected of a user who was deleted."""
        for line in self._lines:
            line.collector.forget(user_id)

    async def forget_gone(self) -> None:
        """Drops what is collected of users without a record.

        Other gateways deleted them, or they have expired. A step leaves them
        out in any case; this is for those who wait long for one.

        Raises:
            StoreError: Records can't be read.
        """
        for line in self._lines:
            gone = await self._gone(line.model, line.collector.user_ids)
            for user_id in gone:
                line.collector.forget(user_id)

    async def forget_gone_forever(self, seconds: float) -> None:
        """Does so from time to time until cancelled."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.forget_gone()
            except ServingError as error:
                _log.warning("Who is gone is forgotten later: %s", error)

    async def close(self) -> None:
        """Waits for steps that are being taken, then lets go of versions."""
        await asyncio.gather(*self._steps)
        self._lines.close()

    async def _gone(self, name: str, user_ids: Collection[str]) -> set[str]:
        """Returns those of a model's users who have no record."""
        gone = set[str]()
        left = iter(user_ids)
        while some := list(itertools.islice(left, _MAX_USERS)):
            records = await asyncio.to_thread(
                self._store.get_many, [UserKey(name, each) for each in some]
            )
            gone.update(
                user_id
                for user_id, record in zip(some, records, strict=True)
                if record is None
            )
        return gone

    async def _step(
        self,
        model: ServedModel,
        line: MetaLine,
        batch: MetaBatch[bytes],
    ) -> None:
        outcome = FAILED
        async with line.lock:
            try:
                outcome = await self._locked_step(model, line, batch)
            except ServingError as error:
                _log.warning(
                    "%s: the meta state stays as it is: %s", model.name, error
                )
            except Exception:
                _log.exception("%s: the meta state stays as is", model.name)
        for on_step in self._on_step:
            on_step(model.name, outcome)

    async def _locked_step(
        self,
        model: ServedModel,
        line: MetaLine,
        batch: MetaBatch[bytes],
    ) -> str:
        # Whoever was deleted before the step begins has no part in it.
        batch = batch.without(await self._gone(model.name, batch.user_ids))
        if not batch.tasks or not batch.held_back:
            return DESERTED
        tasks, held_back = (
            [_with_features(model, task) for task in each]
            for each in (batch.tasks, batch.held_back)
        )
        # Not as they may be at the end: a rollback meanwhile overtakes us.
        before, stamp = line.progress, line.stamp
        step = before.propose(
            await meta_gradient(self._backend, model, tasks, before.current),
            self._config,
        )
        losses_before, losses_after = [
            (await meta_gradient(self._backend, model, held_back, state)).losses
            for state in (before.current, step.candidate)
        ]
        after = before.judge(step, losses_before, losses_after, self._config)
        if not await self._lines.save(line, after, stamp):
            return OVERTAKEN
        outcome = PROMOTED if after.promoted > before.promoted else REFUSED
        _log.info(
            "%s: meta state %d %s, held-back loss %.5f after %.5f",
            model.name,
            step.candidate.version,
            outcome,
            float(np.mean(losses_after)),
            float(np.mean(losses_before)),
        )
        return outcome


def _with_features(
    model: ServedModel, task: MetaTask[bytes]
) -> MetaTask[Features]:
    """Decodes what a task's user told."""
    features = known_features(decode_told(task.context), model.user_features)
    return MetaTask(task.user_id, features, task.support, task.query_set)
