"""The embedded event log: one LMDB environment on a local disk.

`lmdb_entries.py` says what is stored, and how, and `lmdb_deliveries.py` what
is not.
"""

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from serving.errors import EventLogError, LogFullError
from serving.event_log.entry import LogEntry, Submission
from serving.event_log.event_log import Appended, EventLog, LogConfig, LogStatus
from serving.event_log.lmdb_appender import LmdbAppender
from serving.event_log.lmdb_deliveries import LmdbDeliveries
from serving.event_log.lmdb_entries import NUM_DATABASES, LmdbEntries, decoded
from serving.event_log.lmdb_positions import after, position_of
from serving.event_log.lmdb_tombstones import LmdbTombstones
from serving.event_log.reader_lock import ReaderLock
from serving.in_parts import in_parts
from serving.lmdb_file import LmdbFile, Transaction
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone, now_ms

_CHUNK = 512
# Appends wait for so many entries to be dropped.
_DROP_CHUNK = 128
# Appends of other processes are looked for this often.
_POLL_SECONDS = 0.005


class LmdbEventLog(EventLog):
    """Keeps the events in an LMDB folder.

    Several processes may append, one may read. Not to be used across
    `fork()`: open it in the process that uses it, once.
    """

    def __init__(
        self, path: str | Path, config: LogConfig | None = None
    ) -> None:
        """Opens the folder, or creates it.

        Args:
            path: Folder on a local disk; LMDB does not work on network disks.
            config: How much it holds, and for how long.

        Raises:
            EventLogError: It can't be opened.
        """
        self._config = config or LogConfig()
        self._file = LmdbFile(
            path, self._config.map_bytes, NUM_DATABASES, _failed, _full
        )
        self._stored = LmdbEntries(self._file)
        self._tombstones = LmdbTombstones(self._file)
        self._appender = LmdbAppender(
            self._file, self._stored, self._tombstones, self._config
        )
        self._deliveries = LmdbDeliveries(
            self._file, self._stored, self._config
        )
        self._reader_lock = ReaderLock(Path(path))
        self._closed = False

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        append = functools.partial(
            self._appender.append, submissions=submissions
        )
        try:
            appended = self._deliveries.write(append)
        except LogFullError as error:
            # One transaction: all of them are stored, or none.
            return [error] * len(submissions)
        return self._deliveries.claim(appended, consumer)

    def read(  # noqa: D102
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        self._reader_lock.take()
        deadline = time.monotonic() + wait_seconds
        while True:
            entries = self._deliveries.take(consumer, limit)
            left = deadline - time.monotonic()
            if entries or left <= 0:
                return entries
            self._deliveries.wait(min(left, _POLL_SECONDS))

    def ack(self, entries: Sequence[LogEntry]) -> None:  # noqa: D102
        self._deliveries.acknowledge(list(map(position_of, entries)))

    def events_of(self, key: UserKey) -> list[LogEntry]:  # noqa: D102
        with self._file.reading() as transaction:
            found = [
                self._stored.get(transaction, position)
                for position in self._stored.positions_of(transaction, key)
            ]
        return [
            entry for entry in found if entry is not None and entry.key == key
        ]

    def entries(self) -> Iterator[LogEntry]:  # noqa: D102
        start = b""
        while chunk := self._chunk(start):
            for position, data in chunk:
                entry = decoded(position, data)
                if entry is not None:
                    yield entry
            start = after(chunk[-1][0])

    def _chunk(self, start: bytes) -> list[tuple[bytes, bytes]]:
        # A transaction that stays open keeps LMDB from using room again.
        with self._file.reading() as transaction:
            return self._stored.chunk(transaction, start, _CHUNK)

    def delete(self, key: UserKey) -> tuple[int, Tombstone]:  # noqa: D102
        retention = Retention(tombstone_seconds=self._config.tombstone_seconds)
        tombstone = Tombstone.now(retention)

        def delete(transaction: Transaction, most: int) -> int:
            self._tombstones.put(transaction, key, tombstone)
            return self._stored.delete(transaction, key, most)

        return sum(self._in_steps(delete)), tombstone

    def trim_steps(self) -> Iterator[int]:  # noqa: D102
        before_ms = now_ms() - int(self._config.keep_seconds * 1000)
        drop = functools.partial(self._stored.drop_learned, before_ms=before_ms)
        yield from self._in_steps(drop)
        yield from self._forget_tombstones()

    def _forget_tombstones(self) -> Iterator[int]:
        """Removes the tombstones that have expired; no entries are dropped."""

        def forget(owners: Sequence[bytes]) -> int:
            work = functools.partial(self._tombstones.forget, owners=owners)
            return self._deliveries.write(work, removes=True)

        start = b""
        while True:
            with self._file.reading() as transaction:
                chunk = self._tombstones.chunk(transaction, start, _CHUNK)
            if not chunk:
                return
            if expired := [owner for owner, is_over in chunk if is_over]:
                in_parts(forget, expired, LogFullError)
            yield 0
            start = chunk[-1][0] + b"\0"

    def _in_steps(self, drop: Callable[..., int]) -> Iterator[int]:
        """Drops entries, as many at a time as there is room for.

        Args:
            drop: Drops some inside a transaction, `most` at most; returns how
                many.

        Yields:
            How many were dropped, until there are none.

        Raises:
            LogFullError: There is no room to drop a single one.
        """

        def some(places: Sequence[int]) -> int:
            if len(places) == 1:
                self._deliveries.write(self._stored.touch, removes=True)
            work = functools.partial(drop, most=len(places))
            return self._deliveries.write(work, removes=True)

        while dropped := in_parts(some, range(_DROP_CHUNK), LogFullError):
            yield dropped

    def status(self) -> LogStatus:  # noqa: D102
        return self._deliveries.status()

    def close(self) -> None:  # noqa: D102
        if self._closed:
            return
        self._closed = True
        self._deliveries.close()
        self._reader_lock.release()
        self._file.close()


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(
        f"The event log {what}. Events are refused until it has room again: "
        "give it more with --log-map-bytes or free some disk."
    )
