"""What a gateway says of itself, as plain values."""

import dataclasses
from collections.abc import Mapping


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
