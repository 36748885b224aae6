"""Reads the event log for the online stage, as fast as that learns."""

import asyncio
import logging
from collections.abc import Callable

from serving.errors import EventLogError
from serving.event_log import EventLog, LogEntry

_log = logging.getLogger(__name__)

MAX_ENTRIES = 1024
_IDLE_SECONDS = 0.05
_TROUBLE_SECONDS = 1.0


class Reading:
    """Takes what nobody else has out of a log; lives in one event loop."""

    def __init__(
        self,
        log: EventLog,
        consumer: str,
        wait_seconds: float,
        lock: asyncio.Lock,
        hold: Callable[[LogEntry], object],
    ) -> None:
        """Sets it up.

        Args:
            log: What to read.
            consumer: Who reads.
            wait_seconds: How long a read waits for entries.
            lock: Held during a read, and until all it gave is held.
            hold: Given each entry.
        """
        self._log = log
        self._consumer = consumer
        self._wait_seconds = wait_seconds
        self._lock = lock
        self._hold = hold
        self._trouble = ""

    async def run(self, ready: Callable[[], bool]) -> None:
        """Reads until it is cancelled.

        Args:
            ready: Whether more entries can be held.
        """
        while True:
            num_read = await self._read() if ready() else 0
            if self._trouble:
                await asyncio.sleep(_TROUBLE_SECONDS)
            elif num_read < MAX_ENTRIES:
                await asyncio.sleep(_IDLE_SECONDS)

    async def _read(self) -> int:
        """Reads once; returns how many entries there were."""
        async with self._lock:
            try:
                entries = await asyncio.to_thread(
                    self._log.read,
                    self._consumer,
                    MAX_ENTRIES,
                    self._wait_seconds,
                )
            except EventLogError as error:
                # Once per trouble, not once per read.
                if str(error) != self._trouble:
                    _log.warning("%s", error)
                self._trouble = str(error)
                return 0
            self._trouble = ""
            for entry in entries:
                self._hold(entry)
        return len(entries)
