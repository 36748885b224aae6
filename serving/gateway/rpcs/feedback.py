"""SubmitFeedback: a user's events move the user's weights."""

from serving.gateway.config import Limits
from serving.gateway.learner import Learner
from serving.gateway.metrics import Metrics
from serving.gateway.provenance import provenance
from serving.gateway.registry import ModelRegistry, ServedModel
from serving.gateway.requests import check_events, check_id, feature_inputs
from serving.gateway.rpcs.call import Call
from serving.gateway.rpcs.pinned import on_current_version
from serving.gateway.shadows import Shadows
from serving.gateway.trials import Trials
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
        trials: Trials,
        shadows: Shadows,
    ) -> None:
        self._registry = registry
        self._learner = learner
        self._limits = limits
        self._rate_limit = rate_limit
        self._metrics = metrics
        self._trials = trials
        self._shadows = shadows

    async def submit_feedback(
        self, request: pb.SubmitFeedbackRequest, call: Call
    ) -> pb.SubmitFeedbackResponse:
        """Learns from a user's events."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        check_events(request.events, self._limits)
        self._rate_limit.spend(request.user_id, len(request.events))
        treatment = self._trials.treat(request.user_id, request.model, call)

        async def answer(model: ServedModel) -> pb.SubmitFeedbackResponse:
            learned = await self._learner.learn(
                model,
                request.user_id,
                request.events,
                feature_inputs(
                    request.features, model.user_features, self._limits
                ),
                treatment.max_support,
            )
            self._metrics.count_events(learned.accepted, learned.duplicates)
            self._metrics.count_unknown_items(
                "SubmitFeedback", len(learned.unknown_item_ids)
            )
            response = pb.SubmitFeedbackResponse(
                accepted=learned.accepted,
                duplicates=learned.duplicates,
                unknown_item_ids=learned.unknown_item_ids,
                provenance=provenance(
                    model, learned.user, call, request.features
                ),
            )
            if learned.losses is not None:
                response.loss_before, response.loss_after = learned.losses
            return response

        response = await on_current_version(self._registry, treatment, answer)
        place, user_id = treatment.place, request.user_id
        self._trials.answered(place, user_id, request.events)
        self._shadows.learn(place, user_id, request.events, request.features)
        return response
