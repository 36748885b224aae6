"""The online outer loop of a gateway: feedback moves the meta state.

Rules and arithmetic are those of `serving.contract`, which the offline
evaluation goes by as well; here tasks of many users are collected at once,
and a step begins when there are enough of them. `meta_stepping` takes it,
`meta_lines` keeps the versions.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaBatch
from serving.contract.support import SupportEvent
from serving.errors import ServingError
from serving.models.backend import ModelServer
from serving.models.served_model import ServedModel
from serving.online.gone import users_gone
from serving.online.meta_lines import MetaLine, MetaLines
from serving.online.meta_states import MetaStates
from serving.online.meta_stepping import MetaStepping
from serving.store import AdaptiveStore, pack_events
from serving.store.packed_events import PackedEvents

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
        self._store = store
        self._config = config
        self._inline = inline
        self._lines = MetaLines(states, config, clock)
        self._stepping = MetaStepping(backend, store, config, self._lines)
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
            gone = await users_gone(
                self._store, line.model, line.collector.user_ids
            )
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

    async def _step(
        self,
        model: ServedModel,
        line: MetaLine,
        batch: MetaBatch[bytes],
    ) -> None:
        outcome = await self._stepping.step(model, line, batch)
        for on_step in self._on_step:
            on_step(model.name, outcome)
