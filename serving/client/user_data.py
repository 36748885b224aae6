"""What is held of a user, and that it is gone, as plain values."""

import dataclasses
from collections.abc import Mapping

from serving.client.values import FeedbackEvent, Provenance


@dataclasses.dataclass(frozen=True)
class StoredWeights:
    """Weights learned for one fixed part of a model.

    Attributes:
        fingerprint_digest: Of that fixed part.
        support_count: How many events they rest on.
        dtype: Their type in the store.
        values: The weights.
    """

    fingerprint_digest: str
    support_count: int
    dtype: str
    values: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class UserModel:
    """What one model holds of a user.

    Attributes:
        provenance: As a Rank without features would be explained.
        sequence: How many times the record was written; 0: there is none.
        support_count: How many of the user's events were seen.
        weights: By the fixed part they were learned for.
        reservoir: (item id, label) of the events kept for learning.
        events: Events kept in the event log, oldest first.
        deleted_ms: When the user was deleted, milliseconds since 1970, UTC;
            None if not.
        features: Values of each feature that the user last told, by name.
    """

    provenance: Provenance
    sequence: int
    support_count: int
    weights: tuple[StoredWeights, ...]
    reservoir: tuple[tuple[str, float], ...]
    events: tuple[FeedbackEvent, ...]
    deleted_ms: int | None
    features: Mapping[str, tuple[str | float, ...]] = dataclasses.field(
        default_factory=dict
    )


@dataclasses.dataclass(frozen=True)
class UserExport:
    """Everything that is held of a user.

    Attributes:
        user_id: The user.
        found: Whether anything is held.
        models: What each model holds.
    """

    user_id: str
    found: bool
    models: tuple[UserModel, ...]


@dataclasses.dataclass(frozen=True)
class DeletionReceipt:
    """Confirms that a user was deleted.

    Attributes:
        receipt_id: Names the deletion.
        deleted_ms: When, milliseconds since 1970, UTC.
        expires_ms: Until then nothing of the user is taken in, however late
            an event comes.
        records: How many records of weights were removed.
        events: How many events were removed.
    """

    receipt_id: str
    deleted_ms: int
    expires_ms: int
    records: int
    events: int
