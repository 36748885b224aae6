"""The contract of an event log."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import TypeVar

from serving.errors import DeletedUserError, LogFullError
from serving.event_log.entry import LogEntry, Submission
from serving.lmdb_file import DEFAULT_MAP_BYTES
from serving.store.record import UserKey
from serving.store.tombstone import Retention, Tombstone

_Log = TypeVar("_Log", bound="EventLog")

# A position is the time in milliseconds since 1970, and so many bits more to
# tell apart what came within one.
POSITION_TIME_BITS = 20


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """How much a log holds, and for how long.

    Attributes:
        max_entries: With so many entries, learned ones go early, and if there
            are none, no more are taken in.
        dedup_seconds: An event id that comes again within this time is known.
            Longer than senders try again.
        keep_seconds: Entries stay this long after they are learned, to learn
            from again: a rebase finds here what it does not find in the
            reservoirs. 0 drops them at once.
        lease_seconds: An entry delivered to a consumer that does not
            acknowledge it in this time is delivered again. Longer than
            learning from one batch takes.
        tombstone_seconds: For so long no event of a deleted user is taken in.
        map_bytes: The most that an LMDB log may grow to.
    """

    max_entries: int = 1_000_000
    dedup_seconds: float = 24 * 3600.0
    keep_seconds: float = 24 * 3600.0
    lease_seconds: float = 30.0
    tombstone_seconds: float = Retention.tombstone_seconds
    map_bytes: int = DEFAULT_MAP_BYTES


@dataclasses.dataclass(frozen=True)
class LogStatus:
    """How full a log is.

    Attributes:
        entries: All that it holds.
        unlearned: Those of them that nobody acknowledged.
    """

    entries: int
    unlearned: int


# One of these for each submission, in their order: the entry with the events
# that are new; None if all of them are known; or why nothing was stored: the
# user was deleted, or there is no room for now.
Appended = LogEntry | DeletedUserError | LogFullError | None


class EventLog(abc.ABC):
    """Users' events, durable before anybody is told so.

    A producer appends; what `append` returned survives a crash. Consumers
    read, learn, and acknowledge; what a consumer does not acknowledge is
    delivered again, so nothing is lost and a crash may deliver twice: whoever
    learns remembers in the user's record how far it came (`log_position`).

    A user's entries are delivered in their order: whoever is given one has, or
    is given with it, all before it that nobody acknowledged. A consumer that
    can't learn from one must not go on to the user's next: it would count as
    learned. It makes one call at a time that may deliver, and holds what that
    gave before the next; what a call would have given that failed is delivered
    again.

    `tests/contract/event_log_suite.py` holds for every implementation.
    Methods are safe to call from several threads, and raise `EventLogError`
    if the log itself fails.
    """

    @abc.abstractmethod
    def append(
        self, submissions: Sequence[Submission], consumer: str | None = None
    ) -> list[Appended]:
        """Stores events durably; callers at the same time share one sync.

        Events whose id is known are left out: their first submission is as
        durable as this one.

        Args:
            submissions: What users did.
            consumer: Deliver the entries to this consumer at once, as far as
                nothing of their users waits before them (`claimed` tells), so
                that it may learn from them without reading.

        Returns:
            What became of each submission, in their order. If it raises, any
            of them may be stored: send all of them again, and those that are
            count once.
        """

    @abc.abstractmethod
    def read(
        self, consumer: str, limit: int, wait_seconds: float = 0.0
    ) -> list[LogEntry]:
        """Delivers entries, the oldest first.

        Args:
            consumer: Who asks; a name that is unique among those who read.
            limit: How many entries to deliver at most; earlier ones of the
                same users, which others had, may come besides.
            wait_seconds: How long to wait if there are none.

        Returns:
            Entries that are not delivered yet, or not acknowledged in time.
        """

    @abc.abstractmethod
    def ack(self, entries: Sequence[LogEntry]) -> None:
        """Marks entries as learned; they are not delivered any more.

        After a crash those acknowledged last may be delivered once again.
        """

    @abc.abstractmethod
    def events_of(self, key: UserKey) -> list[LogEntry]:
        """Returns all that the log still holds of a user, the oldest first."""

    @abc.abstractmethod
    def entries(self) -> Iterator[LogEntry]:
        """Yields all that the log still holds, each user's oldest first.

        Those that come meanwhile may be among them. Damaged ones are logged
        and left out.
        """

    @abc.abstractmethod
    def delete(self, key: UserKey) -> tuple[int, Tombstone]:
        """Removes a user's entries durably and leaves a tombstone.

        Entries that are delivered already can't be called back: delete the
        user from the store after that, whose tombstone refuses what comes of
        them.

        Returns:
            How many entries were removed, and the tombstone for the receipt.
        """

    def trim(self) -> int:
        """Drops what need not be kept any more; returns how many entries."""
        return sum(self.trim_steps())

    @abc.abstractmethod
    def trim_steps(self) -> Iterator[int]:
        """Trims in short steps; yields how many entries each has dropped.

        Whoever shares the log with others may wait between them, or leave
        the rest.
        """

    @abc.abstractmethod
    def status(self) -> LogStatus:
        """Returns how full the log is."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the log. Calling it again does nothing."""

    def __enter__(self: _Log) -> _Log:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
