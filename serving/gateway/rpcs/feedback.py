"""SubmitFeedback: a user's events move the user's weights."""

from serving.gateway.config import Limits
from serving.gateway.learner import Learner
from serving.gateway.metrics import Metrics
from serving.gateway.provenance import provenance
from serving.gateway.registry import ModelRegistry, ServedModel
from serving.gateway.requests import check_events, check_id, feature_inputs
from serving.gateway.rpcs.call import Call
from serving.gateway.rpcs.pinned import on_current_version
from serving.protos import recommender_pb2 as pb
from serving.security.caller import check_user
from serving.security.rate_limit import FeedbackRateLimit


class FeedbackRpcs:
    """Checks events, has them learned from, explains the outcome."""

    def __init__(
        self,
        registry: ModelRegistry,
        learner: Learner,
        limits: Limits,
        rate_limit: FeedbackRateLimit,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._learner = learner
        self._limits = limits
        self._rate_limit = rate_limit
        self._metrics = metrics

    async def submit_feedback(
        self, request: pb.SubmitFeedbackRequest, call: Call
    ) -> pb.SubmitFeedbackResponse:
        """Learns from a user's events."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        check_events(request.events, self._limits)
        self._rate_limit.spend(request.user_id, len(request.events))

        async def answer(model: ServedModel) -> pb.SubmitFeedbackResponse:
            learned = await self._learner.learn(
                model,
                request.user_id,
                request.events,
                feature_inputs(
                    request.features, model.user_features, self._limits
                ),
            )
            duplicates = len(request.events) - learned.accepted
            self._metrics.count_events(learned.accepted, duplicates)
            self._metrics.count_unknown_items(
                "SubmitFeedback", len(learned.unknown_item_ids)
            )
            response = pb.SubmitFeedbackResponse(
                accepted=learned.accepted,
                duplicates=duplicates,
                unknown_item_ids=learned.unknown_item_ids,
                provenance=provenance(
                    model, learned.user, call, request.features
                ),
            )
            if learned.losses is not None:
                response.loss_before, response.loss_after = learned.losses
            return response

        return await on_current_version(self._registry, request.model, answer)
