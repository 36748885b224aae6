"""Version folders that appear whole or not at all.

A model server lists the numbered folders of its base path, takes the highest
number and loads what lies in it at that moment. So a version is copied beside
the base path, forced to disk, and renamed into it in one step; an old version
leaves the same way, before its files are deleted. A process that dies at any
point leaves at worst a hidden folder that the next push removes.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from components.errors import PushError
from serving.contract.manifest import MANIFEST_FILE

CopyFile = Callable[[Path, Path], None]
Prepare = Callable[[Path], None]


def listed_versions(push_dir: Path) -> list[int]:
    """Returns the versions that a model server would list, in order."""
    if not push_dir.is_dir():
        return []
    return sorted(
        int(entry.name)
        for entry in push_dir.iterdir()
        if entry.name.isdigit() and entry.is_dir()
    )


def next_version(push_dir: Path, now: float | None = None) -> int:
    """Returns a version above all listed ones, the Unix time if it can be.

    Args:
        push_dir: The base path.
        now: Seconds since the epoch; the clock's if None. A clock that went
            back, or two pushes in one second, still give a higher version.
    """
    seconds = int(time.time() if now is None else now)
    return max([seconds, *(v + 1 for v in listed_versions(push_dir))])


def copy_file_durably(source: Path, destination: Path) -> None:
    """Copies one file and forces its bytes to disk."""
    with source.open("rb") as reader, destination.open("wb") as writer:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fsync(writer.fileno())


def push_version(
    model_dir: Path,
    push_dir: Path,
    prepare: Prepare | None = None,
    copy_file: CopyFile = copy_file_durably,
) -> int:
    """Makes a model the newest version of a base path.

    Args:
        model_dir: The SavedModel's folder.
        push_dir: The base path; made if it does not exist.
        prepare: Called with the staged copy before anyone else sees it.
        copy_file: Copies one file; tests let it fail.

    Returns:
        The version that was pushed.

    Raises:
        PushError: The base path can't take an atomic rename.
    """
    if "://" in str(push_dir):
        raise PushError(
            f"push_dir {push_dir} is a URL. A version appears by a rename, "
            "which object stores don't have: push to a file system and sync "
            "the finished version from there."
        )
    # Resolved, so that the staging folder is beside it and never inside.
    push_dir = push_dir.resolve()
    push_dir.mkdir(parents=True, exist_ok=True)
    with _only_pusher(push_dir):
        _remove_leftovers(push_dir)
        staged = Path(
            tempfile.mkdtemp(
                prefix=_staging_prefix(push_dir), dir=push_dir.parent
            )
        )
        try:
            _copy_tree(model_dir, staged, copy_file)
            if prepare is not None:
                prepare(staged)
            _sync_tree(staged)
            version = next_version(push_dir)
            _rename(staged, push_dir / str(version))
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise
        _sync_folder(push_dir)
    return version


def remove_old_versions(push_dir: Path, keep_versions: int) -> list[int]:
    """Removes all but the newest versions, of those that were pushed here.

    Args:
        push_dir: The base path.
        keep_versions: How many to keep, at least 1. Keep 2 or more where
            requests pin a version across a swap, or to roll back.

    Returns:
        The removed versions. A folder without an adaptive manifest was put
        there by someone else: it is neither counted nor touched.
    """
    check_keep_versions(keep_versions)
    push_dir = push_dir.resolve()
    with _only_pusher(push_dir):
        # Under the lock: another pusher may have been removing the same.
        known = [
            version
            for version in listed_versions(push_dir)
            if (push_dir / str(version) / MANIFEST_FILE).is_file()
        ]
        removed = known[:-keep_versions]
        for version in removed:
            leaving = Path(
                tempfile.mkdtemp(
                    prefix=_staging_prefix(push_dir), dir=push_dir.parent
                )
            )
            (push_dir / str(version)).rename(leaving)
            shutil.rmtree(leaving)
    return removed


def check_keep_versions(keep_versions: int) -> None:
    """Raises PushError unless at least one version stays."""
    if keep_versions < 1:
        raise PushError(
            f"keep_versions is {keep_versions}; at least the version just "
            "pushed has to stay, so use 1 or more."
        )


def _staging_prefix(push_dir: Path) -> str:
    return f".staging-{push_dir.name}-"


@contextlib.contextmanager
def _only_pusher(push_dir: Path) -> Iterator[None]:
    """Holds the base path's lock; the kernel frees it if we die."""
    lock = push_dir.parent / f".push-{push_dir.name}.lock"
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _remove_leftovers(push_dir: Path) -> None:
    """Removes what killed pushes left; under the lock nobody else stages."""
    for leftover in push_dir.parent.glob(_staging_prefix(push_dir) + "*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _copy_tree(source: Path, staged: Path, copy_file: CopyFile) -> None:
    for folder, folders, files in os.walk(source):
        there = staged / Path(folder).relative_to(source)
        for name in folders:
            (there / name).mkdir()
        for name in files:
            copy_file(Path(folder) / name, there / name)


def _sync_tree(staged: Path) -> None:
    # mkdtemp gives 0700; model servers often run as another user.
    staged.chmod(0o755)
    for folder, _, _ in os.walk(staged):
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _rename(staged: Path, final: Path) -> None:
    try:
        staged.rename(final)
    except OSError as error:
        raise PushError(
            f"{staged} can't be renamed to {final} ({error.strerror}). Both "
            "must lie on one file system: let push_dir be a folder inside a "
            "volume, not the volume's root."
        ) from error
