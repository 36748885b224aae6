"""Learns from the events of many users at once.

Records are read together, users of similar support size share a call of the
model's `adapt`, and what comes out is stored together, with one sync. Entries
at or before a record's `log_position` were learned from already, so an entry
that is delivered twice counts once; and they are acknowledged only when the
weights are durable, so none is lost.
"""

import asyncio
import collections
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import Support, SupportEvent, merge_support
from serving.errors import DeletedUserError, EventLogError
from serving.event_log import EventLog, LogEntry, LoggedEvent
from serving.gateway.ladder import Ladder
from serving.gateway.registry import ModelRegistry, ServedModel
from serving.gateway.rpcs.pinned import on_current_version
from serving.gateway.templates import Features
from serving.gateway.trials import Treatment, Trials
from serving.online.adapting import Adaptation, Adapting, Pupil
from serving.online.lesson import Learned, Lesson
from serving.online.meta_stage import MetaStage
from serving.online.told import decode_told, known_features
from serving.protos import recommender_pb2 as pb
from serving.store import (
    AdaptiveStore,
    UserRecord,
    fingerprint_digest,
)

_log = logging.getLogger(__name__)
# What became of a lesson; None: another writer was quicker, try again.
Outcome = Learned | DeletedUserError | None


@dataclasses.dataclass(frozen=True, eq=False)
class _Study:
    """A lesson under way.

    Attributes:
        lesson: The lesson.
        record: The user's record before it, if there is one.
        entries: Those to learn from; the first ones that are not learned yet.
        treatment: Which version learns, and up to how many events.
        features: What the user told, as bytes: with the last entry that told
            any, or before.
        told: The same, decoded.
    """

    lesson: Lesson
    record: UserRecord | None
    entries: Sequence[LogEntry]
    treatment: Treatment
    features: bytes
    told: pb.Told

    @property
    def known_before(self) -> dict[int, int]:
        """Events of each entry that was learned from before, by position."""
        limit = self.record.log_position if self.record else 0
        return {
            entry.position: len(entry.events)
            for entry in self.lesson.entries
            if entry.position <= limit
        }


class _Taught(NamedTuple):
    """What a study came to, before it is stored."""

    study: _Study
    learned: Learned
    record: UserRecord | None = None
    features: Features | None = None
    new_events: Sequence[SupportEvent] = ()


