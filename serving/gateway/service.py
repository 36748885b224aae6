"""The gRPC service `adaptower.v1.Recommender`."""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio

from serving.errors import ServingError, UnknownModelError, status_of
from serving.gateway.config import Limits
from serving.gateway.learner import Learned, Learner
from serving.gateway.ranker import Ranker
from serving.gateway.registry import ModelRegistry, ServedModel
from serving.gateway.requests import (
    check_candidates,
    check_events,
    check_id,
    feature_inputs,
)
from serving.gateway.users import provenance
from serving.protos import recommender_pb2 as pb

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Recommender"].full_name

_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


def _with_status(
    method: Callable[..., Awaitable[Any]],
) -> Callable[..., Awaitable[Any]]:
    """Turns the errors of an RPC into gRPC statuses."""

    @functools.wraps(method)
    async def rpc(
        self: Any, request: Any, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Any:
        try:
            return await method(self, request)
        except ServingError as error:
            await context.abort(status_of(error), str(error))
        except Exception as error:
            _log.exception("Unexpected error in %s", method.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, repr(error))

    return rpc


class RecommenderService:
    """Answers RPCs: checks, asks ranker or learner, explains the answer."""

    def __init__(
        self,
        registry: ModelRegistry,
        ranker: Ranker,
        learner: Learner,
        limits: Limits,
    ) -> None:
        self._registry = registry
        self._ranker = ranker
        self._learner = learner
        self._limits = limits

    @_with_status
    async def rank(self, request: pb.RankRequest) -> pb.RankResponse:
        """Scores candidates for a user."""
        check_id("user_id", request.user_id, self._limits)
        check_candidates(request.item_ids, self._limits)

        async def answer(model: ServedModel) -> pb.RankResponse:
            scores, user = await self._ranker.rank(
                model,
                request.user_id,
                request.item_ids,
                feature_inputs(
                    request.features,
                    model.manifest.user_features,
                    self._limits,
                ),
            )
            return pb.RankResponse(
                scores=scores.tolist(), provenance=provenance(model, user)
            )

        return await self._on_current_version(request.model, answer)

    @_with_status
    async def submit_feedback(
        self, request: pb.SubmitFeedbackRequest
    ) -> pb.SubmitFeedbackResponse:
        """Learns from a user's events."""
        check_id("user_id", request.user_id, self._limits)
        check_events(request.events, self._limits)

        async def answer(model: ServedModel) -> pb.SubmitFeedbackResponse:
            learned = await self._learner.learn(
                model,
                request.user_id,
                request.events,
                feature_inputs(
                    request.features,
                    model.manifest.user_features,
                    self._limits,
                ),
            )
            return _feedback_response(model, learned, len(request.events))

        return await self._on_current_version(request.model, answer)

    def handler(self) -> grpc.GenericRpcHandler:
        """Returns the handler to add to a gRPC server."""
        return grpc.method_handlers_generic_handler(
            SERVICE_NAME,
            {
                "Rank": grpc.unary_unary_rpc_method_handler(
                    self.rank,
                    pb.RankRequest.FromString,
                    pb.RankResponse.SerializeToString,
                ),
                "SubmitFeedback": grpc.unary_unary_rpc_method_handler(
                    self.submit_feedback,
                    pb.SubmitFeedbackRequest.FromString,
                    pb.SubmitFeedbackResponse.SerializeToString,
                ),
            },
        )

    async def _on_current_version(
        self,
        model_name: str,
        answer: Callable[[ServedModel], Awaitable[_Answer]],
    ) -> _Answer:
        """Answers with the pinned version, or once more with its successor.

        The model server may drop a version between two looks at its status.
        """
        model = self._registry.resolve(model_name)
        try:
            return await answer(model)
        except UnknownModelError:
            await self._registry.refresh()
            successor = self._registry.resolve(model_name)
            if successor is model:
                raise
            return await answer(successor)


def _feedback_response(
    model: ServedModel, learned: Learned, num_events: int
) -> pb.SubmitFeedbackResponse:
    response = pb.SubmitFeedbackResponse(
        accepted=learned.accepted,
        duplicates=num_events - learned.accepted,
        provenance=provenance(model, learned.user),
    )
    if learned.losses is not None:
        response.loss_before, response.loss_after = learned.losses
    return response
