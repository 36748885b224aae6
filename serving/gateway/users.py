"""Reads what is known of a user, and decides which weights apply.

The ladder: the user's own weights; or, for a user without any, meta_init; or,
when the user's weights can't be read or were learned for another fixed part,
meta_init with the answer marked as degraded.
"""

import dataclasses
import logging

import numpy as np
from numpy.typing import NDArray

from serving.errors import StoreError
from serving.gateway.registry import ServedModel
from serving.protos import recommender_pb2 as pb
from serving.store import AdaptiveStore, UserKey, UserRecord

_log = logging.getLogger(__name__)

OTHER_FINGERPRINT = (
    "the user's weights were learned for another fixed part of the model; "
    "the next feedback learns them again"
)
SCORES_NOT_FINITE = "the user's weights gave scores that are not finite"


@dataclasses.dataclass(frozen=True, eq=False)
class UserState:
    """The weights to use for a user, and why these.

    Attributes:
        weights: Adaptive weights, float32, shape [P].
        record: The user's record, if it could be read.
        hit: Whether the weights are the user's own.
        degraded_reason: Why they are not, although there may be own ones;
            empty if not degraded.
    """

    weights: NDArray[np.float32]
    record: UserRecord | None = None
    hit: bool = False
    degraded_reason: str = ""

    @property
    def support_count(self) -> int:
        """How many of the user's events the weights rest on."""
        return self.record.support_count if self.record and self.hit else 0


def state_of(model: ServedModel, record: UserRecord | None) -> UserState:
    """Returns which weights apply for a user with this record."""
    if record is None:
        return UserState(model.meta_init)
    manifest = model.manifest
    if not record.fits(manifest.fingerprint, manifest.num_adaptive):
        return UserState(
            model.meta_init, record, degraded_reason=OTHER_FINGERPRINT
        )
    return UserState(record.weights.astype(np.float32), record, hit=True)


def read_user(
    store: AdaptiveStore, model: ServedModel, user_id: str
) -> UserState:
    """Reads a user for a Rank; trouble with the store degrades, only."""
    try:
        record = store.get(UserKey(model.name, user_id))
    except StoreError as error:
        _log.warning("Degraded: %s", error)
        return UserState(model.meta_init, degraded_reason=str(error))
    return state_of(model, record)


def provenance(model: ServedModel, user: UserState) -> pb.Provenance:
    """Tells how an answer was made."""
    return pb.Provenance(
        model=model.name,
        version=model.version,
        fingerprint=model.manifest.fingerprint,
        meta_init_version=model.meta_state.version,
        support_count=user.support_count,
        store_hit=user.hit,
        degraded=bool(user.degraded_reason),
        degraded_reason=user.degraded_reason,
    )
