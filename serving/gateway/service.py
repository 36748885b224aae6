"""The services that a gateway offers, as handlers to add to a gRPC server."""

from collections.abc import Mapping

import grpc

from serving.gateway.ahead import Ahead
from serving.gateway.batcher import RankBatcher
from serving.gateway.config import GatewayConfig
from serving.gateway.ranker import Ranker
from serving.gateway.rpcs.call import Method
from serving.gateway.rpcs.feedback import FeedbackRpcs
from serving.gateway.rpcs.handler import Observers
from serving.gateway.rpcs.predict_trials import PredictTrials
from serving.gateway.rpcs.prediction import PredictionRpcs
from serving.gateway.rpcs.ranking import RankingRpcs
from serving.gateway.rpcs.status import StatusRpcs
from serving.gateway.rpcs.user_data import UserDataRpcs
from serving.gateway.scoring import Scoring
from serving.gateway.shadows import Shadows
from serving.gateway.tracing import make_tracer
from serving.gateway.trials import Trials
from serving.online.parts import Parts
from serving.protos import recommender_pb2 as pb
from serving.security.rate_limit import FeedbackRateLimit
from serving.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Recommender"].full_name


def gateway_services(
    config: GatewayConfig, parts: Parts, trials: Trials
) -> tuple[grpc.GenericRpcHandler, ...]:
    """Puts together what answers the RPCs.

    Args:
        config: What the flags say.
        parts: What they work with.
        trials: The experiments on users.

    Returns:
        Handlers to add to a gRPC server.
    """
    registry, store, ladder = parts.registry, parts.store, parts.ladder
    metrics, stage = parts.metrics, parts.stage
    observers = Observers(
        metrics, make_tracer(config.trace), config.log_requests
    )
    limits = config.limits
    scoring = Scoring(RankBatcher(parts.backend), config.kept_vectors, metrics)
    ahead = Ahead(scoring, store, ladder, parts.stragglers)
    registry.before_switch.add(ahead.prepare)
    ranker = Ranker(parts.backend, scoring)
    shadows = Shadows(trials, registry, ranker, stage, store, ladder)
    return (
        _recommender_service(
            RankingRpcs(
                registry,
                ranker,
                store,
                ladder,
                limits,
                metrics,
                trials,
                shadows,
            ),
            FeedbackRpcs(
                config,
                registry,
                stage,
                store,
                ladder,
                FeedbackRateLimit(
                    config.security.feedback_per_second,
                    config.security.feedback_burst,
                ),
                metrics,
                trials,
                shadows,
            ),
            UserDataRpcs(
                registry,
                store,
                ladder,
                limits,
                trials,
                parts.meta_stage,
                parts.log,
                scoring.kept,
            ),
            StatusRpcs(registry, store, metrics),
            observers,
        ),
        *_tf_serving_services(
            PredictionRpcs(
                registry,
                parts.backend,
                store,
                ladder,
                limits,
                metrics,
                PredictTrials(trials, shadows, registry),
            ),
            observers,
        ),
    )


def _recommender_service(
    ranking: RankingRpcs,
    feedback: FeedbackRpcs,
    user_data: UserDataRpcs,
    status: StatusRpcs,
    observers: Observers,
) -> grpc.GenericRpcHandler:
    """Returns `adaptower.v1.Recommender`."""
    methods: Mapping[str, tuple[Method, object]] = {
        "Rank": (ranking.rank, pb.RankRequest),
        "Recommend": (ranking.recommend, pb.RecommendRequest),
        "SubmitFeedback": (feedback.submit_feedback, pb.SubmitFeedbackRequest),
        "GetUser": (user_data.get_user, pb.GetUserRequest),
        "DeleteUser": (user_data.delete_user, pb.DeleteUserRequest),
        "GetStatus": (status.get_status, pb.GetStatusRequest),
    }
    return grpc.method_handlers_generic_handler(
        SERVICE_NAME,
        {
            name: observers.handler(f"/{SERVICE_NAME}/{name}", *method)
            for name, method in methods.items()
        },
    )


def _tf_serving_services(
    prediction: PredictionRpcs, observers: Observers
) -> tuple[grpc.GenericRpcHandler, ...]:
    """Returns TF Serving's services, so far as the gateway offers them."""
    services: Mapping[str, Mapping[str, Method]] = {
        PREDICTION_SERVICE: {
            "Predict": prediction.predict,
            "GetModelMetadata": prediction.get_model_metadata,
        },
        MODEL_SERVICE: {"GetModelStatus": prediction.get_model_status},
    }
    return tuple(
        grpc.method_handlers_generic_handler(
            service,
            {
                name: observers.handler(f"/{service}/{name}", method)
                for name, method in methods.items()
            },
        )
        for service, methods in services.items()
    )
