"""Files on volumes that hang."""

import contextlib
import io
import os
import threading


@contextlib.contextmanager
def hanging(path):
    """Has whoever reads a file wait: a pipe that nobody writes to.

    What waits at the end reads an empty file, and the file is as before.
    """
    saved = path.read_bytes() if path.exists() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    try:
        yield
    finally:
        # Opened both ways, which waits for nobody.
        end = os.open(path, os.O_RDWR)
        path.unlink()
        os.close(end)
        if saved is not None:
            path.write_bytes(saved)


class HangingDisk:
    """Makes files that wait in each write while the disk hangs.

    Attributes:
        is_met: Whether somebody waits, or has waited.
    """

    def __init__(self):
        self.is_met = False
        self._works = threading.Event()
        self._works.set()

    def hang(self):
        """Has writes wait from now on."""
        self._works.clear()

    def go_on(self):
        """Lets them all through."""
        self._works.set()

    def open(self, path, mode):
        """Opens a file, in place of `io.FileIO`."""
        disk = self

        class File(io.FileIO):
            def write(self, data):
                disk.is_met |= not disk._works.is_set()
                disk._works.wait()
                return super().write(data)

        return File(path, mode)
