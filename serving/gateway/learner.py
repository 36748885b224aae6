"""Learns a user's adaptive weights from feedback, while the caller waits.

The inner loop is a signature of the model: support set and weights go in, new
weights come out. They are stored by compare-and-put, so that two gateways
learning from one user lose no event.
"""

import asyncio
import dataclasses
import itertools
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.support import Support, SupportEvent, merge_support
from serving.errors import BackendError, RecordError, StoreConflictError
from serving.gateway.backend import ModelServer
from serving.gateway.batcher import ITEM_KNOWN
from serving.gateway.ladder import Ladder, UserState
from serving.gateway.registry import ServedModel
from serving.online.meta_stage import MetaStage
from serving.protos import recommender_pb2
from serving.protos import tf_serving_pb2 as pb
from serving.store import (
    AdaptiveStore,
    UserKey,
    UserRecord,
    fingerprint_digest,
)
from serving.store.record import event_hash
from serving.tf_serving import encode_tensor, string_tensor

# Event ids remembered per user, at least; a whole request is always.
RECENT_EVENTS = 32
MAX_ATTEMPTS = 10

Events = Sequence[recommender_pb2.FeedbackEvent]


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """What some events changed.

    Attributes:
        user: The weights as stored.
        accepted: Events learned from.
        duplicates: Events that were known already.
        losses: Loss on the support set before and after; None if all the
            events were known.
        unknown_item_ids: Items of these events that the model does not know.
    """

    user: UserState
    accepted: int
    duplicates: int = 0
    losses: tuple[float, float] | None = None
    unknown_item_ids: Sequence[str] = ()


