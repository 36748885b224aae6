"""SubmitFeedback: a user's events move the user's weights."""

from serving.gateway.config import INLINE, GatewayConfig
from serving.gateway.provenance import provenance
from serving.gateway.requests import check_events, check_id
from serving.gateway.rpcs.call import Call
from serving.gateway.shadows import Shadows
from serving.gateway.trials import Trials
from serving.metrics import Metrics
from serving.models.features import sent_features
from serving.models.ladder import Ladder
from serving.models.pinned import current_version, features_elsewhere
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.online.stage import OnlineStage, Submitted
from serving.online.told import encode_told, submission_of
from serving.protos import recommender_pb2 as pb
from serving.security.caller import check_user
from serving.security.rate_limit import FeedbackRateLimit
from serving.store import AdaptiveStore

# Of the time that a caller waits, so much is left for the answer's way back.
_ANSWER_SHARE = 0.2


class FeedbackRpcs:
    """Checks events, has them taken in and learned from, explains it."""

    def __init__(
        self,
        config: GatewayConfig,
        registry: ModelRegistry,
        stage: OnlineStage,
        store: AdaptiveStore,
        ladder: Ladder,
        rate_limit: FeedbackRateLimit,
        metrics: Metrics,
        trials: Trials,
        shadows: Shadows,
    ) -> None:
        self._limits = config.limits
        self._wait_seconds = (
            config.backend_timeout_seconds if config.feedback == INLINE else 0.0
        )
        self._registry = registry
        self._stage = stage
        self._store = store
        self._ladder = ladder
        self._rate_limit = rate_limit
        self._metrics = metrics
        self._trials = trials
        self._shadows = shadows

    async def submit_feedback(
        self, request: pb.SubmitFeedbackRequest, call: Call
    ) -> pb.SubmitFeedbackResponse:
        """Takes a user's events in, and learns from them."""
        user_id = request.user_id
        check_id("user_id", user_id, self._limits)
        check_user(user_id)
        check_events(request.events, self._limits)
        # Who has nothing left costs no more than to be told so, and who is
        # refused for something else has spent nothing.
        self._rate_limit.check(user_id, len(request.events))
        treatment = self._trials.treat(user_id, request.model, call)
        model = await current_version(self._registry, treatment)
        sent_features(
            request.features,
            model.user_features,
            self._limits,
            features_elsewhere(self._registry, treatment),
        )
        self._rate_limit.spend(user_id, len(request.events))
        told = encode_told(request.features, bool(request.model))
        submitted = await self._stage.submit(
            submission_of(model.name, user_id, request.events, told),
            self._seconds_to_wait(call),
        )
        response = await self._response(request, submitted, model, call)
        self._trials.answered(call, request.events)
        self._shadows.learn(
            treatment.place, call, request.events, request.features
        )
        return response

    def _seconds_to_wait(self, call: Call) -> float:
        """How long the answer may wait for the weights."""
        left: float | None = call.context.time_remaining()
        if left is None:
            return self._wait_seconds
        return min(self._wait_seconds, (1.0 - _ANSWER_SHARE) * left)

    async def _response(
        self,
        request: pb.SubmitFeedbackRequest,
        submitted: Submitted,
        model: ServedModel,
        call: Call,
    ) -> pb.SubmitFeedbackResponse:
        entry, learned = submitted.entry, submitted.learned
        new_events = entry.events if entry else ()
        response = pb.SubmitFeedbackResponse(
            accepted=len(new_events),
            duplicates=len(request.events) - len(new_events),
            pending=entry is not None and learned is None,
        )
        if entry is None or learned is None:
            user = await self._ladder.read(self._store, model, request.user_id)
        else:
            model, user = learned.model, learned.user
            response.accepted = learned.accepted[entry.position]
            response.unknown_item_ids.extend(
                {
                    event.item_id: None
                    for event in new_events
                    if event.item_id in learned.unknown_items
                }
            )
            if learned.losses is not None:
                response.loss_before, response.loss_after = learned.losses
        response.provenance.CopyFrom(
            provenance(model, user, call, request.features)
        )
        self._metrics.count_events(response.accepted, response.duplicates)
        self._metrics.count_unknown_items(
            "SubmitFeedback", len(response.unknown_item_ids)
        )
        return response
