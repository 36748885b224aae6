"""Users in line leave for the learner, few batches at a time.

Nobody waits for a batch to fill up: users are learned from at once while few
batches are on their way, and those that come meanwhile leave together.

What can't be learned now, since the model server or the store is down, stays
and is tried again, later each time. What the model server refuses for itself
is left out, so that it holds nobody up.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

from serving.errors import (
    BackendRefusalError,
    DeletedUserError,
    RecordError,
    ServingError,
)
from serving.event_log import EventLog
from serving.metrics import Metrics
from serving.online.learner import Learner
from serving.online.lesson import Lesson
from serving.online.line import Line, User

_log = logging.getLogger(__name__)

# Of one batch.
MAX_USERS = 256
# Two keep the model server busy while this process reads and writes.
_MAX_BATCHES = 2
_FIRST_DELAY_SECONDS = 0.02
_LAST_DELAY_SECONDS = 2.0


class Batches:
    """Batches of users under way; lives inside one event loop."""

    def __init__(
        self, line: Line, learner: Learner, log: EventLog, metrics: Metrics
    ) -> None:
        """Sets them up.

        Args:
            line: Where users are taken from.
            learner: Learns from them.
            log: Is told what is left out.
            metrics: Counts.
        """
        self._line = line
        self._learner = learner
        self._log = log
        self._metrics = metrics
        self._under_way: set[asyncio.Task[None]] = set()
        self._closing = False

    def send(self) -> None:
        """Sends users who are in line, as far as batches are free."""
        while (
            len(self._line)
            and len(self._under_way) < _MAX_BATCHES
            and not self._closing
        ):
            batch = asyncio.create_task(self._learn(self._line.take(MAX_USERS)))
            self._under_way.add(batch)
            batch.add_done_callback(self._sent)

    async def close(self, seconds: float) -> None:
        """Lets users in line be learned from, then stops.

        Args:
            seconds: After so long the rest is left to the log.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while self._under_way and (left := end - loop.time()) > 0:
            await asyncio.wait(self._under_way, timeout=left)
        self._closing = True
        for batch in self._under_way:
            batch.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _sent(self, batch: "asyncio.Task[None]") -> None:
        self._under_way.discard(batch)
        self.send()

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
        self.send()
