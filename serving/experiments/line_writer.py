"""Appends lines to files, from a thread of its own.

Whoever appends goes on at once, also while the disk hangs: lines wait in
memory, in their order, and beyond a number of them the next ones are lost. So
are lines that the disk refuses. Who must know that a line is on the disk waits
for it.
"""

import asyncio
import concurrent.futures
import errno
import logging
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from serving.errors import ExposureLogError

# Some 2 kB each: with the longest lists not more than 20 MB.
MAX_WAITING = 8_192
# Reasons why lines are lost.
BACKLOG = "backlog"
DISK = "disk"

# How often the log says that lines are lost.
_TOLD_EACH_SECONDS = 60.0

_log = logging.getLogger(__name__)

_Written = concurrent.futures.Future[None]


class _Line(NamedTuple):
    """A line that waits; `written` is told when it is on the disk."""

    day: int
    data: bytes
    written: _Written | None = None


class LineWriter:
    """Appends to one file per process and day; lives inside one event loop."""

    def __init__(
        self,
        folder: Path,
        count_lost: Callable[[str], None],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Begins to wait for lines.

        Args:
            folder: Of the files; it is there.
            count_lost: Is told of each line that is lost, why: `BACKLOG`,
                `DISK`; from this thread or another.
            max_waiting: How many lines may wait.
        """
        self._folder = folder
        self._losses = _Losses(count_lost)
        self._max_waiting = max_waiting
        self._process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
        self._file: FileIO | None = None
        self._day = -1
        self._torn = False
        # A disk that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=self._run, name="line-writer", daemon=True
        )
        self._thread.start()

    def append(self, day: int, line: str) -> None:
        """Has a line written, unless too many wait.

        Args:
            day: Whose file, days since 1970, UTC.
            line: Without its end.
        """
        if self._lines.qsize() < self._max_waiting:
            self._lines.put(_Line(day, f"{line}\n".encode()))
        else:
            self._losses.add(BACKLOG, "the disk does not keep up, or hangs")

    async def append_durably(self, day: int, line: str) -> None:
        """Returns when a line, and all before it, are on the disk.

        However many wait: who waits for it limits them. Who gives up leaves
        the line to be written.

        Args:
            day: Whose file, days since 1970, UTC.
            line: Without its end.

        Raises:
            ExposureLogError: It can't be written.
        """
        written = _Written()
        self._lines.put(_Line(day, f"{line}\n".encode(), written))
        await asyncio.wrap_future(written)

    def close(self, seconds: float) -> None:
        """Writes what waits, and closes the file.

        Args:
            seconds: After so long the rest is lost.
        """
        self._lines.put(None)
        self._thread.join(seconds)
        if self._thread.is_alive():
            _log.error("Exposures are lost: the disk hangs at the end")

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            # From here on, whoever gives up waiting changes nothing.
            told = line.written if _is_awaited(line.written) else None
            try:
                self._write(line)
            except OSError as error:
                self._losses.add(DISK, str(error))
                if told is not None:
                    told.set_exception(
                        ExposureLogError(
                            f"The exposure log can't be written: {error}"
                        )
                    )
            else:
                if told is not None:
                    told.set_result(None)
        if self._file is not None:
            self._file.close()

    def _write(self, line: _Line) -> None:
        file = self._file_of(line.day)
        # A line that was cut off must not spoil the next.
        data = b"\n" + line.data if self._torn else line.data
        # One write of a whole line: a kill cuts off the last, at most.
        self._torn = file.write(data) < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if line.written is not None:
            os.fsync(file.fileno())

    def _file_of(self, day: int) -> FileIO:
        if self._file is None or day != self._day:
            if self._file is not None:
                self._file.close()
            date = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
            path = self._folder / f"{date}-{self._process}.jsonl"
            self._file = FileIO(path, "ab")
            self._day, self._torn = day, False
            _sync_folder(self._folder)
        return self._file


class _Losses:
    """Counts lines that are lost, and says so once in a while."""

    def __init__(self, count: Callable[[str], None]) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._untold = 0
        self._next_at = 0.0

    def add(self, reason: str, words: str) -> None:
        self._count(reason)
        with self._lock:
            self._untold += 1
            if time.monotonic() < self._next_at:
                return
            lost, self._untold = self._untold, 0
            self._next_at = time.monotonic() + _TOLD_EACH_SECONDS
        _log.error("Exposures are lost (%d more lines): %s", lost, words)


def _is_awaited(written: _Written | None) -> bool:
    return written is not None and written.set_running_or_notify_cancel()


def _sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
