"""Clients of the gateway, sync and aio, without TensorFlow.

    with RecommenderClient("localhost:8600") as client:
        before = client.rank("u1", ["12", "7"], {"segment": "student"})
        client.submit_feedback("u1", [FeedbackEvent("e1", "12", 1.0)])
        after = client.rank("u1", ["12", "7"], {"segment": "student"})

Both wait for the gateway to come up, and retry calls that it broke off as
unavailable, within the call's deadline; sent twice, an event still counts
once. What the gateway refuses is raised as `grpc.RpcError` with its status
and explanation.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TypeAlias, TypeVar

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray

from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc

DEFAULT_TIMEOUT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 16 << 20

FeatureValue: TypeAlias = "str | float | Sequence[str] | None"
Features: TypeAlias = Mapping[str, FeatureValue]

_RETRIES = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "adaptower.v1.Recommender"}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_CHANNEL_OPTIONS = (
    ("grpc.service_config", _RETRIES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A gateway that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)

_Sync = TypeVar("_Sync", bound="RecommenderClient")
_Async = TypeVar("_Async", bound="AsyncRecommenderClient")


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
    """

    model: str
    version: int
    fingerprint: str
    meta_init_version: int
    support_count: int
    store_hit: bool
    degraded: bool
    degraded_reason: str


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
    """

    item_ids: tuple[str, ...]
    scores: NDArray[np.float32]
    provenance: Provenance


@dataclasses.dataclass(frozen=True)
class FeedbackResult(_Explained):
    """What the events changed.

    Attributes:
        accepted: Events learned from.
        duplicates: Events left out because they were known.
        loss_before: Loss on the support set before learning; None if there
            was nothing new.
        loss_after: The same after.
        provenance: The weights that the next Rank uses.
    """

    accepted: int
    duplicates: int
    loss_before: float | None
    loss_after: float | None
    provenance: Provenance


def encode_feature(value: FeatureValue) -> pb.FeatureValues:
    """Encodes a feature's value by its Python type; None is missing."""
    if value is None:
        return pb.FeatureValues()
    if isinstance(value, str):
        return pb.FeatureValues(strings=pb.StringList(values=[value]))
    if isinstance(value, Sequence):
        return pb.FeatureValues(strings=pb.StringList(values=value))
    return pb.FeatureValues(numbers=pb.NumberList(values=[value]))


def _rank_request(
    user_id: str,
    item_ids: Sequence[str],
    features: Features | None,
    model: str | None,
) -> pb.RankRequest:
    return pb.RankRequest(
        user_id=user_id,
        item_ids=item_ids,
        features={k: encode_feature(v) for k, v in (features or {}).items()},
        model=model or "",
    )


def _feedback_request(
    user_id: str,
    events: Sequence[FeedbackEvent],
    features: Features | None,
    model: str | None,
) -> pb.SubmitFeedbackRequest:
    return pb.SubmitFeedbackRequest(
        user_id=user_id,
        events=[
            pb.FeedbackEvent(
                event_id=event.event_id,
                item_id=event.item_id,
                label=event.label,
                timestamp=event.timestamp,
            )
            for event in events
        ],
        features={k: encode_feature(v) for k, v in (features or {}).items()},
        model=model or "",
    )


def _provenance(message: pb.Provenance) -> Provenance:
    return Provenance(
        model=message.model,
        version=message.version,
        fingerprint=message.fingerprint,
        meta_init_version=message.meta_init_version,
        support_count=message.support_count,
        store_hit=message.store_hit,
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
    )


def _rank_result(
    item_ids: Sequence[str], response: pb.RankResponse
) -> RankResult:
    return RankResult(
        item_ids=tuple(item_ids),
        scores=np.array(response.scores, np.float32),
        provenance=_provenance(response.provenance),
    )


def _feedback_result(response: pb.SubmitFeedbackResponse) -> FeedbackResult:
    learned = response.HasField("loss_before")
    return FeedbackResult(
        accepted=response.accepted,
        duplicates=response.duplicates,
        loss_before=response.loss_before if learned else None,
        loss_after=response.loss_after if learned else None,
        provenance=_provenance(response.provenance),
    )


class RecommenderClient:
    """Talks to a gateway; safe to use from several threads."""

    def __init__(
        self, target: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        """Connects on the first call.

        Args:
            target: `host:port` of the gateway.
            timeout_seconds: Deadline of each call, retries included.
        """
        self._timeout = timeout_seconds
        self._channel = grpc.insecure_channel(target, _CHANNEL_OPTIONS)
        self._stub = pb_grpc.RecommenderStub(self._channel)

    def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Features | None = None,
        model: str | None = None,
    ) -> RankResult:
        """Scores candidates for a user.

        Args:
            user_id: The user; one never seen is served from meta_init.
            item_ids: Candidates, at least one.
            features: User features by name: a string, a list of strings or a
                number, as the model's manifest declares them.
            model: Which model to ask; the gateway's default if None.

        Raises:
            grpc.RpcError: The gateway refused, or did not answer in time.
        """
        request = _rank_request(user_id, item_ids, features, model)
        response = self._stub.Rank(
            request, timeout=self._timeout, wait_for_ready=True
        )
        return _rank_result(item_ids, response)

    def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Features | None = None,
        model: str | None = None,
    ) -> FeedbackResult:
        """Lets the model learn from a user's events.

        Returns once the new weights are durable: the next `rank` uses them.

        Args:
            user_id: The user.
            events: What the user did, oldest first, at least one.
            features: User features, as for `rank`.
            model: Which model learns; the gateway's default if None.

        Raises:
            grpc.RpcError: The gateway refused, or did not answer in time.
        """
        request = _feedback_request(user_id, events, features, model)
        response = self._stub.SubmitFeedback(
            request, timeout=self._timeout, wait_for_ready=True
        )
        return _feedback_result(response)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self: _Sync) -> _Sync:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class AsyncRecommenderClient:
    """The same for asyncio; to be made and used inside one event loop."""

    def __init__(
        self, target: str, timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    ) -> None:
        """Connects on the first call; see `RecommenderClient`."""
        self._timeout = timeout_seconds
        self._channel = grpc.aio.insecure_channel(target, _CHANNEL_OPTIONS)
        self._stub = pb_grpc.RecommenderStub(self._channel)

    async def rank(
        self,
        user_id: str,
        item_ids: Sequence[str],
        features: Features | None = None,
        model: str | None = None,
    ) -> RankResult:
        """Scores candidates; see `RecommenderClient.rank`."""
        request = _rank_request(user_id, item_ids, features, model)
        response = await self._stub.Rank(
            request, timeout=self._timeout, wait_for_ready=True
        )
        return _rank_result(item_ids, response)

    async def submit_feedback(
        self,
        user_id: str,
        events: Sequence[FeedbackEvent],
        features: Features | None = None,
        model: str | None = None,
    ) -> FeedbackResult:
        """Lets the model learn; see `RecommenderClient.submit_feedback`."""
        request = _feedback_request(user_id, events, features, model)
        response = await self._stub.SubmitFeedback(
            request, timeout=self._timeout, wait_for_ready=True
        )
        return _feedback_result(response)

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def __aenter__(self: _Async) -> _Async:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()