class Learner:
    """Turns entries of the log into stored weights, many users at a time."""

    def __init__(
        self,
        adapting: Adapting,
        store: AdaptiveStore,
        log: EventLog,
        ladder: Ladder,
        registry: ModelRegistry,
        trials: Trials,
        meta_stage: MetaStage,
    ) -> None:
        """Sets the learner up.

        Args:
            adapting: Runs the inner loop.
            store: Keeps the weights.
            log: Is told what was learned.
            ladder: Says which weights the inner loop starts from.
            registry: Knows which version of a model learns.
            trials: May say otherwise.
            meta_stage: Learns from all users what new ones start from.
        """
        self._adapting = adapting
        self._store = store
        self._log = log
        self._ladder = ladder
        self._registry = registry
        self._trials = trials
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
        records = await asyncio.to_thread(
            self._store.get_many, [lesson.key for lesson in lessons]
        )
        studies = list(map(self._study, lessons, records))
        groups = collections.defaultdict(list)
        for study in studies:
            groups[study.treatment.model, study.treatment.version].append(study)
        groups_taught = await asyncio.gather(*map(self._teach, groups.values()))
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

    def _study(self, lesson: Lesson, record: UserRecord | None) -> _Study:
        learned = record.log_position if record else 0
        left = [e for e in lesson.entries if e.position > learned]
        told = [decode_told(entry.features) for entry in left]
        treatments = [
            self._trials.lesson_of(
                lesson.key, each.named_model, self._registry.default_model
            )
            for each in told
        ]
        # Rarely more than one; what is treated otherwise comes next.
        same = list(
            itertools.takewhile(lambda each: each == treatments[0], treatments)
        )
        entries = left[: len(same)]
        treatment = same[0] if same else Treatment(lesson.key.model)
        pairs = list(zip(entries, told, strict=False))
        for entry, each in reversed(pairs):
            if each.features:
                return _Study(
                    lesson, record, entries, treatment, entry.features, each
                )
        features = record.features if record else b""
        return _Study(
            lesson, record, entries, treatment, features, decode_told(features)
        )

    async def _teach(self, studies: Sequence[_Study]) -> list[_Taught]:
        """Learns under one version, or its successor if it is gone."""
        return await on_current_version(
            self._registry,
            studies[0].treatment,
            functools.partial(self._teach_version, studies),
        )

    async def _teach_version(
        self, studies: Sequence[_Study], model: ServedModel
    ) -> list[_Taught]:
        admitted = [(study, *_admitted(study)) for study in studies]
        begun = [
            (study, accepted, self._pupil(study, events, model))
            for study, events, accepted in admitted
            if events
        ]
        outcomes = await self._adapting.adapt(
            model, [pupil for _, _, pupil in begun]
        )
        now_ms = time.time_ns() // 1_000_000
        return [
            *(
                self._taught(study, accepted, pupil, outcome, model, now_ms)
                for (study, accepted, pupil), outcome in zip(
                    begun, outcomes, strict=True
                )
            ),
            *(
                _Taught(
                    study,
                    Learned(
                        model,
                        self._ladder.state_of(model, study.record),
                        accepted,
                    ),
                )
                for study, events, accepted in admitted
                if not events
            ),
        ]

    def _pupil(
        self, study: _Study, events: Sequence[LoggedEvent], model: ServedModel
    ) -> Pupil:
        """Returns what the inner loop needs to know of a user."""
        record = study.record
        support = merge_support(
            record.reservoir if record else (),
            [SupportEvent(e.item_id, e.label) for e in events],
            record.support_count if record else 0,
            model.manifest.reservoir_events,
        )
        return Pupil(
            known_features(study.told, model.user_features),
            support,
            len(events),
            self._ladder.state_of(model, record).weights,
        )

    def _taught(
        self,
        study: _Study,
        accepted: Mapping[int, int],
        pupil: Pupil,
        outcome: Adaptation,
        model: ServedModel,
        now_ms: int,
    ) -> _Taught:
        """Returns what the inner loop made of a user, ready to be stored."""
        fingerprint = fingerprint_digest(model.manifest.fingerprint)
        stored = _next_record(
            study, fingerprint, pupil.support, outcome.weights, now_ms
        )
        new_events = pupil.support.events[-pupil.num_new :]
        learned = Learned(
            model,
            self._ladder.state_of(model, stored, now_ms),
            accepted,
            (outcome.loss_before, outcome.loss_after),
            _unknown_items(new_events, outcome),
        )
        return _Taught(study, learned, stored, pupil.features, new_events)

    def _keep(self, taught: Sequence[_Taught]) -> list[Outcome]:
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

    def _observe(self, taught: _Taught) -> "asyncio.Future[None] | None":
        """Shows the outer loop what was learned; returns what to wait for."""
        if taught.record is None or taught.features is None:
            return None
        before = taught.study.record
        return self._meta_stage.observe(
            taught.learned.model,
            taught.record.key.user_id,
            taught.features,
            before.reservoir if before else (),
            before.support_count if before else 0,
            taught.new_events,
        )


def _admitted(study: _Study) -> tuple[list[LoggedEvent], dict[int, int]]:
    """Returns the events to learn from, and how many are known of each entry.

    That is by position; entries that were learned from before are among them.
    """
    most = study.treatment.max_support
    seen = study.record.support_count if study.record else 0
    room = None if most is None else max(0, most - seen)
    events: list[LoggedEvent] = []
    accepted = study.known_before
    for entry in study.entries:
        new = entry.events[:room]
        events += new
        accepted[entry.position] = len(new)
        if room is not None:
            room -= len(new)
    return events, accepted


def _unknown_items(
    new_events: Sequence[SupportEvent], outcome: Adaptation
) -> Collection[str]:
    """Returns the items of the newest events that the model does not know."""
    if outcome.known is None or outcome.known.all():
        return ()
    known = outcome.known[-len(new_events) :].tolist()
    return {
        event.item_id
        for event, is_known in zip(new_events, known, strict=True)
        if not is_known
    }


def _next_record(
    study: _Study,
    fingerprint: bytes,
    support: Support,
    weights: NDArray[np.floating[Any]],
    now_ms: int,
) -> UserRecord:
    record = study.record
    return UserRecord(
        key=study.lesson.key,
        fingerprint=fingerprint,
        sequence=record.sequence + 1 if record else 1,
        support_count=support.count,
        weights=weights,
        reservoir=support.reservoir,
        updated_ms=now_ms,
        earlier=record.earlier_than(fingerprint) if record else (),
        log_position=study.entries[-1].position,
        features=study.features,
    )
