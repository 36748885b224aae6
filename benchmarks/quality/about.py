"""What was run, where, and with which versions: for every results file."""

import argparse
import platform
import shlex
import sys
from importlib import metadata
from typing import Any

# Where files lie on a machine changes no figure.
_PLACES = ("--work-dir", "--run", "--output")
_VERSIONS = ("tensorflow", "tensorflow-recommenders", "tf-keras", "numpy")


def about() -> dict[str, Any]:
    """The command line, the machine and versions."""
    return {
        "command": shlex.join(
            ["python", "-m", "benchmarks.quality", *_without_places()]
        ),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _VERSIONS},
    }


def _without_places() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in _PLACES:
        parser.add_argument(name)
    return parser.parse_known_args(sys.argv[1:])[1]
