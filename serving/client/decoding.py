"""Turns the gateway's messages into values."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from serving.client.status import GatewayStatus, ModelStatus
from serving.client.user_data import (
    DeletionReceipt,
    StoredWeights,
    UserExport,
    UserModel,
)
from serving.client.values import (
    FeedbackEvent,
    FeedbackResult,
    Provenance,
    RankResult,
    RecommendResult,
)
from serving.protos import recommender_pb2 as pb

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_RUNG_PREFIX = "RUNG_"


def rank_result(
    item_ids: tuple[str, ...], response: pb.RankResponse
) -> RankResult:
    """Decodes the answer to a Rank of these candidates."""
    return RankResult(
        item_ids=item_ids,
        scores=_scores(response.scores),
        provenance=provenance(response.provenance),
        unknown_item_ids=tuple(response.unknown_item_ids),
    )


def recommend_result(response: pb.RecommendResponse) -> RecommendResult:
    """Decodes the answer to a Recommend."""
    return RecommendResult(
        item_ids=tuple(response.item_ids),
        scores=_scores(response.scores),
        provenance=provenance(response.provenance),
        seed=response.seed if response.HasField("seed") else None,
        seen=response.seen,
    )


def feedback_result(response: pb.SubmitFeedbackResponse) -> FeedbackResult:
    """Decodes the answer to a SubmitFeedback."""
    learned = response.HasField("loss_before")
    return FeedbackResult(
        accepted=response.accepted,
        duplicates=response.duplicates,
        loss_before=response.loss_before if learned else None,
        loss_after=response.loss_after if learned else None,
        provenance=provenance(response.provenance),
        unknown_item_ids=tuple(response.unknown_item_ids),
        pending=response.pending,
    )


def user_export(response: pb.GetUserResponse) -> UserExport:
    """Decodes the answer to a GetUser."""
    return UserExport(
        user_id=response.user_id,
        found=response.found,
        models=tuple(_user_model(model) for model in response.models),
    )


def deletion_receipt(response: pb.DeleteUserResponse) -> DeletionReceipt:
    """Decodes the answer to a DeleteUser."""
    return DeletionReceipt(
        receipt_id=response.receipt_id,
        deleted_ms=response.deleted_ms,
        expires_ms=response.expires_ms,
        records=response.records,
        events=response.events,
    )


def gateway_status(response: pb.GetStatusResponse) -> GatewayStatus:
    """Decodes the answer to a GetStatus."""
    return GatewayStatus(
        models=tuple(
            ModelStatus(
                model=status.model,
                version=status.version,
                fingerprint=status.fingerprint,
                meta_init_version=status.meta_init_version,
                num_adaptive=status.num_adaptive,
                user_features=dict(status.user_features),
                trouble=status.trouble,
            )
            for status in response.models
        ),
        default_model=response.default_model,
        store=response.store,
        uptime_seconds=response.uptime_seconds,
        counters=dict(response.counters),
    )


def provenance(message: pb.Provenance) -> Provenance:
    """Decodes how an answer was made."""
    return Provenance(
        model=message.model,
        version=message.version,
        fingerprint=message.fingerprint,
        meta_init_version=message.meta_init_version,
        support_count=message.support_count,
        store_hit=message.store_hit,
        degraded=message.degraded,
        degraded_reason=message.degraded_reason,
        rung=_rung(message.rung),
        arm=message.arm,
        request_id=message.request_id,
        kept_share=(
            message.kept_share if message.HasField("kept_share") else None
        ),
        updated_ms=message.updated_ms,
        missing_features=tuple(message.missing_features),
    )


def _rung(number: pb.Rung.ValueType) -> str:
    """The rung's name in lower case; gateways of tomorrow may have more."""
    if number not in pb.Rung.values():
        return f"rung {number}"
    return pb.Rung.Name(number).removeprefix(_RUNG_PREFIX).lower()


def _user_model(message: pb.UserModel) -> UserModel:
    return UserModel(
        provenance=provenance(message.provenance),
        sequence=message.sequence,
        support_count=message.support_count,
        weights=tuple(
            StoredWeights(
                stored.fingerprint_digest,
                stored.support_count,
                stored.dtype,
                tuple(stored.values),
            )
            for stored in message.weights
        ),
        reservoir=tuple((e.item_id, e.label) for e in message.reservoir),
        events=tuple(
            FeedbackEvent(e.event_id, e.item_id, e.label, e.timestamp)
            for e in message.events
        ),
        deleted_ms=message.deleted_ms or None,
        features={
            name: (*values.strings.values, *values.numbers.values)
            for name, values in message.features.items()
        },
    )


def _scores(values: Iterable[float]) -> "NDArray[np.float32]":
    import numpy as np

    return np.array(values, np.float32)
