"""The online stage: a consumer of the event log that moves users' weights.

    submit --> intake --> log           durable: it is answered from here on
                 |         |
              claimed   reading         by this process, or whoever is free
                 |         |
                 +-> line <+            each user's entries, in their order
                       |
                    learner             many users at once, then acknowledged

Entries that this process took in come here without being read. Nobody waits
for a batch to fill up: users are learned from at once while few batches are
on their way, and those that come meanwhile leave together.

What can't be learned now, since the model server or the store is down, stays
and is tried again, later each time. What the model server refuses for itself
is left out, so that it holds nobody up.
"""

import asyncio
import dataclasses
import logging
import os
import random
import secrets
import socket
from collections.abc import Sequence

from serving.errors import (
    BackendRefusalError,
    DeletedUserError,
    RecordError,
    ServingError,
)
from serving.event_log import EventLog, LogEntry, Submission
from serving.gateway.metrics import Metrics
from serving.online.intake import Intake
from serving.online.learner import Learner
from serving.online.lesson import Learned, Lesson
from serving.online.line import Answer, Line, User, Waiting
from serving.online.reading import Reading

_log = logging.getLogger(__name__)

# Two keep the model server busy while this process reads and writes.
_MAX_BATCHES = 2
_MAX_USERS = 256
# With so many entries here, the others stay in the log.
_MAX_ENTRIES = 8_192
_FIRST_DELAY_SECONDS = 0.02
_LAST_DELAY_SECONDS = 2.0


@dataclasses.dataclass(frozen=True, eq=False)
class Submitted:
    """What became of a submission.

    Attributes:
        entry: It, in the log; None if all of its events were known.
        learned: What it changed; None if that comes later.
    """

    entry: LogEntry | None
    learned: Learned | None = None


class OnlineStage:
    """Learns from the log; lives inside one event loop."""

    def __init__(
        self,
        log: EventLog,
        learner: Learner,
        metrics: Metrics,
        read_wait_seconds: float = 0.0,
    ) -> None:
        """Sets the stage up; it reads the log only after `start`.

        Args:
            log: Where events come from.
            learner: Learns from them.
            metrics: Counts.
            read_wait_seconds: How long a read waits for entries. Submissions
                wait for it, so a process that takes some in does not.
        """
        self._log = log
        self._learner = learner
        self._metrics = metrics
        self._name = (
            f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        )
        self._line = Line()
        # What a read delivers must be held before an append can claim what
        # comes after it.
        lock = asyncio.Lock()
        self._intake: Intake[Answer] = Intake(
            log, self._claimer, lock, self._hold
        )
        self._reading = Reading(
            log, self._name, read_wait_seconds, lock, self._hold
        )
        self._reader: asyncio.Task[None] | None = None
        self._batches: set[asyncio.Task[None]] = set()
        self._closing = False
        metrics.watch_waiting_entries(lambda: self._line.num_entries)

    def start(self) -> None:
        """Begins to read the log."""
        self._reader = asyncio.create_task(
            self._reading.run(
                lambda: len(self._line) < _MAX_USERS and self._has_room
            )
        )

    async def submit(
        self, submission: Submission, seconds: float = 0.0
    ) -> Submitted:
        """Takes events in durably, and may wait until they are learned.

        Args:
            submission: What a user did.
            seconds: How long to wait.

        Raises:
            DeletedUserError: The user was deleted.
            LogFullError: No more is taken in for now.
            EventLogError: The log failed.
            BackendRefusalError: The model server refuses to learn from them;
                they are left out.
        """
        taken = await self._intake.append(submission)
        if taken.answer is None or seconds <= 0.0:
            return Submitted(taken.entry)
        await asyncio.wait((taken.answer,), timeout=seconds)
        answer = taken.answer.result() if taken.answer.done() else None
        if isinstance(answer, ServingError):
            raise answer
        return Submitted(taken.entry, answer)

    async def close(self, seconds: float) -> None:
        """Stops reading, and learns from what is here.

        Args:
            seconds: After so long the rest is left to the log.
        """
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._batches and (left := end - loop.time()) > 0:
            await asyncio.wait(self._batches, timeout=left)
        self._closing = True
        for batch in self._batches:
            batch.cancel()
        await asyncio.gather(*self._batches, return_exceptions=True)

    @property
    def _has_room(self) -> bool:
        return self._line.num_entries < _MAX_ENTRIES

    def _claimer(self) -> str | None:
        """Who claims what is taken in now."""
        return self._name if self._has_room else None

    def _hold(self, entry: LogEntry) -> Waiting:
        waiting = self._line.hold(entry)
        self._send()
        return waiting

    def _send(self) -> None:
        """Sends users who are in line, as far as batches are free."""
        while (
            len(self._line)
            and len(self._batches) < _MAX_BATCHES
            and not self._closing
        ):
            batch = asyncio.create_task(
                self._learn(self._line.take(_MAX_USERS))
            )
            self._batches.add(batch)
            batch.add_done_callback(self._sent)

    def _sent(self, batch: "asyncio.Task[None]") -> None:
        self._batches.discard(batch)
        self._send()

    async def _learn(
        self, users: Sequence[User], most_entries: int | None = None
    ) -> None:
        """Learns from some users; from parts of them if that is refused."""
        lessons = [user.lesson(most_entries) for user in users]
        self._metrics.observe_batch(len(lessons))
        try:
            outcomes = await self._learner.learn(lessons)
        except (BackendRefusalError, RecordError) as error:
            await self._find_refused(users, lessons, error)
        except ServingError as error:
            _log.warning("%d users learn later: %s", len(users), error)
            self._put_off(users, answer=True)
        except Exception:
            _log.exception("%d users learn later", len(users))
            self._put_off(users, answer=True)
        else:
            for user, lesson, outcome in zip(
                users, lessons, outcomes, strict=True
            ):
                if outcome is None:
                    # Another process was quicker.
                    self._put_off([user])
                elif isinstance(outcome, DeletedUserError):
                    self._line.finish(user, lesson.positions, outcome)
                else:
                    self._metrics.count_learned(outcome.model.name)
                    self._line.finish(user, outcome.accepted, outcome)

    async def _find_refused(
        self,
        users: Sequence[User],
        lessons: Sequence[Lesson],
        error: ServingError,
    ) -> None:
        """Leaves out the entry that can't be learned; learns the others."""
        if len(users) > 1:
            half = len(users) // 2
            await self._learn(users[:half])
            await self._learn(users[half:])
            return
        (user,), (lesson,) = users, lessons
        if len(lesson.entries) > 1:
            await self._learn(users, most_entries=1)
            return
        _log.error(
            "The events at position %d are left out: %s",
            lesson.entries[0].position,
            error,
        )
        self._metrics.count_left_out()
        try:
            await asyncio.to_thread(self._log.ack, lesson.entries)
        except ServingError as ack_error:
            _log.warning("%s", ack_error)
        self._line.finish(user, lesson.positions, error)

    def _put_off(self, users: Sequence[User], answer: bool = False) -> None:
        """Has users learn a little later.

        Args:
            users: Of one batch.
            answer: Whether those who wait are told so now.
        """
        failures = min(user.failures for user in users)
        for user in users:
            user.failures += 1
            if answer:
                user.tell(None)
        delay = min(_FIRST_DELAY_SECONDS * 2**failures, _LAST_DELAY_SECONDS)
        asyncio.get_running_loop().call_later(
            delay * random.uniform(0.5, 1.0), self._resume, users
        )

    def _resume(self, users: Sequence[User]) -> None:
        self._line.put_back(users)
        self._send()
