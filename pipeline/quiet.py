"""Sends what TensorFlow, TFX and Beam write to standard error to a file.

They write by the page, from Python, from C++ and from threads. Redirecting the
file descriptor catches all of it; standard output stays for people.
"""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator

from absl import logging

_STDERR = 2


@contextlib.contextmanager
def stderr_to_file(path: pathlib.Path) -> Iterator[None]:
    """Appends everything written to standard error to a file.

    Args:
        path: The file; its folder is made if it isn't there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    verbosity = logging.get_verbosity()
    sys.stderr.flush()
    saved = os.dup(_STDERR)
    try:
        with path.open("ab") as file:
            os.dup2(file.fileno(), _STDERR)
        # The file may hold more than a person would want to see pass by.
        logging.set_verbosity(logging.INFO)
        yield
    finally:
        logging.set_verbosity(verbosity)
        sys.stderr.flush()
        os.dup2(saved, _STDERR)
        os.close(saved)
