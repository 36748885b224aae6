"""Finds, opens and fingerprints the input files, on disk or on a store.

Paths may be local or URIs that `pyarrow.fs` knows (gs://, s3://, hdfs://).
"""

import datetime
import fnmatch
import hashlib
import pathlib
import time

import pyarrow as pa
from pyarrow import fs

from components.dataset_spec import DatasetSpec
from components.errors import InputDataError

_DAY = datetime.timedelta(days=1)


def _resolve(path: str) -> tuple[fs.FileSystem, str]:
    if "://" in path:
        return fs.FileSystem.from_uri(path)
    return fs.LocalFileSystem(), path


def find_files(folder: str, names: tuple[str, ...]) -> list[fs.FileInfo]:
    """Returns the files of a table, sorted by path.

    Args:
        folder: Folder of the dataset.
        names: File names relative to it; `*` and `?` match within a name.

    Raises:
        InputDataError: A name matches no file.
    """
    system, root = _resolve(folder)
    found: dict[str, fs.FileInfo] = {}
    for name in names:
        path = f"{root}/{name}" if not name.startswith("/") else name
        parent, _, pattern = path.rpartition("/")
        selector = fs.FileSelector(parent, allow_not_found=True)
        matches = [
            info
            for info in system.get_file_info(selector)
            if info.is_file and fnmatch.fnmatchcase(info.base_name, pattern)
        ]
        if not matches:
            raise InputDataError(
                f"There is no file {name!r} in {folder}. Check `files` in the "
                "dataset spec and the folder given for the data."
            )
        found.update((info.path, info) for info in matches)
    return [found[path] for path in sorted(found)]


def open_file(path: str, folder: str) -> pa.NativeFile:
    """Opens a file for random reads on the file system of `folder`."""
    system, _ = _resolve(folder)
    return system.open_input_file(path)


def all_files(spec: DatasetSpec, folder: str) -> list[fs.FileInfo]:
    """Returns the files of every table of the dataset."""
    return [i for t in spec.tables for i in find_files(folder, t.files)]


def fingerprint(infos: list[fs.FileInfo]) -> str:
    """Returns a text that changes when an input file does.

    Like TFX's ExampleGen it goes by name, size and time of the last write,
    since reading a large log only to know whether it changed costs too much.
    """
    digest = hashlib.sha256()
    for info in infos:
        written = (info.mtime_ns or 0) // 1_000_000_000
        digest.update(f"{info.base_name}:{info.size}:{written}\n".encode())
    return digest.hexdigest()


def newest_possible_event(infos: list[fs.FileInfo]) -> int:
    """Returns the time, in s, after which a timestamp must be wrong.

    A file holds no event from after it came to where it is. Taking that date,
    up to the end of the next UTC day, rather than today's keeps a second run
    on the same files identical to the first, and so lets TFX use its cache.
    On a local disk it is the inode's date: archives bring dates of their own
    for the last write, some of them older than the events inside.
    """
    arrived = max(map(_arrived, infos), default=0.0)
    written = datetime.datetime.fromtimestamp(
        arrived or time.time(), datetime.timezone.utc
    )
    day = written.date() + 2 * _DAY
    start = datetime.datetime(
        day.year, day.month, day.day, tzinfo=datetime.timezone.utc
    )
    return int(start.timestamp())


def _arrived(info: fs.FileInfo) -> float:
    """When a file came to where it is, in s; 0 if nobody knows."""
    path = pathlib.Path(info.path)
    if path.exists():
        return path.stat().st_ctime
    return info.mtime.timestamp() if info.mtime else 0.0
