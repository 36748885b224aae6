"""A user's weights learned again, for another fixed part of the model.

A record keeps the user's newest events beside the weights, so a version that
comes later learns the user from them, without the user and without the log.
The same piece serves the Beam job that does it for everybody before a version
is pushed, the gateway that does it for stragglers, and a rollback, whose
weights rest on fewer events than were seen meanwhile.

It only says what to learn from and what to store; the caller runs `adapt`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.manifest import AdaptiveManifest
from serving.contract.support import Support, SupportEvent, merge_support
from serving.event_log.entry import LogEntry
from serving.store.record import UserRecord, fingerprint_digest

# Bounds what one user adds to a padded batch; the newest events are taken.
MAX_EVENTS = 512


def is_behind(record: UserRecord, manifest: AdaptiveManifest) -> bool:
    """Whether a version has no weights of a user, or rests on fewer events.

    Args:
        record: The user's record.
        manifest: Of the version.
    """
    learned = record.weights_for(manifest.fingerprint, manifest.num_adaptive)
    count = learned.support_count if learned else 0
    return count < record.support_count


@dataclasses.dataclass(frozen=True, eq=False)
class Relearning:
    """What one user is learned from again.

    Attributes:
        record: The user's record.
        manifest: Of the version that learns.
        start: Where the inner loop starts, float32, shape [P]: the version's
            own weights of the user if there are any, else its
            meta-initialization.
        support: What it learns from.
    """

    record: UserRecord
    manifest: AdaptiveManifest
    start: NDArray[np.float32]
    support: Support

    @classmethod
    def of(
        cls,
        record: UserRecord,
        manifest: AdaptiveManifest,
        meta_init: NDArray[np.float32],
        logged: Sequence[LogEntry] = (),
    ) -> "Relearning | None":
        """Returns what a user is learned from for a version.

        Args:
            record: The user's record.
            manifest: Of the version.
            meta_init: Its newest meta-initialization, shape [P].
            logged: What the event log holds of the user, the oldest first.

        Returns:
            None if the version's weights rest on all events seen, or no
            event is kept.
        """
        if not is_behind(record, manifest):
            return None
        events = _kept_events(record, logged)
        if not events:
            return None
        learned = record.weights_for(
            manifest.fingerprint, manifest.num_adaptive
        )
        support = merge_support(
            events,
            (),
            record.support_count,
            # A version that keeps fewer must not cost the others their events.
            max(manifest.reservoir_events, len(record.reservoir)),
        )
        start = learned.weights if learned else meta_init
        return cls(record, manifest, start.astype(np.float32), support)

    def learned(self, weights: NDArray[Any], finite: bool) -> UserRecord | None:
        """Returns the user's next record.

        Weights of other versions stay. So does the time of the last event:
        nothing was heard of the user.

        Args:
            weights: What `adapt` made of `start`, after the guard, shape [P].
            finite: Whether the outcome was, before the guard put `start` in
                its place.

        Returns:
            None if nothing was learned that could be stored: it is not
            finite, or of another shape. `start` with the count of all events
            would pass for having learned them, and nobody would try again.
        """
        if not finite:
            return None
        # A value too large for float16 becomes infinite and is refused.
        with np.errstate(over="ignore"):
            stored = weights.astype(self.record.weights.dtype)
        if stored.shape != self.start.shape or not np.isfinite(stored).all():
            return None
        fingerprint = fingerprint_digest(self.manifest.fingerprint)
        return dataclasses.replace(
            self.record,
            fingerprint=fingerprint,
            sequence=self.record.sequence + 1,
            weights=stored,
            reservoir=self.support.reservoir,
            earlier=self.record.earlier_than(fingerprint),
        )


def _kept_events(
    record: UserRecord, logged: Sequence[LogEntry]
) -> Sequence[SupportEvent]:
    """Returns the newest learned events, from where there are more of them.

    Entries beyond the record's position wait for the online stage, and more
    events than were seen are not all learned: an experiment may have left
    some out.
    """
    learned = [
        SupportEvent(event.item_id, event.label)
        for entry in logged
        if entry.position <= record.log_position
        for event in entry.events
    ]
    if len(record.reservoir) < len(learned) <= record.support_count:
        return learned[-MAX_EVENTS:]
    return record.reservoir[-MAX_EVENTS:]
