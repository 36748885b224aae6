"""Gives memory back to the system that large requests leave behind.

What a million tiny strings in one message took, the C library keeps once it
is freed, in pieces: attackers, or honest large requests, would leave a
gateway a hundred megabytes heavier each. `malloc_trim` hands whole pages back.
"""

import asyncio
import ctypes
from collections.abc import Callable

LARGE_BYTES = 256 << 10


def _find_malloc_trim() -> Callable[[int], int] | None:
    """Returns glibc's function; other C libraries have none."""
    try:
        trim: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    return trim


class HeapTrimmer:
    """Trims a while after large requests; lives inside one event loop."""

    def __init__(
        self,
        trim: Callable[[int], int] | None = None,
        delay_seconds: float = 1.0,
    ) -> None:
        """Sets it up.

        Args:
            trim: Gives all free pages back but for so many bytes; None finds
                the C library's.
            delay_seconds: How long after a large request.
        """
        self._trim = trim or _find_malloc_trim()
        self._delay = delay_seconds
        self._pending = False

    def note(self, size: int) -> None:
        """Takes note of a request of so many bytes."""
        if size < LARGE_BYTES or self._pending or self._trim is None:
            return
        self._pending = True
        asyncio.get_running_loop().call_later(self._delay, self._start)

    def _start(self) -> None:
        self._pending = False
        if self._trim is not None:
            # Some milliseconds, without the interpreter's lock.
            asyncio.get_running_loop().run_in_executor(None, self._trim, 0)
