"""Finds a dataset's files in a folder or a zip that somebody has already."""

import functools
import gzip
import pathlib
import shutil
import zipfile
from collections.abc import Callable, Iterator
from typing import IO

# Archives like to put everything in a folder of its own, in a folder.
_DEPTHS = ("", "*/", "*/*/")

Opener = Callable[[], IO[bytes]]


def gather(
    place: pathlib.Path, names: list[str], output: pathlib.Path
) -> str | None:
    """Copies files from a folder or a zip to a folder.

    A file may lie in a subfolder, be compressed as `name.gz`, or be a member
    of a zip in the folder.

    Args:
        place: A folder or a zip.
        names: Names of the files.
        output: Where they go.

    Returns:
        What is missing, None if nothing is.
    """
    if not place.exists():
        return f"{place} does not exist"
    for name in names:
        opener = next(_candidates(place, name), None)
        if opener is None:
            return f"there is no file {name} in {place}"
        with opener() as source, (output / name).open("wb") as target:
            shutil.copyfileobj(source, target)
    return None


def _candidates(place: pathlib.Path, name: str) -> Iterator[Opener]:
    if place.is_file():
        yield from _in_zip(place, name)
        return
    for depth in _DEPTHS:
        for path in sorted(place.glob(f"{depth}{name}")):
            yield functools.partial(_open_plain, path)
        for path in sorted(place.glob(f"{depth}{name}.gz")):
            yield functools.partial(_open_gzip, path)
    for archive in sorted(place.glob("*.zip")):
        yield from _in_zip(archive, name)


def _in_zip(archive: pathlib.Path, name: str) -> Iterator[Opener]:
    if not zipfile.is_zipfile(archive):
        return
    with zipfile.ZipFile(archive) as opened:
        for member in opened.namelist():
            if pathlib.PurePosixPath(member).name == name:
                yield functools.partial(_open_member, archive, member)


def _open_plain(path: pathlib.Path) -> IO[bytes]:
    return path.open("rb")


def _open_gzip(path: pathlib.Path) -> IO[bytes]:
    return gzip.open(path, "rb")  # type: ignore[return-value]


def _open_member(archive: pathlib.Path, member: str) -> IO[bytes]:
    # The archive may be closed once its member is open.
    with zipfile.ZipFile(archive) as opened:
        return opened.open(member)
