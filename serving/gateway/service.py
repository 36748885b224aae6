"""The services that a gateway offers, as handlers to add to a gRPC server."""

from collections.abc import Mapping

import grpc

from serving.gateway.rpcs.call import Method
from serving.gateway.rpcs.feedback import FeedbackRpcs
from serving.gateway.rpcs.handler import Observers
from serving.gateway.rpcs.prediction import PredictionRpcs
from serving.gateway.rpcs.ranking import RankingRpcs
from serving.gateway.rpcs.status import StatusRpcs
from serving.gateway.rpcs.user_data import UserDataRpcs
from serving.protos import recommender_pb2 as pb
from serving.tf_serving import MODEL_SERVICE, PREDICTION_SERVICE

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Recommender"].full_name


def recommender_service(
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


def tf_serving_services(
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
