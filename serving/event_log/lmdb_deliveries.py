"""Who has which entries of an LMDB event log, and which are learned.

Deliveries are not stored: they end with the process. Acknowledgements are
stored with the next append.
"""

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from serving.errors import EventLogError, LogFullError
from serving.event_log.entry import LogEntry
from serving.event_log.event_log import Appended, LogConfig, LogStatus
from serving.event_log.leases import Leases
from serving.event_log.lmdb_appender import Stored
from serving.event_log.lmdb_entries import LmdbEntries
from serving.event_log.lmdb_positions import position_of
from serving.in_parts import in_parts
from serving.lmdb_file import LmdbFile, Transaction

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

# So many acknowledgements wait for no append.
_MANY = 512


class LmdbDeliveries:
    """What the consumers of one process have; safe across threads."""

    def __init__(
        self, file: LmdbFile, stored: LmdbEntries, config: LogConfig
    ) -> None:
        """Sets it up; nobody has anything.

        Args:
            file: The file of the log.
            stored: The entries in it.
            config: For how long entries are leased, and kept.
        """
        self._file = file
        self._stored = stored
        self._keeps = config.keep_seconds > 0
        # Guards the two below, and tells readers of appends.
        self._changed = threading.Condition()
        self._leases = Leases(config.lease_seconds)
        self._acknowledged: set[bytes] = set()

    def claim(
        self, appended: Sequence[Stored], consumer: str | None
    ) -> list[Appended]:
        """Leases new entries to who appended them, and wakes who waits.

        Args:
            appended: What is stored now.
            consumer: Who appended it; None if it is for others to read.

        Returns:
            What became of each submission.
        """
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

    def take(self, consumer: str, limit: int) -> list[LogEntry]:
        """Leases entries to a consumer, the oldest first.

        Args:
            consumer: Who reads.
            limit: How many at most.

        Returns:
            Entries that nobody has and nobody acknowledged.
        """
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

    def wait(self, seconds: float) -> None:
        """Waits until something is appended, or so long."""
        with self._changed:
            self._changed.wait(seconds)

    def acknowledge(self, positions: Sequence[bytes]) -> None:
        """Takes entries to be learned; they are not delivered any more."""
        with self._changed:
            self._leases.end(positions)
            self._acknowledged.update(positions)
            many = len(self._acknowledged) >= _MANY
        # A sync is dear: fewer acknowledgements wait for the next append.
        if many:
            self.write(_nothing, removes=True)

    def write(
        self, work: Callable[[Transaction], _T], removes: bool = False
    ) -> _T:
        """Runs work in a transaction that also stores acknowledgements.

        Args:
            work: Called with the transaction, perhaps twice; what it returns
                is returned. If it raises, nothing of it is stored.
            removes: Whether it may take the room that is kept back.

        Raises:
            LogFullError: There is no room.
            EventLogError: It can't be written.
        """
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
            if self._keeps:
                self._stored.acknowledge(transaction, position)
            else:
                self._stored.drop(transaction, position)

    def status(self) -> LogStatus:
        """Returns how full the log is."""
        with self._changed, self._file.reading() as transaction:
            entries, unlearned = self._stored.counts(transaction)
            learned = self._stored.num_queued(transaction, self._acknowledged)
            return LogStatus(entries, unlearned - learned)

    def close(self) -> None:
        """Stores what was acknowledged, if that can be."""
        if self._acknowledged:
            try:
                self.write(_nothing, removes=True)
            except EventLogError as error:
                _log.warning("What was learned last comes once more: %s", error)


def _nothing(transaction: Transaction) -> None:
    """Work for a transaction that only stores acknowledgements."""
