"""The online stage: a consumer of the event log that moves users' weights.

    submit --> intake --> log           durable: it is answered from here on
                 |         |
              claimed   reading         by this process, or whoever is free
                 |         |
                 +-> line <+            each user's entries, in their order
                       |
                    batches             who is in line leaves together
                       |
                    learner             many users at once, then acknowledged

Entries that this process took in come here without being read.
"""

import asyncio
import dataclasses
import os
import secrets
import socket

from serving.errors import ServingError
from serving.event_log import EventLog, LogEntry, Submission
from serving.metrics import Metrics
from serving.online.batches import MAX_USERS, Batches
from serving.online.intake import Intake
from serving.online.learner import Learner
from serving.online.lesson import Learned
from serving.online.line import Answer, Line, Waiting
from serving.online.reading import Reading

# With so many entries here, the others stay in the log.
_MAX_ENTRIES = 8_192


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
        self._name = (
            f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        )
        self._line = Line()
        self._batches = Batches(self._line, learner, log, metrics)
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
        self._closing = False
        metrics.watch_waiting_entries(lambda: self._line.num_entries)

    def start(self) -> None:
        """Begins to read the log."""
        self._reader = asyncio.create_task(
            self._reading.run(
                lambda: len(self._line) < MAX_USERS and self._has_room
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
        self._closing = True
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        await self._batches.close(seconds)

    @property
    def _has_room(self) -> bool:
        return self._line.num_entries < _MAX_ENTRIES

    def _claimer(self) -> str | None:
        """Who claims what is taken in now.

        Nobody does any more once a read may have been cut short: nobody holds
        what it gave, and what comes after that must not be learned before it.
        """
        return self._name if self._has_room and not self._closing else None

    def _hold(self, entry: LogEntry) -> Waiting:
        waiting = self._line.hold(entry)
        self._batches.send()
        return waiting
