"""Learns users again who were met with the weights of another version.

A rebase learns everybody before a version is pushed. Who learned since, was
missed, or is met after a rollback is learned here, behind the answer that
met the user, so that the next one finds the weights. Serving comes first:
there is one batch at a time, and a rest as long as it took.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

from serving.errors import (
    DeletedUserError,
    ServingError,
    UnknownModelError,
)
from serving.event_log import EventLog
from serving.models.served_model import ServedModel
from serving.online.adapting import Adapting
from serving.online.pupils import Pupil
from serving.online.relearning import Relearning
from serving.online.told import decode_told, known_features
from serving.store import AdaptiveStore, UserKey, UserRecord

_log = logging.getLogger(__name__)

# What became of a user.
LEARNED = "learned"
CURRENT = "current"  # by somebody else meanwhile, or deleted
BUSY = "busy"  # written by somebody else meanwhile: met again, if behind
FAILED = "failed"  # model server, store or log did
DROPPED = "dropped"  # too many waited, or the version is gone

MAX_WAITING = 10_000
MAX_BATCH = 64

Count = Callable[[str, str, int], None]


class Stragglers:
    """Users who wait to be learned again; lives inside one event loop."""

    def __init__(
        self,
        adapting: Adapting,
        store: AdaptiveStore,
        log: EventLog,
        count: Count,
    ) -> None:
        """Sets it up; nothing runs until somebody is met.

        Args:
            adapting: Runs the inner loop.
            store: Keeps the weights.
            log: May hold more of a user's events than the record.
            count: Told the model, what became of users, and of how many.
        """
        self._adapting = adapting
        self._store = store
        self._log = log
        self._count = count
        # In the order in which they were met, each once per version.
        self._waiting: dict[tuple[UserKey, int], ServedModel] = {}
        self._task: asyncio.Task[None] | None = None

    def meet(self, model: ServedModel, record: UserRecord) -> None:
        """Has a user learned for a version, some time soon.

        Args:
            model: The version that met the user.
            record: The user's record, which has no weights for it, or some
                that rest on fewer events than were seen.
        """
        if not record.reservoir:
            return
        place = (record.key, model.version)
        if place not in self._waiting and len(self._waiting) >= MAX_WAITING:
            self._count(model.name, DROPPED, 1)
            return
        self._waiting.setdefault(place, model)
        if self._task is None:
            self._task = asyncio.create_task(self._learn_waiting())

    async def close(self) -> None:
        """Stops; whoever waits is met again."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _learn_waiting(self) -> None:
        clock = asyncio.get_running_loop().time
        while self._waiting:
            start = clock()
            model, keys = self._take()
            await self.learn(model, keys)
            await asyncio.sleep(clock() - start)
        self._task = None

    async def learn(self, model: ServedModel, keys: Sequence[UserKey]) -> None:
        """Learns users now; trouble is counted and logged.

        Args:
            model: The version to learn for.
            keys: At most `MAX_BATCH`; who is not behind stays as is.
        """
        try:
            await self._learn(model, keys)
        except UnknownModelError:
            # The version is gone; they are met by its successor.
            gone = len(keys) + self._forget(model)
            self._count(model.name, DROPPED, gone)
        except ServingError as error:
            self._count(model.name, FAILED, len(keys))
            _log.warning("Users stay behind: %s", error)
        except Exception:
            self._count(model.name, FAILED, len(keys))
            _log.exception("Users stay behind")

    def _take(self) -> tuple[ServedModel, list[UserKey]]:
        """Takes a batch of users of one version, those met first."""
        model = next(iter(self._waiting.values()))
        places = list(itertools.islice(self._places(model), MAX_BATCH))
        for place in places:
            del self._waiting[place]
        return model, [key for key, _ in places]

    def _forget(self, model: ServedModel) -> int:
        """Lets go of all who wait for a version; returns how many."""
        places = list(self._places(model))
        for place in places:
            del self._waiting[place]
        return len(places)

    def _places(self, model: ServedModel) -> Iterator[tuple[UserKey, int]]:
        for place, each in self._waiting.items():
            if (each.name, each.version) == (model.name, model.version):
                yield place

    async def _learn(self, model: ServedModel, keys: Sequence[UserKey]) -> None:
        tasks = await asyncio.to_thread(self._read, model, keys)
        outcomes = await self._adapting.adapt(
            model, [_pupil(model, task) for task in tasks]
        )
        learned = [
            task.learned(outcome.weights, outcome.finite)
            for task, outcome in zip(tasks, outcomes, strict=True)
        ]
        records = [record for record in learned if record is not None]
        stored = await asyncio.to_thread(
            self._store.compare_and_put_many, records
        )
        gone = sum(isinstance(each, DeletedUserError) for each in stored)
        self._count(model.name, CURRENT, len(keys) - len(tasks) + gone)
        self._count(model.name, FAILED, len(tasks) - len(records))
        self._count(model.name, LEARNED, stored.count(True))
        self._count(model.name, BUSY, stored.count(False))

    def _read(
        self, model: ServedModel, keys: Sequence[UserKey]
    ) -> list[Relearning]:
        """Reads who is still behind, and what to learn from."""
        records = self._store.get_many(keys)
        tasks = [
            Relearning.of(
                record,
                model.manifest,
                model.meta_init,
                self._log.events_of(record.key),
            )
            for record in records
            if record is not None
        ]
        return [task for task in tasks if task is not None]


def _pupil(model: ServedModel, task: Relearning) -> Pupil:
    features = known_features(
        decode_told(task.record.features), model.user_features
    )
    # None of the events is new: nobody is to judge the weights by them.
    return Pupil(features, task.support, 0, task.start)
