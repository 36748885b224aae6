"""Versions of meta states on disk: a small JSON file per fixed part.

    FOLDER/MODEL/FINGERPRINT.json
    FOLDER/MODEL/lock              held by who writes one of them

Written as a whole or not at all. Processes of one host may share the folder.
"""

import contextlib
import fcntl
import os
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from serving.contract.meta_update import MetaProgress
from serving.errors import StoreError
from serving.online.meta_states import (
    KEPT_RECORDS,
    MetaStates,
    Stamp,
    decode_progress,
    encode_progress,
)


class MetaStateFiles(MetaStates):
    """Keeps the records in a folder."""

    def __init__(self, folder: str | Path) -> None:
        """Uses a folder, which is made when something is written."""
        self._folder = Path(folder)

    def known(self) -> list[tuple[str, str]]:  # noqa: D102
        try:
            paths = [*self._folder.glob("*/*.json")]
        except OSError as error:
            raise _trouble("read", error) from error
        return sorted(
            (urllib.parse.unquote(path.parent.name), path.stem)
            for path in paths
        )

    def stamp(self, model: str, fingerprint: str) -> Stamp:
        """Returns inode and time of change, at the cost of a stat.

        A file is replaced, never written to, so its inode says it already.

        Raises:
            StoreError: The folder can't be read.
        """
        try:
            found = self._path(model, fingerprint).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _trouble("read", error) from error
        return found.st_ino, found.st_mtime_ns

    def load(  # noqa: D102
        self, model: str, fingerprint: str
    ) -> tuple[MetaProgress | None, Stamp]:
        path = self._path(model, fingerprint)
        stamp = self.stamp(model, fingerprint)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise _trouble("read", error) from error
        return decode_progress(data, str(path)), stamp

    def save(  # noqa: D102
        self,
        model: str,
        fingerprint: str,
        progress: MetaProgress,
        expected: Stamp,
    ) -> Stamp:
        path = self._path(model, fingerprint)
        data = encode_progress(progress)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_name("lock")):
                if self.stamp(model, fingerprint) != expected:
                    return None
                _replace(path, data)
                _drop_oldest(path.parent)
                return self.stamp(model, fingerprint)
        except OSError as error:
            raise _trouble("written", error) from error

    def close(self) -> None:
        """Holds nothing between calls."""

    def _path(self, model: str, fingerprint: str) -> Path:
        name = urllib.parse.quote(model, safe="")
        # '.' and '..' are names that quoting leaves as they are.
        name = name.replace(".", "%2E")
        return self._folder / name / f"{fingerprint}.json"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes out, for as long as it takes."""
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    """Writes durably: after a crash the old content is there, or the new."""
    # One name for all: what a crash leaves is written over.
    building = path.with_name("building")
    with building.open("wb") as file:
        file.write(content)
        file.flush()
        # The kernel's own times are too coarse to tell two writes apart.
        now = time.time_ns()
        os.utime(file.fileno(), ns=(now, now))
        os.fsync(file.fileno())
    building.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _drop_oldest(folder: Path) -> None:
    """Removes the files of a model that were not written lately."""
    paths = sorted(
        folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns
    )
    for path in paths[:-KEPT_RECORDS]:
        path.unlink()


def _trouble(what: str, error: OSError) -> StoreError:
    return StoreError(
        f"The meta states can't be {what} ({error}). See that the folder of "
        "--meta-states exists on a disk with room and may be written to."
    )
