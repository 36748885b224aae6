"""The cold-start ladder: which weights apply for a user, and why these.

| what is known of the user                        | weights                |
|--------------------------------------------------|------------------------|
| nothing                                          | meta-initialization    |
| features, but no events                          | meta-initialization    |
| events                                           | the user's own         |
| events, but none for long                        | in between             |
| events under another fixed part, or unreadable   | meta-initialization    |

Features are inputs of the fixed part, so the first two rungs give different
scores with the same weights. With a half-life, what a user's weights learned
fades while the user is away:

    w = meta_init + 2^(-age / half_life) (stored weights - meta_init)

The age is counted in hundredths of the half-life.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.errors import StoreError
from serving.models.served_model import ServedModel
from serving.protos import recommender_pb2 as pb
from serving.store import AdaptiveStore, UserKey, UserRecord

_log = logging.getLogger(__name__)

OTHER_FINGERPRINT = (
    "the user's weights were learned for another fixed part of the model; "
    "they are learned again behind this answer"
)
SCORES_NOT_FINITE = "the user's weights gave scores that are not finite"

_MS_PER_DAY = 86_400_000.0
# From here on the answer names the rung: one half-life without an event.
_LONG_UNSEEN = 0.5
# Of a half-life; between two of them weights stay, and vectors kept of them.
_STEPS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class UserState:
    """The weights to use for a user, and why these.

    Attributes:
        weights: Adaptive weights, float32, shape [P].
        record: The user's record, if it could be read.
        kept_share: Share of what the record's weights learned that `weights`
            still hold; 0 if they are the meta-initialization.
        support_count: How many of the user's events the weights rest on.
        degraded_reason: Why the meta-initialization stands in for weights
            that there may be; empty if it does not.
        behind: Whether the version has no weights of the user, or some that
            rest on fewer events than were seen.
    """

    weights: NDArray[np.float32]
    record: UserRecord | None = None
    kept_share: float = 0.0
    support_count: int = 0
    degraded_reason: str = ""
    behind: bool = False

    @property
    def hit(self) -> bool:
        """Whether the weights are the user's own."""
        return self.kept_share > 0.0

    def rung(self, has_features: bool) -> "pb.Rung.ValueType":
        """Returns where on the ladder the user stands.

        Args:
            has_features: Whether the request told anything of the user.
        """
        if self.degraded_reason:
            return pb.RUNG_FALLBACK
        if self.hit:
            long_unseen = self.kept_share < _LONG_UNSEEN
            return pb.RUNG_DECAYED if long_unseen else pb.RUNG_ADAPTED
        if has_features:
            return pb.RUNG_META_INIT_WITH_FEATURES
        return pb.RUNG_META_INIT


# Told of a version, and of a user it met who is behind.
OnBehind = Callable[[ServedModel, UserRecord], None]


class Ladder:
    """Finds each user's place."""

    def __init__(
        self, half_life_days: float = 0.0, on_behind: OnBehind | None = None
    ) -> None:
        """Sets the ladder up.

        Args:
            half_life_days: After how long without events half of what was
                learned is left; 0 keeps all of it for ever.
            on_behind: Told of users who are read and are behind.
        """
        self._half_life_ms = half_life_days * _MS_PER_DAY
        self._on_behind = on_behind

    def state_of(
        self,
        model: ServedModel,
        record: UserRecord | None,
        now_ms: float | None = None,
    ) -> UserState:
        """Returns which weights apply for a user with this record.

        Args:
            model: The version that answers.
            record: The user's record, if there is one.
            now_ms: Milliseconds since 1970, UTC; the clock's if None.
        """
        if record is None:
            return UserState(model.meta_init)
        manifest = model.manifest
        learned = record.weights_for(
            manifest.fingerprint, manifest.num_adaptive
        )
        if learned is None:
            return UserState(
                model.meta_init,
                record,
                degraded_reason=OTHER_FINGERPRINT,
                behind=True,
            )
        weights = learned.weights.astype(np.float32)
        share = self._kept_share(record.updated_ms, now_ms)
        if share < 1.0:
            weights = model.meta_init + np.float32(share) * (
                weights - model.meta_init
            )
        count = learned.support_count
        return UserState(
            weights, record, share, count, behind=count < record.support_count
        )

    async def read(
        self,
        store: AdaptiveStore,
        model: ServedModel,
        user_id: str,
        seconds: float | None = None,
    ) -> UserState:
        """Reads a user; trouble with the store degrades, only.

        Args:
            store: The users' weights.
            model: The version that answers.
            user_id: The user.
            seconds: After so long the store is in trouble; None: after as
                long as it may take.
        """
        try:
            record = await store.aget(UserKey(model.name, user_id), seconds)
        except StoreError as error:
            return _degraded(model, error)
        return self._met(model, record)

    async def read_many(
        self,
        store: AdaptiveStore,
        model: ServedModel,
        user_ids: Sequence[str],
        seconds: float | None = None,
    ) -> list[UserState]:
        """Reads several users at once; the empty id is nobody's."""
        known = sorted({*user_ids} - {""})
        states = await asyncio.gather(
            *(self.read(store, model, user_id, seconds) for user_id in known)
        )
        by_id = dict(zip(known, states, strict=True))
        nobody = self.state_of(model, None)
        return [by_id.get(user_id, nobody) for user_id in user_ids]

    def _met(self, model: ServedModel, record: UserRecord | None) -> UserState:
        user = self.state_of(model, record)
        if user.behind and record is not None and self._on_behind is not None:
            self._on_behind(model, record)
        return user

    def _kept_share(self, updated_ms: int, now_ms: float | None) -> float:
        if not self._half_life_ms:
            return 1.0
        now_ms = time.time() * 1e3 if now_ms is None else now_ms
        age_ms = max(0.0, now_ms - updated_ms)
        steps = age_ms * _STEPS // self._half_life_ms
        # Never 0: then the weights would count as missing.
        return float(max(2.0 ** (-steps / _STEPS), 1e-9))


def fallback(model: ServedModel, user: UserState, reason: str) -> UserState:
    """Returns the meta-initialization in place of a user's weights."""
    return UserState(model.meta_init, user.record, degraded_reason=reason)


def _degraded(model: ServedModel, error: StoreError) -> UserState:
    _log.warning("Degraded: %s", error)
    return UserState(model.meta_init, degraded_reason=str(error))
