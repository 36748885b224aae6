"""One process at a time reads an LMDB event log: leases are not stored."""

import fcntl
import threading
from pathlib import Path
from typing import IO

from serving.errors import EventLogError


class ReaderLock:
    """A lock that a process has; safe to use from several threads.

    It ends with the process, however that ends.
    """

    def __init__(self, folder: Path) -> None:
        """Sets it up; nobody has it.

        Args:
            folder: That of the log.
        """
        self._folder = folder
        self._taking = threading.Lock()
        self._file: IO[bytes] | None = None

    def take(self) -> None:
        """Takes it, if this process has it not yet.

        Raises:
            EventLogError: Another process has it.
        """
        with self._taking:
            if self._file is not None:
                return
            file = (self._folder / "reader.lock").open("ab")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.close()
                raise EventLogError(
                    f"Another process reads the event log {self._folder}. Let "
                    "one process learn from it, or use Redis for several."
                ) from error
            self._file = file

    def release(self) -> None:
        """Lets another process have it."""
        if self._file is not None:
            self._file.close()
