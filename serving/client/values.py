"""What ranking and feedback take and give, as plain values."""

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
