"""What goes into calls and comes out of them, as plain values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    # Half of the time to import a client, and many never rank.
    import numpy as np
    from numpy.typing import NDArray

FeatureValue: TypeAlias = "str | float | Sequence[str] | None"
Features: TypeAlias = Mapping[str, FeatureValue]


@dataclasses.dataclass(frozen=True)
class FeedbackEvent:
    """What a user did with an item.

    Attributes:
        event_id: Unique within the user; sent twice, it counts once.
        item_id: The item.
        label: From 0 (disliked, passed over) to 1 (liked, taken).
        timestamp: Seconds since 1970, UTC.
    """

    event_id: str
    item_id: str
    label: float
    timestamp: int = 0


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How an answer was made.

    Attributes:
        model: Name of the model that answered.
        version: Its version.
        fingerprint: Of its fixed part.
        meta_init_version: Version of its meta-initialization.
        support_count: How many of the user's events the weights rest on.
        store_hit: Whether the user's own weights were applied.
        degraded: Answered from meta_init though the user may have weights.
        degraded_reason: Why, if degraded.
        rung: Where the user stands on the cold-start ladder, for instance
            "adapted".
        arm: The user's experiment and arm, "experiment/arm"; empty: none.
        request_id: What logs and traces of the gateway call this request.
        kept_share: Share, from 0 to 1, of what the weights learned that time
            has left; None if they are not the user's own.
        updated_ms: When they were learned, milliseconds since 1970, UTC.
        missing_features: Features that were not sent and got defaults.
    """

    model: str
    version: int
    fingerprint: str
    meta_init_version: int
    support_count: int
    store_hit: bool
    degraded: bool
    degraded_reason: str
    rung: str = ""
    arm: str = ""
    request_id: str = ""
    kept_share: float | None = None
    updated_ms: int = 0
    missing_features: tuple[str, ...] = ()


class _Explained:
    """Shortcuts to the parts of the provenance asked for most."""

    provenance: Provenance

    @property
    def model(self) -> str:
        """Name of the model that answered."""
        return self.provenance.model

    @property
    def version(self) -> int:
        """Version of the model that answered."""
        return self.provenance.version

    @property
    def support_count(self) -> int:
        """How many of the user's events the weights rest on."""
        return self.provenance.support_count

    @property
    def store_hit(self) -> bool:
        """Whether the user's own weights were applied."""
        return self.provenance.store_hit

    @property
    def degraded(self) -> bool:
        """Whether meta_init had to stand in for the user's weights."""
        return self.provenance.degraded


@dataclasses.dataclass(frozen=True, eq=False)
class RankResult(_Explained):
    """The scores of some candidates.

    Attributes:
        item_ids: The candidates, in the order they were sent.
        scores: Their logits, float32, shape [candidates].
        provenance: How they were made.
        unknown_item_ids: Candidates that the model does not know, scored as
            an item never seen.
    """

    item_ids: tuple[str, ...]
    scores: "NDArray[np.float32]"
    provenance: Provenance
    unknown_item_ids: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class RecommendResult(_Explained):
    """The best items of the catalogue.

    Attributes:
        item_ids: Best first.
        scores: Their logits, float32, shape [items].
        provenance: How they were made.
        seed: Of the draw; None without exploration.
        seen: How many items were left out because the user has seen them.
    """

    item_ids: tuple[str, ...]
    scores: "NDArray[np.float32]"
    provenance: Provenance
    seed: int | None = None
    seen: int = 0


@dataclasses.dataclass(frozen=True)
class FeedbackResult(_Explained):
    """What the events changed; they are durable.

    Attributes:
        accepted: Events learned from, or to be learned from if pending.
        duplicates: Events left out because they were known.
        loss_before: Loss on the support set before learning; None if there
            was nothing new.
        loss_after: The same after.
        provenance: The weights that the next Rank uses.
        unknown_item_ids: Items that the model does not know.
        pending: The events are durable, but the weights move a little later.
    """

    accepted: int
    duplicates: int
    loss_before: float | None
    loss_after: float | None
    provenance: Provenance
    unknown_item_ids: tuple[str, ...] = ()
    pending: bool = False


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


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """What the gateway serves of one model.

    Attributes:
        model: Its name.
        version: The version asked; 0: none is ready yet.
        fingerprint: Of its fixed part.
        meta_init_version: Version of its meta-initialization.
        num_adaptive: Adaptive values per user.
        user_features: Kind of each user feature, by name.
        trouble: Why newer versions are not used; empty if none.
    """

    model: str
    version: int
    fingerprint: str
    meta_init_version: int
    num_adaptive: int
    user_features: Mapping[str, str]
    trouble: str


@dataclasses.dataclass(frozen=True)
class GatewayStatus:
    """What a gateway serves, and how it has been going.

    Attributes:
        models: Its models.
        default_model: The one asked when a request names none.
        store: Kind of its store.
        uptime_seconds: Since when it runs.
        counters: Of its process, named as in its metrics.
    """

    models: tuple[ModelStatus, ...]
    default_model: str
    store: str
    uptime_seconds: float
    counters: Mapping[str, float]
