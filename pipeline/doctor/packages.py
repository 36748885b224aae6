"""Checks of the interpreter and of what is installed in it."""

import importlib.metadata
import importlib.util
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.doctor.check import Check, error, ok, warning

# Interpreter to lock file, beside the sources of a checkout.
LOCKS = {
    (3, 10): "py310-tfx116.lock",
    (3, 12): "py312-tfx121.lock",
    (3, 13): "py312-tfx121.lock",
}
REQUIREMENTS = pathlib.Path(__file__).parents[2] / "requirements"

# Another version of one of these is another stack; of the rest, a detail.
_STACK = frozenset(
    {
        "apache-beam",
        "grpcio",
        "lmdb",
        "ml-metadata",
        "numpy",
        "protobuf",
        "pyarrow",
        "tensorflow",
        "tensorflow-data-validation",
        "tensorflow-model-analysis",
        "tensorflow-recommenders",
        "tensorflow-serving-api",
        "tensorflow-transform",
        "tf-keras",
        "tfx",
        "tfx-bsl",
    }
)
# Loaded by every stage, each in seconds with bytecode and tens without.
_SLOW_WITHOUT_BYTECODE = ("tensorflow", "apache_beam", "tfx", "tfx_bsl")
_REINSTALL = "Run `make clean venv`, or install from requirements/"


def check_python(version: tuple[int, int] | None = None) -> Check:
    """Is this a Python that one of the locks is for?"""
    version = version or sys.version_info[:2]
    found = f"{version[0]}.{version[1]} at {sys.executable}"
    if version in LOCKS:
        return ok("python", f"{found} ({LOCKS[version]})")
    fitting = ", ".join(f"{major}.{minor}" for major, minor in LOCKS)
    return error(
        "python",
        found,
        f"Use one of Python {fitting}: set ADAPTOWER_PYTHON to it and run "
        "`make clean venv`.",
    )


def read_lock(path: pathlib.Path) -> list[Requirement]:
    """Reads what a lock file pins for this interpreter.

    Args:
        path: A file in pip's requirements format, with hashes.

    Returns:
        The requirements whose markers hold here.
    """
    requirements = (
        Requirement(line.rstrip(" \\"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line and not line[0].isspace() and not line.startswith("#")
    )
    return [r for r in requirements if r.marker is None or r.marker.evaluate()]


def installed_versions() -> dict[str, str]:
    """Version of each installed package, by its canonical name."""
    return {
        canonicalize_name(found.metadata["Name"]): found.version
        for found in importlib.metadata.distributions()
        if found.metadata["Name"]
    }


def check_packages(
    required: Sequence[Requirement], installed: Mapping[str, str]
) -> Iterator[Check]:
    """Compares what is installed with what was tried.

    Args:
        required: What should be there.
        installed: Version by canonical name.
    """
    missing: list[str] = []
    conflicting: list[str] = []
    differing: list[str] = []
    for requirement in required:
        name = canonicalize_name(requirement.name)
        version = installed.get(name)
        if version is None:
            missing.append(name)
        elif not requirement.specifier.contains(version, prereleases=True):
            of_stack = name in _STACK
            (conflicting if of_stack else differing).append(
                f"{name} {version} (tried: {requirement.specifier})"
            )
    if missing:
        yield error("packages", f"missing: {_listed(missing)}", _REINSTALL)
    if conflicting:
        yield error("packages", _listed(conflicting), _REINSTALL)
    if differing:
        yield warning("packages", _listed(differing), _REINSTALL)
    if not (missing or conflicting or differing):
        yield ok("packages", f"{len(required)} as locked")
    if "scann" in installed:
        yield error(
            "scann",
            f"scann {installed['scann']} is installed",
            "Uninstall it: built for another TensorFlow, it breaks the import "
            "of tensorflow_recommenders. Retrieval here does without.",
        )


def check_installation() -> Iterator[Check]:
    """Compares this environment with its lock file."""
    lock = REQUIREMENTS / LOCKS.get(sys.version_info[:2], "")
    if lock.is_file():
        required = read_lock(lock)
    else:  # Installed from a wheel: the ranges of setup.py are all there is.
        lines = importlib.metadata.requires("adaptower") or []
        required = [
            r
            for r in map(Requirement, lines)
            if r.marker is None or r.marker.evaluate({"extra": ""})
        ]
    yield from check_packages(required, installed_versions())


def check_keras(environ: Mapping[str, str] = os.environ) -> Check:
    """Will TensorFlow load Keras 2, which TFRS is written for?"""
    value = environ.get("TF_USE_LEGACY_KERAS", "")
    if value.lower() in ("1", "true"):
        return ok("keras", "TF_USE_LEGACY_KERAS=1")
    return error(
        "keras",
        f"TF_USE_LEGACY_KERAS={value}" if value else "not set",
        "export TF_USE_LEGACY_KERAS=1 before TensorFlow is imported; TFRS "
        "refuses Keras 3. (adaptower and make set it where it is not set.)",
    )


def check_bytecode(
    packages: Sequence[str] = _SLOW_WITHOUT_BYTECODE,
) -> Check:
    """Are the slow packages compiled?"""
    plain = []
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            continue  # check_packages reports what is missing.
        cached = importlib.util.cache_from_source(spec.origin)
        if not pathlib.Path(cached).exists():
            plain.append(name)
    if not plain:
        return ok("bytecode", "compiled")
    return warning(
        "bytecode",
        f"not compiled: {_listed(plain)}",
        "Imports take three to five times as long. Compile once: "
        f"{sys.executable} -m compileall -q -j 0 "
        f"{pathlib.Path(os.__file__).parent / 'site-packages'}",
    )


def _listed(names: Sequence[str], at_most: int = 5) -> str:
    more = f" and {len(names) - at_most} more" if len(names) > at_most else ""
    return ", ".join(names[:at_most]) + more
