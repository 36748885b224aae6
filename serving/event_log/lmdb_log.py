"""The embedded event log: one LMDB environment on a local disk.

`lmdb_entries.py` says what is stored, and how. Deliveries are not stored:
they end with the process. Acknowledgements are stored with the next append.
"""

import dataclasses
import fcntl
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TypeVar

from serving.errors import EventLogError, LogFullError
from serving.event_log.entry import LogEntry, Submission
from serving.event_log.event_log import Appended, EventLog, LogConfig, LogStatus
from serving.event_log.leases import Leases
from serving.event_log.lmdb_appender import LmdbAppender
from serving.event_log.lmdb_entries import NUM_DATABASES, LmdbEntries, decoded
from serving.event_log.lmdb_positions import after, position_of
from serving.in_parts import in_parts
from serving.lmdb_file import LmdbFile, Transaction
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone, now_ms

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

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
        self._path = Path(path)
        self._file = LmdbFile(
            path, self._config.map_bytes, NUM_DATABASES, _failed, _full
        )
        self._stored = LmdbEntries(self._file)
        self._appender = LmdbAppender(self._file, self._stored, self._config)
        # Guards the three below, and tells readers of appends.
        self._changed = threading.Condition()
        self._leases = Leases(self._config.lease_seconds)
        self._acknowledged: set[bytes] = set()
        self._reader_lock: IO[bytes] | None = None
        self._closed = False

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        append = functools.partial(
            self._appender.append, submissions=submissions
        )
        try:
            appended = self._write(append)
        except LogFullError as error:
            # One transaction: all of them are stored, or none.
            return [error] * len(submissions)
        with self._changed:
            results = [
                self._claimed(result, earlier, consumer)
                for result, earlier in appended
            ]
            self._changed.notify_all()
        return results

    def _claimed(
        self, result: Appended, earlier: bytes | None, consumer: str | None
    ) -> Appended:
        """Leases a new entry to who appended it, if nothing speaks against."""
        if consumer is None or not isinstance(result, LogEntry):
            return result
        position = position_of(result)
        if self._leases.holder(position) is not None:
            return result
        if earlier is not None and not self._may_follow(earlier, consumer):
            return result
        self._leases.give(consumer, (position,))
        return dataclasses.replace(result, claimed=True)

    def _may_follow(self, earlier: bytes, consumer: str) -> bool:
        """Whether a consumer may have what comes after a user's entry.

        Nothing before that entry need be looked at: who was given it has all
        before it, and with it all of that is acknowledged. `redis_scripts`
        has the argument.
        """
        holder = self._leases.holder(earlier)
        if holder is None:
            return earlier in self._acknowledged
        return holder == consumer

    def read(  # noqa: D102
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        self._become_reader()
        deadline = time.monotonic() + wait_seconds
        while True:
            entries = self._take(consumer, limit)
            left = deadline - time.monotonic()
            if entries or left <= 0:
                return entries
            with self._changed:
                self._changed.wait(min(left, _POLL_SECONDS))

    def _take(self, consumer: str, limit: int) -> list[LogEntry]:
        # In this order, or an entry that is acknowledged meanwhile would be
        # in the queue that we see, and not among the acknowledged ones.
        with self._changed, self._file.reading() as transaction:
            taken: list[bytes] = []
            blocked = set()
            for position, owner in self._stored.queue(transaction):
                if position in self._acknowledged:
                    continue
                holder = self._leases.holder(position)
                if holder is None and owner not in blocked:
                    taken.append(position)
                    if len(taken) == limit:
                        break
                elif holder != consumer:
                    # A user's later entries wait for the earlier ones.
                    blocked.add(owner)
            found = [self._stored.get(transaction, p) for p in taken]
            self._leases.give(consumer, taken)
            # What can't be read would only come again.
            self._acknowledged.update(
                position
                for position, entry in zip(taken, found, strict=True)
                if entry is None
            )
        return [entry for entry in found if entry is not None]

    def _become_reader(self) -> None:
        """Makes sure that no other process reads: leases are not stored."""
        with self._changed:
            if self._reader_lock is not None:
                return
            lock = (self._path / "reader.lock").open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                lock.close()
                raise EventLogError(
                    f"Another process reads the event log {self._path}. Let "
                    "one process learn from it, or use Redis for several."
                ) from error
            self._reader_lock = lock

    def ack(self, entries: Sequence[LogEntry]) -> None:  # noqa: D102
        positions = list(map(position_of, entries))
        with self._changed:
            self._leases.end(positions)
            self._acknowledged.update(positions)
            many = len(self._acknowledged) >= _CHUNK
        # A sync is dear: fewer acknowledgements wait for the next append.
        if many:
            self._write(_nothing, removes=True)

    def _write(
        self, work: Callable[[Transaction], _T], removes: bool = False
    ) -> _T:
        """Runs work in a transaction that also stores acknowledgements."""
        with self._changed:
            acknowledged = tuple(self._acknowledged)

        def write(transaction: Transaction) -> _T:
            self._acknowledge(transaction, acknowledged)
            return work(transaction)

        try:
            result = self._file.write(write, removes)
        except LogFullError:
            if not acknowledged:
                raise
            # What is learned makes room, but perhaps not all of it at once.
            in_parts(self._store_acknowledged, acknowledged, LogFullError)
            return self._file.write(work, removes)
        with self._changed:
            self._acknowledged.difference_update(acknowledged)
        return result

    def _store_acknowledged(self, positions: Sequence[bytes]) -> int:
        acknowledge = functools.partial(self._acknowledge, positions=positions)
        self._file.write(acknowledge, removes=True)
        with self._changed:
            self._acknowledged.difference_update(positions)
        return len(positions)

    def _acknowledge(
        self, transaction: Transaction, positions: Sequence[bytes]
    ) -> None:
        for position in positions:
            if self._config.keep_seconds > 0:
                self._stored.acknowledge(transaction, position)
            else:
                self._stored.drop(transaction, position)

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
        delete = functools.partial(
            self._stored.delete, key=key, tombstone=tombstone
        )
        return sum(self._in_steps(delete)), tombstone

    def trim_steps(self) -> Iterator[int]:  # noqa: D102
        before_ms = now_ms() - int(self._config.keep_seconds * 1000)
        drop = functools.partial(self._stored.drop_learned, before_ms=before_ms)
        yield from self._in_steps(drop)
        self._write(self._stored.forget_tombstones, removes=True)

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
                self._write(self._stored.touch, removes=True)
            work = functools.partial(drop, most=len(places))
            return self._write(work, removes=True)

        while dropped := in_parts(some, range(_DROP_CHUNK), LogFullError):
            yield dropped

    def status(self) -> LogStatus:  # noqa: D102
        with self._changed, self._file.reading() as transaction:
            entries, unlearned = self._stored.counts(transaction)
            learned = self._stored.num_queued(transaction, self._acknowledged)
            return LogStatus(entries, unlearned - learned)

    def close(self) -> None:  # noqa: D102
        if self._closed:
            return
        self._closed = True
        if self._acknowledged:
            try:
                self._write(_nothing, removes=True)
            except EventLogError as error:
                _log.warning("What was learned last comes once more: %s", error)
        if self._reader_lock is not None:
            self._reader_lock.close()
        self._file.close()


def _nothing(transaction: Transaction) -> None:
    """Work for a transaction that only stores acknowledgements."""


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(
        f"The event log {what}. Events are refused until it has room again: "
        "give it more with --log-map-bytes or free some disk."
    )
