"""What one user studies: what of a lesson is left to learn, and as whom.

Entries at or before a record's `log_position` were learned from already, so
an entry that is delivered twice counts once.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import Support, SupportEvent, merge_support
from serving.event_log import LogEntry, LoggedEvent
from serving.experiments.config import Experiment
from serving.experiments.treatments import Treatment, treatment_of_lesson
from serving.online.lesson import Lesson
from serving.online.told import decode_told
from serving.protos import recommender_pb2 as pb
from serving.store import UserRecord


@dataclasses.dataclass(frozen=True, eq=False)
class Study:
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

    @classmethod
    def of(
        cls,
        lesson: Lesson,
        record: UserRecord | None,
        experiments: Sequence[Experiment],
        default_model: str,
    ) -> "Study":
        """Returns how far a lesson is to be learned now.

        Args:
            lesson: The lesson.
            record: The user's record, if there is one.
            experiments: Say which version learns, if not the current one.
            default_model: The model of requests that name none.
        """
        learned = record.log_position if record else 0
        left = [e for e in lesson.entries if e.position > learned]
        told = [decode_told(entry.features) for entry in left]
        treatments = [
            treatment_of_lesson(
                experiments,
                lesson.key.user_id,
                lesson.key.model,
                each.named_model,
                default_model,
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
                return cls(
                    lesson, record, entries, treatment, entry.features, each
                )
        features = record.features if record else b""
        return cls(
            lesson, record, entries, treatment, features, decode_told(features)
        )

    def admitted(self) -> tuple[list[LoggedEvent], dict[int, int]]:
        """Returns the events to learn from, and how many each entry counts.

        Counts are by position, of the entry's events that are known then;
        entries that were learned from before are among them.
        """
        most = self.treatment.max_support
        seen = self.record.support_count if self.record else 0
        room = None if most is None else max(0, most - seen)
        events: list[LoggedEvent] = []
        accepted = self._known_before()
        for entry in self.entries:
            new = entry.events[:room]
            events += new
            accepted[entry.position] = len(new)
            if room is not None:
                room -= len(new)
        return events, accepted

    def _known_before(self) -> dict[int, int]:
        """Events of each entry that was learned from before, by position."""
        limit = self.record.log_position if self.record else 0
        return {
            entry.position: len(entry.events)
            for entry in self.lesson.entries
            if entry.position <= limit
        }

    def support(
        self, new_events: Sequence[LoggedEvent], reservoir_events: int
    ) -> Support:
        """Returns the user's support set with new events.

        Args:
            new_events: Oldest first.
            reservoir_events: How many events the model keeps of a user.
        """
        record = self.record
        return merge_support(
            record.reservoir if record else (),
            [SupportEvent(e.item_id, e.label) for e in new_events],
            record.support_count if record else 0,
            reservoir_events,
        )

    def next_record(
        self,
        fingerprint: bytes,
        support: Support,
        weights: NDArray[np.floating[Any]],
        now_ms: int,
    ) -> UserRecord:
        """Returns the user's record after the lesson.

        Args:
            fingerprint: Digest of the fixed part that the weights are for.
            support: What was learned from.
            weights: What was learned, shape [P].
            now_ms: The time, in milliseconds since 1970.
        """
        record = self.record
        return UserRecord(
            key=self.lesson.key,
            fingerprint=fingerprint,
            sequence=record.sequence + 1 if record else 1,
            support_count=support.count,
            weights=weights,
            reservoir=support.reservoir,
            updated_ms=now_ms,
            earlier=record.earlier_than(fingerprint) if record else (),
            log_position=self.entries[-1].position,
            features=self.features,
        )
