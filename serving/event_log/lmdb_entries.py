"""What the LMDB event log stores, and how a transaction changes it.

    entries   position (8 bytes) -> a submission, as in `entry.py`
    queue     position -> digest of the user; what nobody acknowledged
    users     digest of the user -> positions
    deleted   see `lmdb_tombstones.py`
    seen0..4  hashes of event ids, see `seen_ids.py`
    meta      the last position, and what `seen_ids.py` keeps

Positions are those of `lmdb_positions.py`.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator

from serving.errors import RecordError
from serving.event_log.entry import (
    LogEntry,
    Submission,
    decode_submission,
    encode_submission,
)
from serving.event_log.lmdb_positions import (
    NO_POSITION,
    after,
    first_position,
    number_of,
    position_now,
)
from serving.lmdb_file import LmdbFile, Transaction
from serving.store.record import UserKey

_log = logging.getLogger(__name__)

NUM_DATABASES = 16
_LAST = b"last"


class LmdbEntries:
    """The databases of a log; every method runs inside a transaction."""

    def __init__(self, file: LmdbFile) -> None:
        self._entries = file.database("entries")
        self._queue = file.database("queue")
        self._users = file.database("users", fixed_duplicates=True)
        self._meta = file.database("meta")

    def put(self, transaction: Transaction, submission: Submission) -> LogEntry:
        """Stores a submission at the next position; returns its entry."""
        owner = submission.key.digest
        position = self._next_position(transaction)
        transaction.put(
            position,
            encode_submission(submission),
            append=True,
            db=self._entries,
        )
        transaction.put(position, owner, append=True, db=self._queue)
        transaction.put(owner, position, db=self._users)
        return LogEntry(
            number_of(position),
            submission.key,
            submission.events,
            submission.features,
        )

    def newest_waiting(
        self, transaction: Transaction, key: UserKey
    ) -> bytes | None:
        """Returns a user's newest position; None if it is learned."""
        cursor = transaction.cursor(db=self._users)
        if not cursor.set_key(key.digest) or not cursor.last_dup():
            return None
        position = cursor.value()
        queued = transaction.get(position, db=self._queue) is not None
        return position if queued else None

    def _next_position(self, transaction: Transaction) -> bytes:
        last = transaction.get(_LAST, NO_POSITION, db=self._meta)
        position = position_now(last)
        transaction.put(_LAST, position, db=self._meta)
        return position

    def touch(self, transaction: Transaction) -> None:
        """Changes next to nothing.

        What a transaction frees is not for the next one to use, but for those
        after it: this is the next one, in a file that is full.
        """
        last = transaction.get(_LAST, NO_POSITION, db=self._meta)
        transaction.put(_LAST, last, db=self._meta)

    def drop_learned(
        self, transaction: Transaction, most: int, before_ms: int | None = None
    ) -> int:
        """Drops learned entries, the oldest first; returns how many.

        Args:
            transaction: A write transaction.
            most: How many at most.
            before_ms: Only those that came before this moment, milliseconds
                since 1970.
        """
        before = None if before_ms is None else first_position(before_ms)
        dropped = 0
        for position in itertools.islice(
            self._learned(transaction, before), most
        ):
            self.drop(transaction, position)
            dropped += 1
        return dropped

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
            found = cursor.set_range(after(position))

    def drop(self, transaction: Transaction, position: bytes) -> None:
        """Removes an entry, if it is there."""
        transaction.delete(position, db=self._queue)
        data = transaction.pop(position, db=self._entries)
        entry = None if data is None else decoded(position, data)
        if entry is not None:
            transaction.delete(entry.key.digest, position, db=self._users)

    def acknowledge(self, transaction: Transaction, position: bytes) -> None:
        """Takes an entry out of the queue."""
        transaction.delete(position, db=self._queue)

    def queue(self, transaction: Transaction) -> Iterator[tuple[bytes, bytes]]:
        """Yields position and owner of what nobody acknowledged, in order."""
        return iter(transaction.cursor(db=self._queue))

    def num_queued(
        self, transaction: Transaction, positions: Iterable[bytes]
    ) -> int:
        """Returns how many of some entries are in the queue."""
        return sum(
            transaction.get(position, db=self._queue) is not None
            for position in positions
        )

    def get(self, transaction: Transaction, position: bytes) -> LogEntry | None:
        """Returns an entry; None if it is gone or damaged."""
        data = transaction.get(position, db=self._entries)
        return None if data is None else decoded(position, data)

    def positions_of(
        self, transaction: Transaction, key: UserKey
    ) -> list[bytes]:
        """Returns where a user's entries are, the oldest first."""
        cursor = transaction.cursor(db=self._users)
        return list(cursor.iternext_dup()) if cursor.set_key(key.digest) else []

    def chunk(
        self, transaction: Transaction, start: bytes, most: int
    ) -> list[tuple[bytes, bytes]]:
        """Returns positions and bytes of entries from a position on."""
        cursor = transaction.cursor(db=self._entries)
        if not cursor.set_range(start):
            return []
        return list(itertools.islice(cursor, most))

    def delete(self, transaction: Transaction, key: UserKey, most: int) -> int:
        """Removes entries of a user, `most` at most; returns how many."""
        positions = self.positions_of(transaction, key)[:most]
        for position in positions:
            transaction.delete(position, db=self._queue)
            transaction.delete(position, db=self._entries)
            transaction.delete(key.digest, position, db=self._users)
        return len(positions)

    def counts(self, transaction: Transaction) -> tuple[int, int]:
        """Returns how many entries there are, and how many in the queue."""
        return (
            transaction.stat(self._entries)["entries"],
            transaction.stat(self._queue)["entries"],
        )


def decoded(position: bytes, data: bytes) -> LogEntry | None:
    """Decodes an entry; logs what is damaged and returns None."""
    try:
        return decode_submission(number_of(position), data)
    except RecordError as error:
        _log.warning("%s", error)
        return None
