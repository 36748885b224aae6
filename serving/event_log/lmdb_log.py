"""The embedded event log: one LMDB environment on a local disk.

    entries   position (8 bytes) -> a submission, as in `entry.py`
    queue     position -> digest of the user; what nobody acknowledged
    users     digest of the user -> positions
    deleted   digest of the user -> tombstone
    seen0..4  hashes of event ids, see `seen_ids.py`
    meta      the last position, and what `seen_ids.py` keeps

A position is the time in milliseconds times 2^20, or one more than the last.
"""

import dataclasses
import fcntl
import functools
import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from serving.errors import EventLogError, LogFullError, RecordError
from serving.event_log.entry import (
    LogEntry,
    Submission,
    decode_submission,
    encode_submission,
)
from serving.event_log.event_log import (
    POSITION_TIME_BITS,
    Appended,
    EventLog,
    LogConfig,
    LogStatus,
)
from serving.event_log.leases import Leases
from serving.event_log.seen_ids import SeenIds, is_new
from serving.lmdb_file import DEFAULT_MAP_BYTES, LmdbFile, Transaction
from serving.store.adaptive_store import deleted
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone, now_ms

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_POSITION_BYTES = 8
_LAST = b"last"
_DATABASES = 16
_CHUNK = 512
# Appends of other processes are looked for this often.
_POLL_SECONDS = 0.005


