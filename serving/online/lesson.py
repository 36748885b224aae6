"""What one user is taught, and what came of it."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from serving.event_log import LogEntry
from serving.models.ladder import UserState
from serving.models.served_model import ServedModel
from serving.store import UserKey


@dataclasses.dataclass(frozen=True, eq=False)
class Lesson:
    """A user's entries of the log that are learned from together.

    Attributes:
        key: The user, and the model that learns.
        entries: The oldest first; at least one.
    """

    key: UserKey
    entries: Sequence[LogEntry]

    @property
    def positions(self) -> frozenset[int]:
        """Where the entries are."""
        return frozenset(entry.position for entry in self.entries)


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What a lesson changed, durably.

    Attributes:
        model: The version that learned.
        user: The weights as stored.
        accepted: By position of each entry, of how many of its events the
            user's weights know now; fewer than there are if an experiment
            stops at some number.
        losses: Mean loss of the support set before and after; None if there
            was nothing left to learn from.
        unknown_items: Items of these events that the model does not know.
    """

    model: ServedModel
    user: UserState
    accepted: Mapping[int, int]
    losses: tuple[float, float] | None = None
    unknown_items: Collection[str] = ()
