"""One pipeline at a time in a run folder.

Two runs that share a SQLite metadata database fail with "database is locked"
at best, and publish each other's half-written outputs at worst.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO

from pipeline.errors import RunLockedError

_FILE_NAME = ".lock"


@contextlib.contextmanager
def run_lock(run_dir: pathlib.Path) -> Iterator[None]:
    """Holds a run folder for this process.

    The kernel frees the lock when the process ends, however it ends, so a
    killed run leaves nothing to clean up.

    Args:
        run_dir: The folder; made if it isn't there.

    Raises:
        RunLockedError: Another process holds it.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / _FILE_NAME).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunLockedError(
                f"Another run is under way in {run_dir} ({_holder(file)}). "
                "Wait until it is finished, stop it, or use another run folder."
            ) from None
        file.truncate(0)
        started = datetime.datetime.now().isoformat(timespec="seconds")
        json.dump({"pid": os.getpid(), "started": started}, file)
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _holder(file: TextIO) -> str:
    """Who holds the lock, as far as it got to say so."""
    try:
        file.seek(0)
        holder = json.load(file)
        return f"process {holder['pid']}, since {holder['started']}"
    except (ValueError, KeyError):
        return "just started"
