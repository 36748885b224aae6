"""Clients of the gateway, sync and aio, without TensorFlow.

    with RecommenderClient("localhost:8600") as client:
        before = client.rank("u1", ["12", "7"], {"segment": "student"})
        client.submit_feedback("u1", [FeedbackEvent("e1", "12", 1.0)])
        after = client.rank("u1", ["12", "7"], {"segment": "student"})

Both wait for the gateway to come up, and retry calls that it broke off as
unavailable, within the call's deadline; sent twice, an event still counts
once. A call that fails raises a `GatewayError`, which is a `grpc.RpcError`: it
names the method and the status, and says what to do; `retry_after_seconds`
reads when to come again.

Over networks that others share, connect with TLS and a token:

    RecommenderClient(
        "gateway.example:8600",
        tls=ClientTls(ca=Path("ca.pem")),
        token=Path("token").read_text().strip(),
    )
"""

from serving.client.aio import AsyncRecommenderClient
from serving.client.blocking import RecommenderClient
from serving.client.calls import encode_feature
from serving.client.connection import DEFAULT_TIMEOUT_SECONDS
from serving.client.errors import (
    AccessRefusedError,
    GatewayError,
    PlaintextTokenError,
    RequestRefusedError,
    TimedOutError,
    TryLaterError,
    UnavailableError,
    retry_after_seconds,
)
from serving.client.status import GatewayStatus, ModelStatus
from serving.client.user_data import (
    DeletionReceipt,
    StoredWeights,
    UserExport,
    UserModel,
)
from serving.client.values import (
    Features,
    FeatureValue,
    FeedbackEvent,
    FeedbackResult,
    Provenance,
    RankResult,
    RecommendResult,
)
from serving.security.tls import ClientTls

__all__ = [
    "DEFAULT_TIMEOUT_SECONDS",
    "AccessRefusedError",
    "AsyncRecommenderClient",
    "ClientTls",
    "DeletionReceipt",
    "FeatureValue",
    "Features",
    "FeedbackEvent",
    "FeedbackResult",
    "GatewayError",
    "GatewayStatus",
    "ModelStatus",
    "PlaintextTokenError",
    "Provenance",
    "RankResult",
    "RecommendResult",
    "RecommenderClient",
    "RequestRefusedError",
    "StoredWeights",
    "TimedOutError",
    "TryLaterError",
    "UnavailableError",
    "UserExport",
    "UserModel",
    "encode_feature",
    "retry_after_seconds",
]
