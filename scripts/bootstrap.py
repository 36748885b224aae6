"""Makes the virtual environment that `make run` and `make test` use.

Finds a Python that fits (or lets uv fetch one), installs the locked packages
with their hashes, installs the project itself in editable mode, compiles
everything to bytecode and leaves a stamp, so that bootstrap.sh has nothing to
do the next time.

Uses the standard library only and keeps to Python 3.8, as it runs before
there is any environment.

Environment variables:
    ADAPTOWER_PYTHON: the interpreter to use instead of searching for one.
    ADAPTOWER_VENV: where the environment goes, instead of `.venv`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("ADAPTOWER_VENV") or ROOT / ".venv").absolute()
STAMP = VENV / "adaptower.stamp"
# Private: never on anybody's PATH, and removed by `make clean`.
CACHE = ROOT / ".cache"
UV_VENV = CACHE / "uv"

# Never imported here, and a third of all the source there is to compile.
NOT_COMPILED = (
    r"/(tests?|debugpy|vertexai|agentplatform|aiplatform(_v1(beta1)?)?)/"
)


class Stack(NamedTuple):
    """One set of versions that was tried together."""

    name: str
    lock: Path
    pythons: tuple[str, ...]


TFX_116 = Stack(
    "TFX 1.16", ROOT / "requirements" / "py310-tfx116.lock", ("3.10",)
)
TFX_121 = Stack(
    "TFX 1.21", ROOT / "requirements" / "py312-tfx121.lock", ("3.12", "3.13")
)
TFX_121_GLIBC = (2, 39)


def stop(message: str) -> NoReturn:
    """Ends the program with a message that says what to do."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Prints what is being done and, when it is, how long it took."""
    print(f"  {title} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"  {'':4}{time.monotonic() - start:.1f} s", flush=True)


def run(*command: str | Path) -> None:
    """Runs a command; its output is the user's to see."""
    subprocess.run([str(word) for word in command], check=True, cwd=ROOT)


def answer(*command: str | Path) -> str:
    """What a command prints, or '' if it does not run."""
    try:
        done = subprocess.run(
            [str(word) for word in command],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip()


def version_of(python: str | Path) -> str:
    """'3.10' for an interpreter that runs, '' for one that does not.

    Asking is the only way to know: pyenv's shims exist for versions that are
    not selected, and fail when they are run.
    """
    ask = "import sys, ssl, sqlite3; print('%d.%d' % sys.version_info[:2])"
    return answer(python, "-c", ask)


def glibc() -> tuple[int, ...]:
    """Version of the C library, (0,) where it is another one (musl)."""
    name, version = platform.libc_ver()
    if name != "glibc":
        return (0,)
    return tuple(int(part) for part in version.split("."))


def stacks_for_this_machine() -> list[Stack]:
    """The sets of versions that can run here, the preferred one first."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "AMD64"):
        stop(
            "TFX publishes wheels for Linux on x86-64 only; this machine is "
            f"{sys.platform} on {platform.machine()}. Use a Linux container."
        )
    if glibc() >= TFX_121_GLIBC:
        return [TFX_121, TFX_116]
    return [TFX_116]


def candidates(version: str) -> Iterator[str]:
    """Places where a Python of that version may be, nearest first."""
    for folder in os.get_exec_path():
        # Not the one of an activated .venv: that is what may go away.
        if Path(folder) != VENV / "bin":
            yield str(Path(folder) / f"python{version}")
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    for folder in (
        pyenv / "versions",
        home / ".local" / "share" / "uv" / "python",
        Path("/opt/python"),
    ):
        for found in sorted(folder.glob(f"*{version}*"), reverse=True):
            yield str(found / "bin" / f"python{version}")


def find_python(stacks: Sequence[Stack]) -> tuple[str, Stack] | None:
    """The interpreter to use and the stack it is for, if there is one."""
    forced = os.environ.get("ADAPTOWER_PYTHON")
    for stack in stacks:
        for version in stack.pythons:
            for python in [forced] if forced else candidates(version):
                if shutil.which(python) and version_of(python) == version:
                    return python, stack
    if forced:
        fitting = ", ".join(v for stack in stacks for v in stack.pythons)
        stop(
            f"ADAPTOWER_PYTHON={forced} is Python "
            f"{version_of(forced) or 'that does not run'}; this machine can "
            f"use {fitting}. Point it at one of these, or unset it."
        )
    return None


def find_uv() -> str | None:
    """A uv that runs: the machine's, or a private one made by pip."""
    for uv in ("uv", str(UV_VENV / "bin" / "uv")):
        if answer(uv, "--version"):
            return uv
    with step("getting uv, which installs ten times faster than pip"):
        try:
            run(sys.executable, "-m", "venv", UV_VENV)
            run(
                *(UV_VENV / "bin" / "python", "-m", "pip", "install", "-q"),
                *("--disable-pip-version-check", "--require-hashes"),
                *("-r", ROOT / "requirements" / "uv.lock"),
            )
        except subprocess.CalledProcessError:
            print("  no uv to be had: going on with pip")
            shutil.rmtree(UV_VENV, ignore_errors=True)
            return None
    return str(UV_VENV / "bin" / "uv")


def fetch_python(uv: str | None, stack: Stack) -> str:
    """Lets uv download an interpreter; says what to do if it can not."""
    version = stack.pythons[0]
    if uv:
        with step(f"fetching Python {version} (none on this machine fits)"):
            subprocess.run([uv, "python", "install", version], check=False)
            python = answer(uv, "python", "find", version)
        if python and version_of(python) == version:
            return python
    stop(
        f"{stack.name} needs Python {' or '.join(stack.pythons)}; there is "
        "none on PATH, in pyenv or in uv, and none could be fetched. Install "
        f"one (pyenv install {version}, or your distribution's "
        f"python{version}, python{version}-venv and python{version}-dev) and "
        "run make again, or set ADAPTOWER_PYTHON to its path."
    )


def make_venv(uv: str | None, python: str, version: str) -> None:
    """Makes the environment, or keeps the one there if it fits."""
    inside = VENV / "bin" / "python"
    if version_of(inside) == version:
        return
    if VENV.exists():
        print(f"  {VENV.name} has no working Python {version}: making it anew")
        shutil.rmtree(VENV)
    with step(f"making {VENV.name}"):
        if uv:
            run(uv, "venv", "-q", "--python", python, VENV)
        else:
            run(python, "-m", "venv", VENV)


def missing_for_compiling(python: str | Path) -> str:
    """What is missing to compile pyfarmhash, which has no wheels; or ''."""
    compilers = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    if not any(shutil.which(compiler) for compiler in compilers if compiler):
        return "a C++ compiler (Debian, Ubuntu: apt-get install g++)"
    include = answer(
        python, "-c", "import sysconfig; print(sysconfig.get_path('include'))"
    )
    if not (Path(include) / "Python.h").exists():
        version = version_of(python)
        return f"Python's headers (Debian, Ubuntu: python{version}-dev)"
    return ""


def install(uv: str | None, lock: Path) -> None:
    """Installs the locked packages and the project itself."""
    python = VENV / "bin" / "python"
    missing = missing_for_compiling(python)
    if missing:
        print(f"  note: pyfarmhash has to be compiled, and needs {missing}")
    pip: tuple[str | Path, ...] = (python, "-m", "pip", "install", "-q")
    pip += ("--disable-pip-version-check",)
    with_uv = (uv, "pip", "install", "-q", "--python", python) if uv else pip
    # --no-deps: the lock is complete, and nothing may come in beside it.
    locked = ("--no-deps", "--require-hashes", "-r", lock)
    with step(f"installing the packages of {lock.name}"):
        try:
            try:
                run(*with_uv, *locked)
            except subprocess.CalledProcessError:
                if not uv:
                    raise
                # uv does not read pip's settings (index, certificates).
                print("  uv could not; trying pip, with its own settings")
                run(python, "-m", "ensurepip")
                run(*pip, *locked)
        except subprocess.CalledProcessError:
            hint = f" This machine lacks {missing}." if missing else ""
            stop(
                "the packages could not be installed; the reason is above."
                f"{hint} Mend it and run make again: it goes on from here."
            )
    with step("installing adaptower itself"):
        run(*pip, "--no-deps", "--no-index", "--no-build-isolation", "-e", ROOT)


def compile_bytecode() -> None:
    """Compiles what gets imported, so that imports take a third of the time.

    Explicitly, because PYTHONDONTWRITEBYTECODE is set on many build machines
    and then every process would parse TensorFlow and TFX again.
    """
    python = VENV / "bin" / "python"
    purelib = answer(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"
    )
    with step(f"compiling to bytecode on {os.cpu_count()} cores"):
        # Exit status ignored: some packages carry files for other Pythons.
        subprocess.run(
            [
                *(str(python), "-m", "compileall", "-qq", "-j", "0"),
                *("-x", NOT_COMPILED, purelib),
            ],
            check=False,
            stderr=subprocess.DEVNULL,
        )


def write_stamp(lock: Path) -> None:
    """Writes the stamp that bootstrap.sh checks with sha256sum."""
    lines = [f"# {ROOT}"]
    for path in (lock, ROOT / "setup.py", Path(__file__).resolve()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        lines.append(f"{digest}  {path.relative_to(ROOT)}")
    STAMP.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Makes the environment from whatever state it is in."""
    start = time.monotonic()
    # Networks with certificates of their own install them in the system.
    os.environ.setdefault("UV_SYSTEM_CERTS", "1")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "bootstrap.lock").open("w") as lock_file:
        # Two makes in one clone take turns.
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        stacks = stacks_for_this_machine()
        found = find_python(stacks)
        uv = find_uv()
        # One that has to be fetched is 3.10, which is for every machine.
        python, stack = found or (fetch_python(uv, TFX_116), TFX_116)
        version = version_of(python)
        print(f"Setting up {VENV} ({stack.name}, Python {version} at {python})")
        with contextlib.suppress(FileNotFoundError):
            STAMP.unlink()
        make_venv(uv, python, version)
        install(uv, stack.lock)
        compile_bytecode()
        write_stamp(stack.lock)
    print(f"Ready in {time.monotonic() - start:.0f} s.")


if __name__ == "__main__":
    main()
