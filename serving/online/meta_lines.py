"""Lines of meta states: where each fixed part's is, and its tasks to come.

What is here of versions is a copy of their record in `MetaStates`, renewed
when that has changed; tasks are this process's alone. A line whose fixed part
is asked for no more is dropped, with its tasks; its versions stay recorded.
"""

import asyncio
import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Iterator

from serving.contract.manifest import AdaptiveManifest
from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.meta_tasks import TaskCollector
from serving.contract.meta_update import MetaProgress
from serving.errors import StoreError
from serving.online.meta_states import MetaStates, Stamp
from serving.shared_reads import SharedReads, SlowReadError

# After so long a line that nobody asked for is dropped. Those of versions in
# use are asked for at each look for new versions.
IDLE_SECONDS = 300.0

_log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False)
class MetaLine:
    """One line of versions.

    Attributes:
        model: Name of the model.
        fingerprint: Of the fixed part.
        progress: Where it is.
        collector: Tasks for the next step; the context of each is what its
            user told, as bytes.
        used: When it was last asked for.
        stamp: Of the record that `progress` is in.
        lock: One step at a time.
        in_trouble: Whether the last look at the record failed.
    """

    model: str
    fingerprint: str
    progress: MetaProgress
    collector: TaskCollector[bytes]
    used: float
    stamp: Stamp = None
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    in_trouble: bool = False


class MetaLines:
    """The lines by model and fixed part; lives inside one event loop."""

    def __init__(
        self,
        states: MetaStates,
        config: OnlineMetaConfig,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets it up.

        Args:
            states: Where versions are kept.
            config: How tasks are collected.
            clock: Tells the time in seconds.
        """
        self._states = states
        self._config = config
        self._clock = clock
        self._reads = SharedReads()
        self._saving: set[tuple[str, str]] = set()
        # By model, fixed part and export: of one fixed part two exports may
        # be loaded at the same time.
        self._lines: dict[tuple[str, str, bytes], MetaLine] = {}

    def __iter__(self) -> Iterator[MetaLine]:
        return iter([*self._lines.values()])

    def get(self, model: str, manifest: AdaptiveManifest) -> MetaLine:
        """Returns a line; a new one is at the export until the next look."""
        exported = manifest.meta_state
        values = exported.meta_init.tobytes() + exported.log_inner_lr.tobytes()
        key = (model, manifest.fingerprint, values)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = MetaLine(
                model,
                manifest.fingerprint,
                MetaProgress.start(exported),
                TaskCollector(self._config),
                self._clock(),
            )
        line.used = self._clock()
        return line

    async def look(self, model: str, manifest: AdaptiveManifest) -> None:
        """Takes over what others recorded; drops lines that are not used.

        What can't be read, or not in time, stays as it is known.
        """
        line = self.get(model, manifest)
        self._drop_idle()
        await self._renew(line)

    async def save(
        self, line: MetaLine, progress: MetaProgress, expected: Stamp
    ) -> bool:
        """Records where a line has come to.

        Args:
            line: Goes on from there.
            progress: What comes next.
            expected: The line's stamp where this progress began.

        Returns:
            Whether it was saved. If not, somebody else was quicker, and the
            line goes on from what that one recorded.

        Raises:
            StoreError: The record can't be written, or not in time. It may
                be there later; then the next look finds it.
        """
        key = (line.model, line.fingerprint)

        def save() -> Stamp:
            try:
                return self._states.save(*key, progress, expected)
            finally:
                self._saving.discard(key)

        if key in self._saving:
            raise _slow_save()
        self._saving.add(key)
        try:
            # As a read does, it may take a thread for ever.
            stamp = await self._reads.read((*key, progress), save)
        except SlowReadError as error:
            raise _slow_save() from error
        if stamp is None:
            await self._renew(line)
            return False
        line.progress, line.stamp = progress, stamp
        return True

    def close(self) -> None:
        """Releases where versions are kept."""
        self._states.close()

    def _drop_idle(self) -> None:
        oldest = self._clock() - IDLE_SECONDS
        for key, line in [*self._lines.items()]:
            if line.used < oldest:
                del self._lines[key]

    async def _renew(self, line: MetaLine) -> None:
        known = line.stamp
        try:
            found = await self._reads.read(
                (line.model, line.fingerprint, known),
                functools.partial(_read_changed, self._states, line, known),
            )
        except (StoreError, SlowReadError) as error:
            # Once per trouble, not once per look.
            if not line.in_trouble:
                _log.warning(
                    "%s: the meta state stays as it is: %s", line.model, error
                )
            line.in_trouble = True
            return
        line.in_trouble = False
        # A step that ended meanwhile knows better.
        if found is None or line.stamp != known:
            return
        progress, line.stamp = found
        exported = line.progress.exported
        # The record may be of another export of the same fixed part.
        if progress is None or not progress.exported.same_values(exported):
            progress = MetaProgress.start(exported)
        line.progress = progress


def _slow_save() -> StoreError:
    return StoreError(
        "it takes too long to write; look at the disk, volume or server that "
        "it goes to"
    )


def _read_changed(
    states: MetaStates, line: MetaLine, known: Stamp
) -> tuple[MetaProgress | None, Stamp] | None:
    """Reads a record, unless it is as it was."""
    key = (line.model, line.fingerprint)
    return None if states.stamp(*key) == known else states.load(*key)
