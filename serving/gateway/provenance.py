"""Explains an answer: which model, which weights, and why these."""

from collections.abc import Iterable

from serving.gateway.rpcs.call import Call
from serving.models.ladder import UserState
from serving.models.served_model import ServedModel
from serving.protos import recommender_pb2 as pb


def provenance(
    model: ServedModel,
    user: UserState,
    call: Call,
    sent_features: Iterable[str] = (),
) -> pb.Provenance:
    """Tells how an answer was made, and notes it with the call.

    Args:
        model: The version that answered.
        user: The weights it used.
        call: The call it answers.
        sent_features: Names of the features that came with the request.
    """
    sent = set(sent_features)
    told = pb.Provenance(
        model=model.name,
        version=model.version,
        fingerprint=model.manifest.fingerprint,
        meta_init_version=model.meta_state.version,
        support_count=user.support_count,
        store_hit=user.hit,
        degraded=bool(user.degraded_reason),
        degraded_reason=user.degraded_reason,
        rung=user.rung(bool(sent)),
        arm=call.arm,
        request_id=call.request_id,
    )
    if user.record is not None:
        told.updated_ms = user.record.updated_ms
    if user.hit:
        told.kept_share = user.kept_share
    for feature in model.manifest.user_features:
        if feature.name not in sent:
            told.missing_features.append(feature.name)
    call.provenance = told
    return told
