"""Teaches users who learn under one version of a model, all at once.

What comes out is ready to be stored, but nothing is stored here.
"""

import functools
import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from serving.contract.support import SupportEvent
from serving.event_log import LoggedEvent
from serving.models.ladder import Ladder
from serving.models.pinned import on_current_version
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.online.adapting import Adaptation, Adapting
from serving.online.lesson import Learned
from serving.online.pupils import Pupil
from serving.online.study import Study
from serving.online.told import known_features
from serving.store import UserRecord, fingerprint_digest


class Taught(NamedTuple):
    """What a study came to, before it is stored.

    Attributes:
        study: The study.
        learned: What it changes, once it is stored.
        record: What to store; None if there was nothing left to learn from.
        new_events: Those that were learned from.
    """

    study: Study
    learned: Learned
    record: UserRecord | None = None
    new_events: Sequence[SupportEvent] = ()


class Teaching:
    """Runs studies through the inner loop."""

    def __init__(
        self, adapting: Adapting, ladder: Ladder, registry: ModelRegistry
    ) -> None:
        """Sets it up.

        Args:
            adapting: Runs the inner loop.
            ladder: Says which weights it starts from.
            registry: Knows which version of a model learns.
        """
        self._adapting = adapting
        self._ladder = ladder
        self._registry = registry

    async def teach(self, studies: Sequence[Study]) -> list[Taught]:
        """Learns under one version, or its successor if it is gone.

        Args:
            studies: Of different users, all treated by the same version.

        Returns:
            What they came to, in another order.

        Raises:
            UnknownModelError: The version is not served any more.
            BackendError: The inner loop failed.
        """
        return await on_current_version(
            self._registry,
            studies[0].treatment,
            functools.partial(self._teach_version, studies),
        )

    async def _teach_version(
        self, studies: Sequence[Study], model: ServedModel
    ) -> list[Taught]:
        admitted = [(study, *study.admitted()) for study in studies]
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
                Taught(
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
        self, study: Study, events: Sequence[LoggedEvent], model: ServedModel
    ) -> Pupil:
        """Returns what the inner loop needs to know of a user."""
        return Pupil(
            known_features(study.told, model.user_features),
            study.support(events, model.manifest.reservoir_events),
            len(events),
            self._ladder.state_of(model, study.record).weights,
        )

    def _taught(
        self,
        study: Study,
        accepted: Mapping[int, int],
        pupil: Pupil,
        outcome: Adaptation,
        model: ServedModel,
        now_ms: int,
    ) -> Taught:
        """Returns what the inner loop made of a user."""
        fingerprint = fingerprint_digest(model.manifest.fingerprint)
        record = study.next_record(
            fingerprint, pupil.support, outcome.weights, now_ms
        )
        new_events = pupil.support.events[-pupil.num_new :]
        learned = Learned(
            model,
            self._ladder.state_of(model, record, now_ms),
            accepted,
            (outcome.loss_before, outcome.loss_after),
            _unknown_items(new_events, outcome),
        )
        return Taught(study, learned, record, new_events)


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