class Learner:
    """Turns feedback into stored weights; lives inside one event loop."""

    def __init__(
        self,
        backend: ModelServer,
        store: AdaptiveStore,
        ladder: Ladder,
        weights_dtype: str = "float32",
        meta_stage: MetaStage | None = None,
    ) -> None:
        """Sets the learner up.

        Args:
            backend: Runs the inner loop.
            store: Keeps the weights.
            ladder: Says which weights the inner loop starts from.
            weights_dtype: How they are stored: float32 or float16.
            meta_stage: Learns from all users what new ones start from.
        """
        self._meta_stage = meta_stage
        self._backend = backend
        self._store = store
        self._ladder = ladder
        self._dtype = np.dtype(weights_dtype)
        # One user's requests in this process wait for each other instead of
        # learning in vain; a lock goes when nobody holds it any more.
        self._locks: weakref.WeakValueDictionary[UserKey, asyncio.Lock] = (
            weakref.WeakValueDictionary()
        )

    async def learn(
        self,
        model: ServedModel,
        user_id: str,
        events: Events,
        features: Mapping[str, pb.TensorProto],
        max_support: int | None = None,
    ) -> Learned:
        """Learns from events and stores the outcome durably.

        Args:
            model: The pinned version that learns.
            user_id: The user.
            events: Checked events, oldest first.
            features: The user's features as inputs.
            max_support: How many of a user's events are learned from in all;
                later ones change nothing. None: every one.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The inner loop failed.
            StoreError: The outcome could not be stored; nothing changed.
        """
        key = UserKey(model.name, user_id)
        lock = self._locks.setdefault(key, asyncio.Lock())
        async with lock:
            for _ in range(MAX_ATTEMPTS):
                learned = await self._attempt(
                    model, key, events, features, max_support
                )
                if learned is not None:
                    return learned
        raise StoreConflictError(
            f"Other gateways stored weights of user {user_id!r} first, "
            f"{MAX_ATTEMPTS} times. Send the events again; none is lost or "
            "counted twice."
        )

    async def _attempt(
        self,
        model: ServedModel,
        key: UserKey,
        events: Events,
        features: Mapping[str, pb.TensorProto],
        max_support: int | None,
    ) -> Learned | None:
        """Learns once; None if another writer was quicker."""
        record = self._read(key)
        user = self._ladder.state_of(model, record)
        known = record.recent_events if record else ()
        new: dict[int, recommender_pb2.FeedbackEvent] = {}
        for event in events:
            number = event_hash(event.event_id)
            if number not in known:
                # One request may hold an event twice, too.
                new.setdefault(number, event)
        duplicates = len(events) - len(new)
        if max_support is not None:
            seen = record.support_count if record else 0
            room = max(0, max_support - seen)
            new = dict(itertools.islice(new.items(), room))
        if not new:
            return Learned(user, accepted=0, duplicates=duplicates)
        reservoir = record.reservoir if record else ()
        count = record.support_count if record else 0
        new_events = [SupportEvent(e.item_id, e.label) for e in new.values()]
        support = merge_support(
            reservoir, new_events, count, model.manifest.reservoir_events
        )
        outputs = await self._adapt(model, user, support, features)
        weights = self._checked(model, outputs["adaptive_weights"][0])
        recent = (*known, *new)[-max(RECENT_EVENTS, len(new)) :]
        fingerprint = fingerprint_digest(model.manifest.fingerprint)
        stored = UserRecord(
            key=key,
            fingerprint=fingerprint,
            sequence=record.sequence + 1 if record else 1,
            support_count=support.count,
            weights=weights,
            reservoir=support.reservoir,
            recent_events=recent,
            updated_ms=time.time_ns() // 1_000_000,
            earlier=record.earlier_than(fingerprint) if record else (),
        )
        # Syncing to disk takes milliseconds that others need not wait for.
        if not await asyncio.to_thread(self._store.compare_and_put, stored):
            return None
        if self._meta_stage is not None:
            await self._meta_stage.observe(
                model, key.user_id, features, reservoir, count, new_events
            )
        return Learned(
            self._ladder.state_of(model, stored),
            len(new),
            duplicates,
            (float(outputs["loss_before"][0]), float(outputs["loss_after"][0])),
            _unknown_items(support, outputs, len(new)),
        )

    def _read(self, key: UserKey) -> UserRecord | None:
        try:
            return self._store.get(key)
        except RecordError:
            # Damaged: the user starts again, and the put replaces it.
            return None

    async def _adapt(
        self,
        model: ServedModel,
        user: UserState,
        support: Support,
        features: Mapping[str, pb.TensorProto],
    ) -> dict[str, NDArray[Any]]:
        """Runs the inner loop of one user."""
        events = support.events
        labels = [event.label for event in events]
        return await self._backend.predict(
            model.name,
            model.version,
            "adapt",
            {
                **features,
                "item_id": string_tensor(
                    [event.item_id for event in events], (1, len(events))
                ),
                "label": encode_tensor(np.array([labels], np.float32)),
                "weight": encode_tensor(
                    np.array([support.weights], np.float32)
                ),
                "adaptive_weights": encode_tensor(user.weights[np.newaxis]),
                **{
                    name: encode_tensor(value)
                    for name, value in model.meta_state.inputs().items()
                },
            },
        )

    def _checked(
        self, model: ServedModel, adapted: NDArray[Any]
    ) -> NDArray[np.floating[Any]]:
        """Returns adapted weights as they are stored, if they can be."""
        # A value too large for float16 becomes infinite and is refused below.
        with np.errstate(over="ignore"):
            weights = adapted.astype(self._dtype)
        if weights.shape != model.meta_init.shape or not (
            np.isfinite(weights).all()
        ):
            raise BackendError(
                f"The inner loop of version {model.version} of "
                f"{model.name!r} gave weights that are not finite or of "
                "another shape; they are not stored. Look at its inner "
                "step sizes."
            )
        return weights


def _unknown_items(
    support: Support, outputs: Mapping[str, NDArray[Any]], num_new: int
) -> list[str]:
    """Returns the items of the newest events that the model does not know."""
    if ITEM_KNOWN not in outputs:
        return []
    known = outputs[ITEM_KNOWN][0][-num_new:]
    events = support.events[-num_new:]
    return list(
        {
            event.item_id: None
            for event, is_known in zip(events, known, strict=True)
            if not is_known
        }
    )
