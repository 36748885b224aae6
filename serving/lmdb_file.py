"""An LMDB environment: errors in our words, room for what is removed.

LMDB changes no page in place, so to remove something takes pages as well, and
in a file that is full nobody could be deleted. Some pages are kept back for
that: other writes are refused while so many are left.
"""

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import lmdb

from serving.group_commit import GroupCommit, Write

_T = TypeVar("_T")
# A string because the class can't be subscripted when the program runs.
Transaction: TypeAlias = "lmdb.Transaction[bytes]"

# Address space, not disk: the file grows as records come.
DEFAULT_MAP_BYTES = 64 << 30
# As large as those made it who write to the file: beyond the end of their map
# they could not read it any more.
SAME_MAP_BYTES = 0
# Threads, of all processes together.
_MAX_READERS = 256
# Slots of readers that were killed are freed this often, while we write:
# once all are taken, no process can even open the file.
_CHECK_READERS_SECONDS = 1.0
# To remove takes some twenty in the log, which has the more databases. What it
# frees can be used again two transactions later.
_KEPT_BACK_PAGES = 64
_KEPT_BACK_SHARE = 1 / 8
# A value of so much less than a page takes one of its own.
_PAGE_HEADER_BYTES = 64
# So little is left of a disk that is full.
_NEARLY_NOTHING = 1 << 16


class LmdbFile:
    """One folder with an LMDB environment.

    Not to be used across `fork()`: open it in the process that uses it, once.
    Other processes may have the same folder open.
    """

    def __init__(
        self,
        path: str | Path,
        map_bytes: int,
        databases: int,
        failed: Callable[[str], Exception],
        full: Callable[[str], Exception],
    ) -> None:
        """Opens the folder, or creates it.

        Args:
            path: Folder on a local disk; LMDB does not work on network disks.
            map_bytes: The most that the file may grow to; who comes to a file
                that others use takes `SAME_MAP_BYTES`.
            databases: How many named databases it holds.
            failed: Makes the error to raise if LMDB fails.
            full: Makes the error to raise if there is no room.
        """
        self._path = Path(path)
        self._failed = failed
        self._full = full
        self._commits: GroupCommit[Transaction] = GroupCommit(self._commit)
        with self.translated():
            self._path.mkdir(parents=True, exist_ok=True)
            # No write map: a stray write of ours must not reach the file.
            self._env = lmdb.open(
                str(self._path),
                map_size=map_bytes,
                max_readers=_MAX_READERS,
                max_dbs=databases,
                sync=True,
                metasync=True,
                writemap=False,
                readahead=False,
            )
            self._map_bytes: int = self._env.info()["map_size"]
            self._env.reader_check()
            self._readers_checked = time.monotonic()
            self._page_bytes: int = self._env.stat()["psize"]
            self._kept_back = min(
                _KEPT_BACK_PAGES,
                int(_KEPT_BACK_SHARE * self._map_bytes / self._page_bytes),
            )

    @property
    def data_path(self) -> Path:
        """The file with all that is stored."""
        return self._path / "data.mdb"

    def database(self, name: str, fixed_duplicates: bool = False) -> Any:
        """Opens a named database, or creates it.

        Args:
            name: Its name.
            fixed_duplicates: Whether a key has many values of one size.
        """
        with self.translated():
            return self._env.open_db(
                name.encode(),
                dupsort=fixed_duplicates,
                dupfixed=fixed_duplicates,
            )

    @contextlib.contextmanager
    def reading(self) -> Iterator[Transaction]:
        """Gives a transaction that sees one moment."""
        with self.translated(), self._begin() as transaction:
            yield transaction

    def _begin(self) -> Transaction:
        try:
            return self._env.begin()
        except lmdb.ReadersFullError:
            # Killed processes hold slots until somebody looks after them.
            self._env.reader_check()
            return self._env.begin()

    def write(
        self, work: Callable[[Transaction], _T], removes: bool = False
    ) -> _T:
        """Runs work inside a write transaction; durable on return.

        Args:
            work: Called with the transaction, perhaps twice; what it returns
                is returned. If it raises, nothing of it is stored.
            removes: Whether it may take the room that is kept back.
        """
        return self._commits.write(work, removes)

    def _commit(self, batch: Sequence[Write[Transaction, Any]]) -> None:
        with self.translated():
            self._free_readers()
            with self._env.begin(write=True) as transaction:
                for write in batch:
                    write.run(transaction)
                if not all(write.removes for write in batch):
                    self._leave_room(transaction)

    def _free_readers(self) -> None:
        now = time.monotonic()
        if now - self._readers_checked > _CHECK_READERS_SECONDS:
            self._readers_checked = now
            self._env.reader_check()

    def _leave_room(self, transaction: Transaction) -> None:
        """Tries whether the pages to keep back are left after a transaction.

        LMDB does not tell how many there are, so they are written, and that
        is taken back. Far from the end of the map they need not be.
        """
        end = (self._env.info()["last_pgno"] + 1) * self._page_bytes
        if end < self._map_bytes / 2:
            return
        page = bytes(self._page_bytes - _PAGE_HEADER_BYTES)
        trial = self._env.begin(write=True, parent=transaction)
        try:
            for number in range(self._kept_back):
                trial.put(b"kept back %d" % number, page)
        finally:
            trial.abort()

    def close(self) -> None:
        """Releases the folder. Calling it again does nothing."""
        self._env.close()

    @contextlib.contextmanager
    def translated(self) -> Iterator[None]:
        """Turns LMDB's errors into ours."""
        try:
            yield
        except lmdb.Error as error:
            if self._has_no_room(error):
                raise self._full(
                    f"{self._path} is full ({self._map_bytes} bytes at most, "
                    "and what the disk has left)"
                ) from error
            raise self._failed(
                f"{self._path} failed: {error}. See that the folder is on a "
                "local disk, may be written, and holds what it should."
            ) from error
        except OSError as error:
            raise self._failed(
                f"{self._path} can't be opened: {error.strerror}."
            ) from error

    def _has_no_room(self, error: Exception) -> bool:
        if isinstance(error, lmdb.MapFullError | lmdb.DiskError):
            return True
        # What LMDB says of a write that a disk without room cut short.
        return (
            os.strerror(errno.EIO) in str(error)
            and shutil.disk_usage(self._path).free < _NEARLY_NOTHING
        )
