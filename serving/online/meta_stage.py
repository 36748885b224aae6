"""The online outer loop of a gateway: feedback moves the meta state.

Rules and arithmetic are those of `serving.contract`, which the offline
evaluation goes by as well; here is what it takes to run them: collecting
tasks of many users at once, asking the model server, keeping versions.
"""

import asyncio
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Collection, Sequence

import numpy as np

from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_state import MetaState
from serving.contract.meta_tasks import MetaBatch, TaskCollector
from serving.contract.meta_update import MetaProgress
from serving.contract.support import SupportEvent
from serving.errors import ServingError, StoreError
from serving.gateway.backend import ModelServer
from serving.gateway.registry import ServedModel
from serving.gateway.templates import Features
from serving.online.meta_gradient import meta_gradient
from serving.online.meta_state_files import MetaStateFiles, Stamp
from serving.shared_reads import SharedReads, SlowReadError
from serving.store import AdaptiveStore, UserKey

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

_log = logging.getLogger(__name__)

# Model name and fingerprint: what a meta state belongs to.
_Key = tuple[str, str]


@dataclasses.dataclass
class _Line:
    """One line of versions.

    Attributes:
        progress: Where it is.
        collector: Tasks for the next step.
        stamp: Of the file that `progress` is in.
        lock: One step at a time.
    """

    progress: MetaProgress
    collector: TaskCollector[Features]
    stamp: Stamp = None
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


class MetaStage:
    """Learns meta states; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        store: AdaptiveStore,
        config: OnlineMetaConfig,
        files: MetaStateFiles | None = None,
        inline: bool = True,
    ) -> None:
        """Sets the stage up.

        Args:
            backend: Answers `meta_gradient`.
            store: Knows who was deleted, by whichever process.
            config: When and how far meta states move.
            files: Where versions are kept; None keeps them in memory.
            inline: Whether callers of `observe` are given the step that their
                events were enough for, to wait for it: the same calls in the
                same order then give the same versions.
        """
        self._backend = backend
        self._store = store
        self._config = config
        self._files = files
        self._reads = SharedReads()
        self._inline = inline
        self._lines: dict[_Key, _Line] = {}
        self._steps: set[asyncio.Task[None]] = set()
        self._on_step: list[Callable[[str, str], None]] = []

    def subscribe(self, on_step: Callable[[str, str], None]) -> None:
        """Has a function called with each step's model and outcome."""
        self._on_step.append(on_step)

    def newest(self, name: str, manifest: AdaptiveManifest) -> MetaState | None:
        """Returns the meta state to serve; None stands for the exported one."""
        progress = self._line(name, manifest).progress
        return progress.history[-1] if progress.history else None

    def progress(self, name: str, manifest: AdaptiveManifest) -> MetaProgress:
        """Returns versions, and how many were promoted and refused."""
        return self._line(name, manifest).progress

    def observe(
        self,
        model: ServedModel,
        user_id: str,
        features: Features,
        reservoir: Sequence[SupportEvent],
        count: int,
        new_events: Sequence[SupportEvent],
    ) -> "asyncio.Future[None] | None":
        """Takes note of what a user did; begins a step if it was due.

        A step that fails is logged: it must not fail the user's feedback.

        Args:
            model: The version that learned from the events.
            user_id: The user.
            features: Those of the user that are known.
            reservoir: The user's kept events before the new ones.
            count: How many events were seen before the new ones.
            new_events: Oldest first.

        Returns:
            The step to wait for, if the stage is inline and one has begun.
        """
        if not self._config.enabled:
            return None
        line = self._line(model.name, model.manifest)
        batch = line.collector.observe(
            user_id, features, reservoir, count, new_events
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
        for line in self._lines.values():
            line.collector.forget(user_id)

    async def forget_gone(self) -> None:
        """Drops what is collected of users without a record.

        Other gateways deleted them, or they have expired. A step leaves them
        out in any case; this is for those who wait long for one.

        Raises:
            StoreError: Records can't be read.
        """
        for (name, _), line in [*self._lines.items()]:
            for user_id in await self._gone(name, line.collector.user_ids):
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
        """Waits for steps that are being taken."""
        await asyncio.gather(*self._steps)

    async def look(self, name: str, manifest: AdaptiveManifest) -> None:
        """Looks whether the file has changed, as after a rollback.

        What can't be read, or not in time, stays as it is known.
        """
        if self._files is None:
            return
        line = self._line(name, manifest)
        known = line.stamp
        key = name, manifest.fingerprint
        try:
            found = await self._reads.read(
                (key, known),
                functools.partial(_read_changed, self._files, key, known),
            )
        except (StoreError, SlowReadError) as error:
            _log.warning("%s: the meta state stays: %s", name, error)
            return
        # A step that ended meanwhile knows better.
        if found is None or line.stamp != known:
            return
        progress, line.stamp = found
        exported = manifest.meta_state
        # The file may be of another export of the same fixed part.
        if progress is None or not progress.exported.same_values(exported):
            progress = MetaProgress.start(exported)
        line.progress = progress

    def _line(self, name: str, manifest: AdaptiveManifest) -> _Line:
        key = name, manifest.fingerprint
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _Line(
                MetaProgress.start(manifest.meta_state),
                TaskCollector(self._config),
            )
        return line

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
        line: _Line,
        batch: MetaBatch[Features],
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
        line: _Line,
        batch: MetaBatch[Features],
    ) -> str:
        # Whoever was deleted before the step begins has no part in it.
        batch = batch.without(await self._gone(model.name, batch.user_ids))
        if not batch.tasks or not batch.held_back:
            return DESERTED
        # Not as they may be at the end: a rollback meanwhile overtakes us.
        before, stamp_before = line.progress, line.stamp
        step = before.propose(
            await meta_gradient(
                self._backend, model, batch.tasks, before.current
            ),
            self._config,
        )
        losses_before, losses_after = [
            (
                await meta_gradient(
                    self._backend, model, batch.held_back, state
                )
            ).losses
            for state in (before.current, step.candidate)
        ]
        after = before.judge(step, losses_before, losses_after, self._config)
        if self._files is not None:
            stamp = await asyncio.to_thread(
                self._files.save,
                model.name,
                model.manifest.fingerprint,
                after,
                stamp_before,
            )
            if stamp is None:
                await self.look(model.name, model.manifest)
                return OVERTAKEN
            line.stamp = stamp
        line.progress = after
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


def _read_changed(
    files: MetaStateFiles, key: _Key, known: Stamp
) -> tuple[MetaProgress | None, Stamp] | None:
    """Reads a file, unless it is as it was."""
    return None if files.stamp(*key) == known else files.load(*key)
