"""Learns from the events of many users at once.

Records are read together, users of similar support size share a call of the
model's `adapt`, and what comes out is stored together, with one sync. Entries
are acknowledged only when the weights are durable, so none is lost.
"""

import asyncio
import collections
import itertools
import logging
from collections.abc import Sequence

from serving.errors import DeletedUserError, EventLogError
from serving.event_log import EventLog, LogEntry
from serving.experiments.config import Experiment
from serving.models.ladder import Ladder
from serving.models.registry import ModelRegistry
from serving.online.adapting import Adapting
from serving.online.lesson import Learned, Lesson
from serving.online.meta_stage import MetaStage
from serving.online.study import Study
from serving.online.teaching import Taught, Teaching
from serving.store import AdaptiveStore
from serving.together import together

_log = logging.getLogger(__name__)
# What became of a lesson; None: another writer was quicker, try again.
Outcome = Learned | DeletedUserError | None


class Learner:
    """Turns entries of the log into stored weights, many users at a time."""

    def __init__(
        self,
        adapting: Adapting,
        store: AdaptiveStore,
        log: EventLog,
        ladder: Ladder,
        registry: ModelRegistry,
        experiments: Sequence[Experiment],
        meta_stage: MetaStage,
    ) -> None:
        """Sets the learner up.

        Args:
            adapting: Runs the inner loop.
            store: Keeps the weights.
            log: Is told what was learned.
            ladder: Says which weights the inner loop starts from.
            registry: Knows which version of a model learns.
            experiments: May say otherwise.
            meta_stage: Learns from all users what new ones start from.
        """
        self._teaching = Teaching(adapting, ladder, registry)
        self._store = store
        self._log = log
        self._registry = registry
        self._experiments = experiments
        self._meta_stage = meta_stage

    async def learn(self, lessons: Sequence[Lesson]) -> list[Outcome]:
        """Learns, stores and acknowledges.

        What has an outcome is acknowledged, except for None. If it raises,
        some of the lessons may have been learned: learning them again changes
        nothing.

        Args:
            lessons: Of different users.

        Raises:
            UnknownModelError: A version is not served any more.
            BackendError: The inner loop failed.
            StoreError: Records can't be read or stored.
        """
        records = await self._store.aget_many([each.key for each in lessons])
        studies = [
            Study.of(
                lesson,
                record,
                self._experiments,
                self._registry.default_model,
            )
            for lesson, record in zip(lessons, records, strict=True)
        ]
        groups = collections.defaultdict(list)
        for study in studies:
            groups[study.treatment.model, study.treatment.version].append(study)
        groups_taught = await together(
            *map(self._teaching.teach, groups.values())
        )
        taught = {each.study: each for each in itertools.chain(*groups_taught)}
        ordered = [taught[study] for study in studies]
        outcomes = await asyncio.to_thread(self._keep, ordered)
        # All of them first: while one waits for a step of the meta state,
        # users may be deleted, and nobody would forget what comes after that.
        steps = [
            self._observe(each)
            for each, outcome in zip(ordered, outcomes, strict=True)
            if isinstance(outcome, Learned)
        ]
        await asyncio.gather(*filter(None, steps))
        return outcomes

    def _keep(self, taught: Sequence[Taught]) -> list[Outcome]:
        """Stores records, then acknowledges what is durable."""
        records = [each.record for each in taught if each.record is not None]
        stored = iter(self._store.compare_and_put_many(records))
        outcomes: list[Outcome] = []
        done: list[LogEntry] = []
        for each in taught:
            entries = each.study.lesson.entries
            result = True if each.record is None else next(stored)
            if isinstance(result, DeletedUserError):
                outcomes.append(result)
                done += entries
            elif result:
                outcomes.append(each.learned)
                accepted = each.learned.accepted
                done += [e for e in entries if e.position in accepted]
            else:
                outcomes.append(None)
        try:
            self._log.ack(done)
        except EventLogError as error:
            # They are delivered once more, and found to be learned.
            _log.warning("Not acknowledged: %s", error)
        return outcomes

    def _observe(self, taught: Taught) -> "asyncio.Future[None] | None":
        """Shows the outer loop what was learned; returns what to wait for."""
        if taught.record is None:
            return None
        before = taught.study.record
        return self._meta_stage.observe(
            taught.learned.model,
            taught.record.key.user_id,
            taught.record.features,
            before.reservoir if before else (),
            before.support_count if before else 0,
            taught.new_events,
        )
