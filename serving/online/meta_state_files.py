"""Versions of meta states on disk: a small JSON file per fixed part.

    FOLDER/MODEL/FINGERPRINT.json

Written as a whole or not at all. Several processes may share the folder, and
a person may roll back while gateways run: who writes says what the file was
when it was read, and is refused if that is not so any more.
"""

import contextlib
import fcntl
import json
import logging
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from serving.contract.errors import MetaStateError
from serving.contract.meta_update import MetaProgress
from serving.errors import StoreError

_log = logging.getLogger(__name__)

# What tells one content of a file from the next: inode and time of change. A
# file is replaced, never written to, so its inode says it already. None: there
# is no file.
Stamp = tuple[int, int] | None


class MetaStateFiles:
    """The folder."""

    def __init__(self, folder: str | Path) -> None:
        """Uses a folder, which is made when something is written."""
        self._folder = Path(folder)

    def known(self) -> list[tuple[str, str]]:
        """Returns models and fingerprints that there are files of.

        Raises:
            StoreError: The folder can't be read.
        """
        try:
            paths = sorted(self._folder.glob("*/*.json"))
        except OSError as error:
            raise _trouble("read", error) from error
        return [
            (urllib.parse.unquote(path.parent.name), path.stem)
            for path in paths
        ]

    def stamp(self, model: str, fingerprint: str) -> Stamp:
        """Returns what a file's content can be told by, at the cost of a stat.

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

    def load(
        self, model: str, fingerprint: str
    ) -> tuple[MetaProgress | None, Stamp]:
        """Reads a file; None if there is none, or none that can be used.

        Raises:
            StoreError: The folder can't be read.
        """
        path = self._path(model, fingerprint)
        stamp = self.stamp(model, fingerprint)
        try:
            return MetaProgress.from_dict(json.loads(path.read_bytes())), stamp
        except FileNotFoundError:
            return None, None
        except OSError as error:
            raise _trouble("read", error) from error
        except (MetaStateError, ValueError) as error:
            _log.error(
                "%s is not used: %s. The exported meta state is served; the "
                "next promoted one replaces the file.",
                path,
                error,
            )
            return None, stamp

    def save(
        self,
        model: str,
        fingerprint: str,
        progress: MetaProgress,
        expected: Stamp,
    ) -> Stamp:
        """Replaces a file, if it is still as it was read.

        Args:
            model: Name of the model.
            fingerprint: Of the fixed part.
            progress: What to keep.
            expected: Stamp of what this progress goes on from.

        Returns:
            The new stamp; None if somebody else was quicker, and nothing was
            written.

        Raises:
            StoreError: The file can't be written; the old one stays.
        """
        path = self._path(model, fingerprint)
        text = json.dumps(progress.to_dict())
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(path.with_suffix(".lock")):
                if self.stamp(model, fingerprint) != expected:
                    return None
                _replace(path, text.encode())
                return self.stamp(model, fingerprint)
        except OSError as error:
            raise _trouble("written", error) from error

    def _path(self, model: str, fingerprint: str) -> Path:
        name = urllib.parse.quote(model, safe="")
        # '.' and '..' are names that quoting leaves as they are.
        name = name.replace(".", "%2E")
        return self._folder / name / f"{fingerprint}.json"


def roll_back(
    folder: str | Path, model: str, fingerprint: str, version: int
) -> MetaProgress:
    """Makes an earlier version of a meta state the one that is served.

    Gateways that use the folder notice at their next look at it.

    Args:
        folder: Folder of the meta states.
        model: Name of the model.
        fingerprint: Of the fixed part.
        version: A version in the file's history, or the exported one.

    Returns:
        The progress after it.

    Raises:
        MetaStateError: There is no such version.
        StoreError: The file can't be read or written.
    """
    files = MetaStateFiles(folder)
    while True:
        progress, stamp = files.load(model, fingerprint)
        if progress is None:
            raise MetaStateError(
                f"{folder} holds no meta state of model {model!r} and "
                f"fingerprint {fingerprint}; there is nothing to roll back."
            )
        progress = progress.roll_back(version)
        if files.save(model, fingerprint, progress, stamp) is not None:
            return progress


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps other processes out, for as long as it takes."""
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, content: bytes) -> None:
    """Writes durably: after a crash the old content is there, or the new."""
    building = path.with_suffix(".building")
    with building.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    building.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _trouble(what: str, error: OSError) -> StoreError:
    return StoreError(
        f"The meta states can't be {what} ({error}). See that the folder of "
        "--meta-states exists on a disk with room and may be written to."
    )
