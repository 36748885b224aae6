"""Users who wait to be learned from, each with their entries in order."""

import asyncio
import collections
import dataclasses
from collections.abc import Collection, Sequence

from serving.errors import ServingError
from serving.event_log import LogEntry
from serving.online.lesson import Learned, Lesson
from serving.store import UserKey

# Of one user in one lesson; a thousand events more than fill a reservoir.
_MAX_EVENTS = 1024

# What those who wait for an entry are told: what it changed, why it never
# will, or None if that takes longer.
Answer = Learned | ServingError | None
Waiting = asyncio.Future[Answer]


@dataclasses.dataclass(frozen=True, eq=False)
class _Held:
    entry: LogEntry
    answer: Waiting


@dataclasses.dataclass(eq=False)
class User:
    """A user with entries that are not learned yet.

    Attributes:
        key: The user, and the model that learns.
        held: The entries by position, the first one first.
        failures: How many times in a row they could not be learned.
    """

    key: UserKey
    # Its first entry is found at once also when many were taken off before it.
    held: collections.OrderedDict[int, _Held] = dataclasses.field(
        default_factory=collections.OrderedDict
    )
    failures: int = 0

    def lesson(self, most_entries: int | None = None) -> Lesson:
        """Returns what to learn next: all entries, within bounds."""
        entries: list[LogEntry] = []
        num_events = 0
        for held in self.held.values():
            num_events += len(held.entry.events)
            if entries and (
                num_events > _MAX_EVENTS or len(entries) == most_entries
            ):
                break
            entries.append(held.entry)
        return Lesson(self.key, entries)

    def tell(self, answer: Answer) -> None:
        """Answers all who wait; the entries stay."""
        for held in self.held.values():
            if not held.answer.done():
                held.answer.set_result(answer)


class Line:
    """Entries by user; lives inside one event loop.

    A user who was taken is out of line until put back, so that no two batches
    hold the same user.
    """

    def __init__(self) -> None:
        self._users: dict[UserKey, User] = {}
        self._line: collections.deque[User] = collections.deque()
        self._num_entries = 0

    def __len__(self) -> int:
        """How many users are in line."""
        return len(self._line)

    @property
    def num_entries(self) -> int:
        """How many entries are held, of users in line or out of it."""
        return self._num_entries

    def hold(self, entry: LogEntry) -> Waiting:
        """Takes an entry; returns where its outcome will be told."""
        user = self._users.get(entry.key)
        if user is None:
            user = self._users[entry.key] = User(entry.key)
            self._line.append(user)
        held = user.held.get(entry.position)
        # It is there if learning takes longer than a lease.
        if held is None:
            held = _Held(entry, asyncio.get_running_loop().create_future())
            user.held[entry.position] = held
            self._num_entries += 1
        return held.answer

    def take(self, most: int) -> list[User]:
        """Takes the first users out of line, all of one model.

        What fails is tried again as a whole: a model that is gone, or in
        trouble, must not hold up those who learn under another.
        """
        taken: list[User] = []
        others: list[User] = []
        while self._line and len(taken) < most:
            user = self._line.popleft()
            same = not taken or user.key.model == taken[0].key.model
            (taken if same else others).append(user)
        self._line.extendleft(reversed(others))
        return taken

    def put_back(self, users: Sequence[User]) -> None:
        """Puts users who were taken in line again."""
        self._line.extend(users)

    def finish(
        self, user: User, positions: Collection[int], answer: Answer
    ) -> None:
        """Lets go of the first entries of a user who was taken.

        Args:
            user: The user; in line again if there are more entries.
            positions: Where the entries are.
            answer: What those who wait for them are told.
        """
        while user.held and (first := next(iter(user.held))) in positions:
            held = user.held.pop(first)
            self._num_entries -= 1
            if not held.answer.done():
                held.answer.set_result(answer)
        user.failures = 0
        if user.held:
            self._line.append(user)
        else:
            del self._users[user.key]
