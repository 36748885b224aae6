"""Reads of files that lie where reading may take for ever.

A network volume that hangs takes every thread that touches it, so nothing is
read in the event loop, nothing twice at a time, and nobody waits for long: who
gives up leaves the read to go on, and who comes next waits for the same one.
"""

import asyncio
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

_Read = TypeVar("_Read")

# A manifest or a meta state is some kilobytes.
_PATIENCE_SECONDS = 5.0


class SlowReadError(Exception):
    """A read did not end in time; it goes on."""


class SharedReads:
    """Reads in threads, one for each key; lives inside one event loop."""

    def __init__(self, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        """Sets it up.

        Args:
            patience_seconds: How long each who asks waits.
        """
        self._patience = patience_seconds
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}

    async def read(self, key: Hashable, read: Callable[[], _Read]) -> _Read:
        """Returns what a function reads, or what it is reading already.

        Args:
            key: What is read.
            read: Reads it; runs in a thread.

        Raises:
            SlowReadError: It takes too long.
            Exception: What `read` raises.
        """
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(read))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._ended(key, done))
        done, _ = await asyncio.wait([task], timeout=self._patience)
        if not done:
            raise SlowReadError(
                f"reading takes more than {self._patience:g} s; look at the "
                "disk or volume"
            )
        found: _Read = task.result()
        return found

    def _ended(self, key: Hashable, task: "asyncio.Task[Any]") -> None:
        del self._under_way[key]
        if not task.cancelled():
            # Whoever still waits is told; with nobody left it is no news.
            task.exception()
