"""Shows how far trainings and searches are, while their node runs.

The trainer tells it to two loggers: what is true for the moment, and what is
worth keeping on the screen.
"""

import contextlib
import logging
import shutil
import sys
import time
from collections.abc import Iterator
from typing import TextIO

PROGRESS = "trainer.progress"
RESULTS = "trainer.results"

_INDENT = " " * 8
# ANSI: to the start of the line, and clear it.
_CLEAR = "\r\x1b[K"
# A file can't be overwritten, and nobody reads a line a second in it.
_SECONDS_BETWEEN_LINES = 20.0


class ProgressDisplay(logging.Handler):
    """Writes results as lines, and progress as one line that changes."""

    def __init__(self, stream: TextIO) -> None:
        """Writes to a terminal, or to a file more sparingly."""
        super().__init__()
        self._stream = stream
        self._is_drawn = False
        self._last = -_SECONDS_BETWEEN_LINES

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one record of the two loggers."""
        text = _INDENT + record.getMessage()
        now = time.monotonic()
        if record.name == RESULTS:
            self.clear()
            self._write(text + "\n")
        elif self._stream.isatty():
            width = shutil.get_terminal_size().columns - 1
            self._write(_CLEAR + text[:width])
            self._is_drawn = True
        elif now - self._last >= _SECONDS_BETWEEN_LINES:
            self._write(text + "\n")
            self._last = now

    def clear(self) -> None:
        """Makes room for a line that somebody else writes."""
        if self._is_drawn:
            self._write(_CLEAR)
            self._is_drawn = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


@contextlib.contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[ProgressDisplay]:
    """Shows what the trainer reports for as long as the context lasts.

    Args:
        stream: Where; standard output by default.

    Yields:
        The display; clear it before writing to the same stream.
    """
    display = ProgressDisplay(stream or sys.stdout)
    loggers = [logging.getLogger(name) for name in (PROGRESS, RESULTS)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(display)
        logger.setLevel(logging.INFO)
    try:
        yield display
    finally:
        display.clear()
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(display)
            logger.setLevel(level)
