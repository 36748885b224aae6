"""What is done for a version before it is the current one."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator

from serving.models.served_model import ServedModel

_log = logging.getLogger(__name__)

Prepare = Callable[[ServedModel], Awaitable[None]]


class Preparations:
    """Runs them, one version at a time; lives inside one event loop."""

    def __init__(self) -> None:
        """Nothing is done yet."""
        self._steps: list[Prepare] = []
        self._task: asyncio.Task[None] | None = None
        self._hurried = 0

    def add(self, prepare: Prepare) -> None:
        """Has something done for each version."""
        self._steps.append(prepare)

    @contextlib.contextmanager
    def hurried(self) -> Iterator[None]:
        """Nothing is prepared inside; what is under way ends."""
        self._hurried += 1
        if self._task is not None:
            self._task.cancel()
        try:
            yield
        finally:
            self._hurried -= 1

    async def run(self, model: ServedModel) -> None:
        """Gets a version ready, unless somebody can't wait."""
        if self._hurried:
            return
        self._task = asyncio.create_task(self._run(model))
        try:
            await asyncio.wait((self._task,))
        finally:
            self._task.cancel()
            self._task = None

    async def _run(self, model: ServedModel) -> None:
        for prepare in self._steps:
            try:
                await prepare(model)
            except Exception:
                # It serves all the same, only less prepared.
                _log.exception(
                    "%s: version %d unprepared", model.name, model.version
                )
