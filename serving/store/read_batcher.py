"""Reads of one event loop, in threads, gathered into few round trips.

An event loop must not wait for a disk or a server: what hangs there would
hang all its callers. If a read takes too long, those who wait are told so,
and whoever comes meanwhile at once, until the read is back.
"""

import asyncio
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from serving.errors import StoreError

_Read = tuple[bytes, "asyncio.Future[bytes | None]"]
_MAX_BATCH = 512
_THREADS = 4


class ReadBatcher:
    """Reads keys in a thread; those asked for meanwhile go together next.

    A read that its caller gives up on is finished all the same, so it can't
    leave a reply behind for somebody else.
    """

    def __init__(
        self,
        read: Callable[[Sequence[bytes]], list[bytes | None]],
        seconds: float,
    ) -> None:
        """Sets it up.

        Args:
            read: Reads keys, and returns their values in the same order.
            seconds: How long that may take.
        """
        self._read = read
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(_THREADS, "read-batcher")
        self._queues: weakref.WeakKeyDictionary[
            asyncio.AbstractEventLoop, _Queue
        ] = weakref.WeakKeyDictionary()

    async def get(
        self, key: bytes, seconds: float | None = None
    ) -> bytes | None:
        """Returns a key's value; raises what `read` raises.

        Args:
            key: The key.
            seconds: How long the caller can wait, if less than a read may
                take.

        Raises:
            StoreError: It takes too long, or the store was closed.
        """
        loop = asyncio.get_running_loop()
        queue = self._queues.get(loop)
        if queue is None:
            queue = self._queues[loop] = _Queue(
                self._read, self._seconds, self._threads
            )
        future = queue.add(loop, key)
        if seconds is not None and seconds < self._seconds:
            # Says nothing of the store: others may wait longer.
            loop.call_later(seconds, _fail, future, seconds)
        return await future

    def close(self) -> None:
        """Ends the threads, after the reads that run. Again does nothing."""
        self._threads.shutdown()


class _Queue:
    """What one event loop waits for."""

    def __init__(
        self,
        read: Callable[[Sequence[bytes]], list[bytes | None]],
        seconds: float,
        threads: ThreadPoolExecutor,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._threads = threads
        self._waiting: list[_Read] = []
        self._running = False
        self._hangs = False

    def add(
        self, loop: asyncio.AbstractEventLoop, key: bytes
    ) -> "asyncio.Future[bytes | None]":
        future: asyncio.Future[bytes | None] = loop.create_future()
        if self._hangs:
            _fail(future, self._seconds)
            return future
        self._waiting.append((key, future))
        if not self._running:
            self._running = True
            # What else is ready in this turn of the loop comes along.
            loop.call_soon(self._next, loop)
        return future

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        # Nobody waits any more for reads that were given up.
        waiting = [read for read in self._waiting if not read[1].done()]
        batch, self._waiting = waiting[:_MAX_BATCH], waiting[_MAX_BATCH:]
        self._running = bool(batch)
        if not batch:
            return
        keys = [key for key, _ in batch]
        try:
            reading = loop.run_in_executor(self._threads, self._read, keys)
        except RuntimeError as error:
            # The threads have ended.
            self._running = False
            for _, future in batch:
                future.set_exception(
                    StoreError(f"The store was closed meanwhile: {error}.")
                )
            return
        timer = loop.call_later(self._seconds, self._give_up, batch)

        def finish(done: "asyncio.Future[list[bytes | None]]") -> None:
            timer.cancel()
            self._hangs = False
            self._finish(loop, batch, done)

        reading.add_done_callback(finish)

    def _give_up(self, batch: list[_Read]) -> None:
        self._hangs = True
        for _, future in (*batch, *self._waiting):
            _fail(future, self._seconds)
        self._waiting = []

    def _finish(
        self,
        loop: asyncio.AbstractEventLoop,
        batch: list[_Read],
        done: "asyncio.Future[list[bytes | None]]",
    ) -> None:
        error = done.exception()
        values = [None] * len(batch) if error else done.result()
        for (_, future), value in zip(batch, values, strict=True):
            if future.done():
                continue
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)
        self._next(loop)


def _fail(future: "asyncio.Future[bytes | None]", seconds: float) -> None:
    if not future.done():
        future.set_exception(
            StoreError(
                f"The store has not answered a read for {seconds:.3g} s."
            )
        )
