"""A file on a volume that hangs."""

import contextlib
import os


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