class LmdbEventLog(EventLog):
    """Keeps the events in an LMDB folder.

    Several processes may append, one may read. Not to be used across
    `fork()`: open it in the process that uses it, once.
    """

    def __init__(
        self,
        path: str | Path,
        map_bytes: int = DEFAULT_MAP_BYTES,
        config: LogConfig | None = None,
    ) -> None:
        """Opens the folder, or creates it.

        Args:
            path: Folder on a local disk; LMDB does not work on network disks.
            map_bytes: The most that the file may grow to.
            config: How much it holds, and for how long.

        Raises:
            EventLogError: It can't be opened.
        """
        self._config = config or LogConfig()
        self._path = Path(path)
        self._file = LmdbFile(path, map_bytes, _DATABASES, _failed, _full)
        self._entries = self._file.database("entries")
        self._queue = self._file.database("queue")
        self._users = self._file.database("users", fixed_duplicates=True)
        self._deleted = self._file.database("deleted")
        self._meta = self._file.database("meta")
        self._seen = SeenIds(self._file, self._meta, self._config.dedup_seconds)
        # Guards the three below, and tells readers of appends.
        self._changed = threading.Condition()
        self._leases = Leases(self._config.lease_seconds)
        self._acknowledged: set[bytes] = set()
        self._reader_lock: IO[bytes] | None = None
        self._closed = False

    def append(  # noqa: D102
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        appended = self._write(
            functools.partial(self._append, submissions=submissions)
        )
        with self._changed:
            results = [
                self._claimed(result, waiting, consumer)
                for result, waiting in appended
            ]
            self._changed.notify_all()
        return results

    def _append(
        self, transaction: Transaction, submissions: Sequence[Submission]
    ) -> list[tuple[Appended, list[bytes]]]:
        self._make_room(transaction, len(submissions))
        parts = self._seen.live_parts(transaction)
        return [
            self._append_one(transaction, submission, parts)
            for submission in submissions
        ]

    def _append_one(
        self, transaction: Transaction, submission: Submission, parts: list[Any]
    ) -> tuple[Appended, list[bytes]]:
        """Returns what `append` does, and what of the user waits before."""
        key = submission.key
        owner = key.digest
        if Tombstone.live(transaction.get(owner, db=self._deleted)) is not None:
            return deleted(key), []
        new = tuple(
            event
            for event in submission.events
            if is_new(transaction, parts, event.hash(key))
        )
        if not new:
            return None, []
        waiting = self._waiting(transaction, owner)
        kept = dataclasses.replace(submission, events=new)
        position = self._next_position(transaction)
        transaction.put(
            position, encode_submission(kept), append=True, db=self._entries
        )
        transaction.put(position, owner, append=True, db=self._queue)
        transaction.put(owner, position, db=self._users)
        number = int.from_bytes(position, "big")
        return LogEntry(number, key, new, submission.features), waiting

    def _waiting(self, transaction: Transaction, owner: bytes) -> list[bytes]:
        """Returns the newest positions of a user, down to a learned one."""
        cursor = transaction.cursor(db=self._users)
        waiting: list[bytes] = []
        if not cursor.set_key(owner) or not cursor.last_dup():
            return waiting
        for position in cursor.iterprev_dup():
            if transaction.get(position, db=self._queue) is None:
                break
            waiting.append(position)
        return waiting

    def _next_position(self, transaction: Transaction) -> bytes:
        last = transaction.get(_LAST, bytes(_POSITION_BYTES), db=self._meta)
        number = max(
            int.from_bytes(last, "big") + 1, now_ms() << POSITION_TIME_BITS
        )
        position = number.to_bytes(_POSITION_BYTES, "big")
        transaction.put(_LAST, position, db=self._meta)
        return position

    def _claimed(
        self, result: Appended, waiting: list[bytes], consumer: str | None
    ) -> Appended:
        """Leases a new entry to who appended it, if nothing speaks against."""
        if consumer is None or not isinstance(result, LogEntry):
            return result
        position = _position(result)
        if self._leases.holder(position) is not None or any(
            self._leases.holder(earlier) != consumer
            and earlier not in self._acknowledged
            for earlier in waiting
        ):
            return result
        self._leases.give(consumer, (position,))
        return dataclasses.replace(result, claimed=True)

    def _make_room(self, transaction: Transaction, num_entries: int) -> None:
        """Drops learned entries if the log is full; raises if none is left."""
        held = transaction.stat(self._entries)["entries"]
        excess = held + num_entries - self._config.max_entries
        if excess <= 0:
            return
        learned = held - transaction.stat(self._queue)["entries"]
        if excess > learned:
            raise LogFullError(
                f"The event log {self._path} holds {held} entries, "
                f"{held - learned} of them not learned from yet, and takes in "
                f"no more than {self._config.max_entries}. Send the events "
                "again later; if it stays so, see that the online stage runs "
                "and keeps up."
            )
        for position in itertools.islice(
            self._learned(transaction, None), excess
        ):
            self._remove(transaction, position)

    def _learned(
        self, transaction: Transaction, before: bytes | None
    ) -> Iterator[bytes]:
        """Yields positions of learned entries, the oldest first."""
        cursor = transaction.cursor(db=self._entries)
        found = cursor.first()
        while found:
            position = cursor.key()
            if before is not None and position >= before:
                return
            if transaction.get(position, db=self._queue) is None:
                yield position
            # What the caller removed is gone from under the cursor.
            found = cursor.set_range(_after(position))

    def _remove(self, transaction: Transaction, position: bytes) -> None:
        data = transaction.pop(position, db=self._entries)
        transaction.delete(position, db=self._queue)
        entry = _decoded(position, data)
        if entry is not None:
            transaction.delete(entry.key.digest, position, db=self._users)

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
        with self._file.reading() as transaction, self._changed:
            taken: list[bytes] = []
            blocked = set()
            for position, owner in transaction.cursor(db=self._queue):
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
            entries = [
                _decoded(position, transaction.get(position, db=self._entries))
                for position in taken
            ]
            self._leases.give(consumer, taken)
            # What can't be read would only come again.
            self._acknowledged.update(
                position
                for position, entry in zip(taken, entries, strict=True)
                if entry is None
            )
        return [entry for entry in entries if entry is not None]

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
        positions = list(map(_position, entries))
        with self._changed:
            self._leases.end(positions)
            self._acknowledged.update(positions)
            many = len(self._acknowledged) >= _CHUNK
        # A sync is dear: fewer acknowledgements wait for the next append.
        if many:
            self._write(_nothing)

    def _write(self, work: Callable[[Transaction], _T]) -> _T:
        """Runs work in a transaction that also stores acknowledgements."""
        with self._changed:
            acknowledged = tuple(self._acknowledged)

        def write(transaction: Transaction) -> _T:
            for position in acknowledged:
                if self._config.keep_seconds > 0:
                    transaction.delete(position, db=self._queue)
                else:
                    self._remove(transaction, position)
            return work(transaction)

        result = self._file.write(write)
        with self._changed:
            self._acknowledged.difference_update(acknowledged)
        return result

    def events_of(self, key: UserKey) -> list[LogEntry]:  # noqa: D102
        with self._file.reading() as transaction:
            cursor = transaction.cursor(db=self._users)
            found = []
            if cursor.set_key(key.digest):
                for position in cursor.iternext_dup():
                    data = transaction.get(position, db=self._entries)
                    found.append(_decoded(position, data))
        return [
            entry for entry in found if entry is not None and entry.key == key
        ]

    def entries(self) -> Iterator[LogEntry]:  # noqa: D102
        start = b""
        while chunk := self._chunk(start):
            for position, data in chunk:
                entry = _decoded(position, data)
                if entry is not None:
                    yield entry
            start = _after(chunk[-1][0])

    def _chunk(self, start: bytes) -> list[tuple[bytes, bytes]]:
        # A transaction that stays open keeps LMDB from using room again.
        with self._file.reading() as transaction:
            cursor = transaction.cursor(db=self._entries)
            if not cursor.set_range(start):
                return []
            return list(itertools.islice(cursor, _CHUNK))

    def delete(self, key: UserKey) -> tuple[int, Tombstone]:  # noqa: D102
        retention = Retention(tombstone_seconds=self._config.tombstone_seconds)
        tombstone = Tombstone.now(retention)
        owner = key.digest

        def delete(transaction: Transaction) -> int:
            cursor = transaction.cursor(db=self._users)
            positions = []
            if cursor.set_key(owner):
                positions = list(cursor.iternext_dup())
            for position in positions:
                transaction.delete(position, db=self._queue)
                transaction.delete(position, db=self._entries)
            transaction.delete(owner, db=self._users)
            transaction.put(owner, tombstone.to_bytes(), db=self._deleted)
            return len(positions)

        return self._write(delete), tombstone

    def trim(self) -> int:  # noqa: D102
        kept_ms = int(self._config.keep_seconds * 1000)
        before = _first_position(now_ms() - kept_ms)
        removed = 0
        while chunk := self._write(
            functools.partial(self._trim, before=before)
        ):
            removed += chunk
        self._write(self._forget_tombstones)
        return removed

    def _trim(self, transaction: Transaction, before: bytes) -> int:
        removed = 0
        learned = self._learned(transaction, before)
        for position in itertools.islice(learned, _CHUNK):
            self._remove(transaction, position)
            removed += 1
        return removed

    def _forget_tombstones(self, transaction: Transaction) -> None:
        cursor = transaction.cursor(db=self._deleted)
        expired = [k for k, data in cursor if Tombstone.live(data) is None]
        for owner in expired:
            transaction.delete(owner, db=self._deleted)

    def status(self) -> LogStatus:  # noqa: D102
        with self._file.reading() as transaction, self._changed:
            return LogStatus(
                entries=transaction.stat(self._entries)["entries"],
                unlearned=transaction.stat(self._queue)["entries"]
                - len(self._acknowledged),
            )

    def close(self) -> None:  # noqa: D102
        if self._closed:
            return
        self._closed = True
        if self._acknowledged:
            self._write(_nothing)
        if self._reader_lock is not None:
            self._reader_lock.close()
        self._file.close()


def _nothing(transaction: Transaction) -> None:
    """Work for a transaction that only stores acknowledgements."""


def _position(entry: LogEntry) -> bytes:
    return entry.position.to_bytes(_POSITION_BYTES, "big")


def _first_position(moment_ms: int) -> bytes:
    """Returns the first position of a millisecond."""
    number = max(moment_ms, 0) << POSITION_TIME_BITS
    return number.to_bytes(_POSITION_BYTES, "big")


def _after(position: bytes) -> bytes:
    number = int.from_bytes(position, "big") + 1
    return number.to_bytes(_POSITION_BYTES, "big")


def _decoded(position: bytes, data: bytes | None) -> LogEntry | None:
    """Returns an entry; None if it is gone or damaged."""
    if data is None:
        return None
    try:
        return decode_submission(int.from_bytes(position, "big"), data)
    except RecordError as error:
        _log.warning("%s", error)
        return None


def _failed(what: str) -> EventLogError:
    return EventLogError(f"The event log {what}")


def _full(what: str) -> LogFullError:
    return LogFullError(
        f"The event log {what}. Events are refused until it has room again: "
        "give it more with --log-map-bytes or free some disk."
    )
