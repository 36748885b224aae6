"""Whether a file is in memory: then no read of it waits for a disk.

That holds for the moment of the look, and is taken to hold until the next one,
a second later, or for two seconds if looks don't end. A page that the kernel
drops meanwhile has to come from the disk after all; if that hangs just then,
whoever reads the page waits as long as it hangs.
"""

import ctypes
import mmap
import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

# To look at larger files takes long, and to fetch them takes the memory.
_MOST_BYTES = 4 << 30
_LOOK_SECONDS = 1.0
# What nobody has looked at for so long may be gone again.
_VALID_SECONDS = 2.0
_CHUNK_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


class PageCache:
    """Knows of one file; looks once a second, in a thread, while asked."""

    def __init__(self, path: Path) -> None:
        """Sets it up; nothing is looked at before somebody asks.

        Args:
            path: The file.
        """
        self._path = path
        self._thread = ThreadPoolExecutor(1, "page-cache")
        self._look: Future[None] | None = None
        self._next_look = 0.0
        self._whole_until = 0.0

    @property
    def has_all(self) -> bool:
        """Whether all of the file was in memory at the last look.

        Waits for no look: one that hangs has this say no after two seconds.
        """
        now = time.monotonic()
        # Before a look may begin: what it finds is for who asks next.
        is_whole = now < self._whole_until
        if now >= self._next_look and (self._look is None or self._look.done()):
            self._next_look = now + _LOOK_SECONDS
            task = self._fetch if self._look is None else self._look_at_file
            self._look = self._thread.submit(task)
        return is_whole

    def close(self) -> None:
        """Ends the thread. Again does nothing."""
        self._next_look = float("inf")
        self._thread.shutdown()

    def _fetch(self) -> None:
        """Has the kernel read the file once, as after a restart."""
        if self._path.stat().st_size <= _MOST_BYTES:
            with self._path.open("rb") as file:
                while file.read(_CHUNK_BYTES):
                    pass
        self._look_at_file()

    def _look_at_file(self) -> None:
        begun = time.monotonic()
        is_small = self._path.stat().st_size <= _MOST_BYTES
        is_whole = is_small and is_in_memory(self._path)
        self._whole_until = begun + _VALID_SECONDS if is_whole else 0.0


def is_in_memory(path: Path) -> bool:
    """Tells whether all pages of a file are in memory.

    Args:
        path: A file that we may write: of others Linux tells nothing.

    Raises:
        OSError: It can't be looked at.
    """
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped,
    ):
        pages = np.empty(-(-len(mapped) // mmap.PAGESIZE), np.uint8)
        start = np.frombuffer(mapped, np.uint8).ctypes.data
        if _libc.mincore(start, len(mapped), pages.ctypes.data):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    # The lowest bit of each byte; the others mean nothing yet.
    return bool(np.bitwise_and.reduce(pages) & 1)
