"""The gateway's calls, described once for the sync and the aio client.

A call is a value: which method, which request, and how to read the answer.
The clients only differ in how they wait for it.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from serving.client import decoding
from serving.client.status import GatewayStatus
from serving.client.user_data import DeletionReceipt, UserExport
from serving.client.values import (
    Features,
    FeatureValue,
    FeedbackEvent,
    FeedbackResult,
    RankResult,
    RecommendResult,
)
from serving.protos import recommender_pb2 as pb

_Answer = TypeVar("_Answer")


@dataclasses.dataclass(frozen=True)
class Call(Generic[_Answer]):
    """One call that can be made.

    Attributes:
        method: Name of the method.
        request: Its request message.
        decode: Makes the answer out of the response message.
    """

    method: str
    request: Any
    decode: Callable[[Any], _Answer]


def encode_feature(value: FeatureValue) -> pb.FeatureValues:
    """Encodes a feature's value by its Python type; None is missing."""
    if value is None:
        return pb.FeatureValues()
    if isinstance(value, str):
        return pb.FeatureValues(strings=pb.StringList(values=[value]))
    if isinstance(value, Sequence):
        return pb.FeatureValues(strings=pb.StringList(values=value))
    return pb.FeatureValues(numbers=pb.NumberList(values=[value]))


def _encode(features: Features | None) -> Mapping[str, pb.FeatureValues]:
    return {k: encode_feature(v) for k, v in (features or {}).items()}


def rank(
    user_id: str,
    item_ids: Sequence[str],
    features: Features | None,
    model: str | None,
) -> Call[RankResult]:
    """Scores candidates."""
    request = pb.RankRequest(
        user_id=user_id,
        item_ids=item_ids,
        features=_encode(features),
        model=model or "",
    )
    return Call(
        "Rank",
        request,
        functools.partial(decoding.rank_result, tuple(item_ids)),
    )


def recommend(
    user_id: str,
    k: int,
    features: Features | None,
    model: str | None,
    exclude_item_ids: Sequence[str],
    include_seen: bool,
    exploration: float,
    seed: int | None,
) -> Call[RecommendResult]:
    """Finds the best items."""
    request = pb.RecommendRequest(
        user_id=user_id,
        k=k,
        features=_encode(features),
        model=model or "",
        exclude_item_ids=exclude_item_ids,
        include_seen=include_seen,
        exploration=exploration,
        seed=seed,
    )
    return Call("Recommend", request, decoding.recommend_result)


def submit_feedback(
    user_id: str,
    events: Sequence[FeedbackEvent],
    features: Features | None,
    model: str | None,
) -> Call[FeedbackResult]:
    """Learns from events."""
    request = pb.SubmitFeedbackRequest(
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
        features=_encode(features),
        model=model or "",
    )
    return Call("SubmitFeedback", request, decoding.feedback_result)


def get_user(user_id: str) -> Call[UserExport]:
    """Exports what is held of a user."""
    return Call(
        "GetUser", pb.GetUserRequest(user_id=user_id), decoding.user_export
    )


def delete_user(user_id: str) -> Call[DeletionReceipt]:
    """Removes what is held of a user."""
    return Call(
        "DeleteUser",
        pb.DeleteUserRequest(user_id=user_id),
        decoding.deletion_receipt,
    )


def get_status() -> Call[GatewayStatus]:
    """Asks what is served."""
    return Call("GetStatus", pb.GetStatusRequest(), decoding.gateway_status)
