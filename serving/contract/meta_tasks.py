"""How users who stream in become tasks of the online outer loop.

What a user did before is the support set, the next `query_events` events are
the query set: what the meta state is judged by is what came after what the
inner loop was shown, as in serving. Tasks are collected in the order in which
they are complete. A slice of users, chosen by a stable hash, is held back:
their tasks judge a new meta state and never make one.
"""

import collections
import copy
import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Sequence
from typing import Generic, TypeVar

from serving.contract.meta_config import OnlineMetaConfig
from serving.contract.support import SupportEvent, merge_support

# What a caller needs to know of a user to ask the model about a task.
Context = TypeVar("Context")


@dataclasses.dataclass(frozen=True)
class MetaTask(Generic[Context]):
    """One task of the online outer loop.

    Attributes:
        user_id: Whose events these are.
        context: The caller's own, given to `TaskCollector.observe`.
        support: Events before the query set, the reservoir of them.
        query_set: The events that came next.
    """

    user_id: str
    context: Context
    support: tuple[SupportEvent, ...]
    query_set: tuple[SupportEvent, ...]


@dataclasses.dataclass(frozen=True)
class MetaBatch(Generic[Context]):
    """What one update of the meta state is made of.

    Attributes:
        tasks: The gradient comes from these, in order of arrival.
        held_back: Tasks of held-back users that judge the outcome.
    """

    tasks: tuple[MetaTask[Context], ...]
    held_back: tuple[MetaTask[Context], ...]

    @property
    def user_ids(self) -> set[str]:
        """Whose tasks these are."""
        return {task.user_id for task in (*self.tasks, *self.held_back)}

    def without(self, user_ids: Collection[str]) -> "MetaBatch[Context]":
        """Returns the batch without the tasks of some users."""
        tasks, held_back = (
            tuple(task for task in each if task.user_id not in user_ids)
            for each in (self.tasks, self.held_back)
        )
        return MetaBatch(tasks, held_back)


def is_held_back(user_id: str, share: float) -> bool:
    """Whether a user judges meta states instead of making them.

    Only the id's part after the last '/' counts, so that a user who is
    replayed under another namespace is on the same side.

    Args:
        user_id: The user.
        share: Of users to hold back, 0 to 1.
    """
    name = user_id.rpartition("/")[2]
    digest = hashlib.blake2b(name.encode(), digest_size=8, person=b"held-back")
    return int.from_bytes(digest.digest(), "big") < share * 2**64


@dataclasses.dataclass(frozen=True)
class _Held(Generic[Context]):
    """A task that waits: for its query set to be full, or for others.

    The reservoir stays as it was given and is not looked into, so whoever
    gives one that is packed has little held.
    """

    user_id: str
    context: Context
    reservoir: Sequence[SupportEvent]
    count: int
    query_set: tuple[SupportEvent, ...] = ()

    def task(self) -> MetaTask[Context]:
        # Of a copy: what is packed stays so when it is looked into.
        support = merge_support(copy.copy(self.reservoir), (), self.count)
        return MetaTask(
            self.user_id,
            self.context,
            support.events,
            self.query_set,
        )


class TaskCollector(Generic[Context]):
    """Makes batches of tasks from what users do.

    Holds at most `max_open_users` unfinished query sets, of the users who
    were heard of last, and one batch.
    """

    def __init__(self, config: OnlineMetaConfig) -> None:
        """Starts without tasks."""
        self._config = config
        self._open: collections.OrderedDict[str, _Held[Context]] = (
            collections.OrderedDict()
        )
        # Without users to judge there is no update; the newest tasks wait.
        self._tasks: collections.deque[_Held[Context]] = collections.deque(
            maxlen=config.tasks_per_update
        )
        self._held_back: collections.deque[_Held[Context]] = collections.deque(
            maxlen=config.held_back_tasks
        )

    def observe(
        self,
        user_id: str,
        context: Context,
        reservoir: Sequence[SupportEvent],
        count: int,
        new_events: Sequence[SupportEvent],
    ) -> MetaBatch[Context] | None:
        """Takes note of a user's new events.

        Args:
            user_id: The user.
            context: Kept with the task.
            reservoir: The user's kept events before the new ones; held as it
                is, and not looked into before a batch is made.
            count: How many events were seen before the new ones.
            new_events: Oldest first.

        Returns:
            A batch if it is complete now. It is handed out once.
        """
        task = self._open.pop(user_id, None)
        if task is None:
            if count < self._config.min_support_events:
                return None
            task = _Held(user_id, context, reservoir, count)
        query_set = (*task.query_set, *new_events)
        task = dataclasses.replace(
            task, query_set=query_set[: self._config.max_query_events]
        )
        if len(task.query_set) < self._config.query_events:
            self._open[user_id] = task
            if len(self._open) > self._config.max_open_users:
                self._open.popitem(last=False)
            return None
        if is_held_back(user_id, self._config.held_back_share):
            self._held_back.append(task)
            return None
        self._tasks.append(task)
        return self._take_batch()

    @property
    def user_ids(self) -> set[str]:
        """Of whom something is held."""
        complete = itertools.chain(self._tasks, self._held_back)
        return {*self._open, *(task.user_id for task in complete)}

    def forget(self, user_id: str) -> None:
        """Drops all tasks of a user."""
        self._open.pop(user_id, None)
        for tasks in (self._tasks, self._held_back):
            kept = [task for task in tasks if task.user_id != user_id]
            if len(kept) < len(tasks):
                tasks.clear()
                tasks.extend(kept)

    def _take_batch(self) -> MetaBatch[Context] | None:
        config = self._config
        if (
            len(self._tasks) < config.tasks_per_update
            or len(self._held_back) < config.min_held_back_tasks
        ):
            return None
        batch = MetaBatch(
            tuple(held.task() for held in self._tasks),
            tuple(held.task() for held in self._held_back),
        )
        self._tasks.clear()
        return batch
