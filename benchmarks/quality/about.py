"""What was run, where, and with which versions: for every results file."""

import platform
import shlex
import sys
from importlib import metadata
from typing import Any

_VERSIONS = ("tensorflow", "tensorflow-recommenders", "tf-keras", "numpy")


def about() -> dict[str, Any]:
    """The command line, the machine and versions."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks.quality"])
        + " "
        + shlex.join(sys.argv[1:]),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }
