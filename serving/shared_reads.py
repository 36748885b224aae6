"""Reads of files that lie where reading may take for ever.

A network volume that hangs takes every thread that touches it, so nothing is
read in the event loop or in threads that others need, nothing twice at a time,
and nobody waits for long: who gives up leaves the read to go on, and who comes
next waits for the same one. The end of the process waits for none.
"""

import asyncio
import concurrent.futures
import threading
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
        self._under_way: dict[Hashable, asyncio.Future[Any]] = {}

    async def read(self, key: Hashable, read: Callable[[], _Read]) -> _Read:
        """Returns what a function reads, or what it is reading already.

        Args:
            key: What is read.
            read: Reads it; runs in a thread.

        Raises:
            SlowReadError: It takes too long.
            Exception: What `read` raises.
        """
        future = self._under_way.get(key)
        if future is None:
            future = self._under_way[key] = _in_thread(read)
            future.add_done_callback(lambda done: self._ended(key, done))
        done, _ = await asyncio.wait([future], timeout=self._patience)
        if not done:
            raise SlowReadError(
                f"reading takes more than {self._patience:g} s; look at the "
                "disk or volume"
            )
        found: _Read = future.result()
        return found

    def _ended(self, key: Hashable, future: "asyncio.Future[Any]") -> None:
        del self._under_way[key]
        # Whoever still waits is told; with nobody left it is no news.
        future.exception()


def _in_thread(read: Callable[[], _Read]) -> "asyncio.Future[_Read]":
    future: concurrent.futures.Future[_Read] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(read())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="shared-read", daemon=True).start()
    return asyncio.wrap_future(future)
