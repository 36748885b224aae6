"""Takes events in: durable before anybody is told so, many with one sync."""

import asyncio
import collections
import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

from serving.errors import ServingError
from serving.event_log import Appended, EventLog, LogEntry, Submission

# Of one append; a Redis script runs alone while it lasts.
_MAX_SUBMISSIONS = 256

_Answer = TypeVar("_Answer")


@dataclasses.dataclass(frozen=True, eq=False)
class Taken(Generic[_Answer]):
    """A submission that is durable.

    Attributes:
        entry: It, in the log; None if all of its events were known.
        answer: Where it is told what became of it; None if this process did
            not claim it.
    """

    entry: LogEntry | None
    answer: "asyncio.Future[_Answer] | None" = None


@dataclasses.dataclass(frozen=True, eq=False)
class _Waiting(Generic[_Answer]):
    submission: Submission
    taken: "asyncio.Future[Taken[_Answer]]"


class Intake(Generic[_Answer]):
    """Appends to the log, one call at a time; lives inside one event loop.

    What comes while a call is under way leaves together with the next one.
    """

    def __init__(
        self,
        log: EventLog,
        consumer: Callable[[], str | None],
        lock: asyncio.Lock,
        on_claimed: "Callable[[LogEntry], asyncio.Future[_Answer]]",
    ) -> None:
        """Sets it up.

        Args:
            log: Where events go.
            consumer: Asked before each call who claims the new entries.
            lock: Held during a call.
            on_claimed: Given each entry that was claimed, whether its sender
                still waits or not; says where its outcome is told.
        """
        self._log = log
        self._consumer = consumer
        self._lock = lock
        self._on_claimed = on_claimed
        self._waiting: collections.deque[_Waiting[_Answer]] = (
            collections.deque()
        )
        self._task: asyncio.Task[None] | None = None

    async def append(self, submission: Submission) -> Taken[_Answer]:
        """Stores a submission durably.

        Raises:
            DeletedUserError: The user was deleted.
            LogFullError: The log takes in no more for now.
            EventLogError: The log failed.
        """
        taken: asyncio.Future[Taken[_Answer]] = (
            asyncio.get_running_loop().create_future()
        )
        self._waiting.append(_Waiting(submission, taken))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await taken

    async def _run(self) -> None:
        while self._waiting:
            batch = [
                self._waiting.popleft()
                for _ in range(min(len(self._waiting), _MAX_SUBMISSIONS))
            ]
            async with self._lock:
                await self._append(batch)
        self._task = None

    async def _append(self, batch: list[_Waiting[_Answer]]) -> None:
        submissions = [waiting.submission for waiting in batch]
        try:
            results = await asyncio.to_thread(
                self._log.append, submissions, self._consumer()
            )
        except Exception as error:
            for waiting in batch:
                if not waiting.taken.done():
                    waiting.taken.set_exception(error)
            return
        for waiting, result in zip(batch, results, strict=True):
            self._tell(waiting, result)

    def _tell(self, waiting: _Waiting[_Answer], result: Appended) -> None:
        answer = None
        if isinstance(result, LogEntry) and result.claimed:
            answer = self._on_claimed(result)
        if waiting.taken.done():
            # Its sender has hung up.
            return
        if isinstance(result, ServingError):
            waiting.taken.set_exception(result)
        else:
            waiting.taken.set_result(Taken(result, answer))
