"""Rank and Recommend: scores with the user's own adaptive weights."""

import secrets
from collections.abc import Mapping, Sequence

from serving.experiments.treatments import Treatment
from serving.gateway.exploration import draw_weights, posterior_std
from serving.gateway.provenance import provenance
from serving.gateway.ranker import Floats, Ranker, Ranking
from serving.gateway.requests import (
    check_candidates,
    check_excluded,
    check_exploration,
    check_id,
    check_num_results,
)
from serving.gateway.rpcs.call import Call
from serving.gateway.shadows import Shadows
from serving.gateway.trials import Trials
from serving.limits import Limits
from serving.metrics import Metrics
from serving.models import wire
from serving.models.features import sent_features
from serving.models.ladder import Ladder, UserState
from serving.models.pinned import features_elsewhere, on_current_version
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.models.templates import Features
from serving.protos import recommender_pb2 as pb
from serving.security.caller import check_user
from serving.store import AdaptiveStore

_SEED_BITS = 63
_SCORES = pb.RankResponse.DESCRIPTOR.fields_by_name["scores"].number


class RankingRpcs:
    """Reads the user, asks the model, explains the answer."""

    def __init__(
        self,
        registry: ModelRegistry,
        ranker: Ranker,
        store: AdaptiveStore,
        ladder: Ladder,
        limits: Limits,
        metrics: Metrics,
        trials: Trials,
        shadows: Shadows,
    ) -> None:
        self._registry = registry
        self._ranker = ranker
        self._store = store
        self._ladder = ladder
        self._limits = limits
        self._metrics = metrics
        self._trials = trials
        self._shadows = shadows

    async def rank(self, request: pb.RankRequest, call: Call) -> bytes:
        """Scores candidates for a user."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        item_ids = check_candidates(request.item_ids, self._limits)
        treatment = self._trials.treat(request.user_id, request.model, call)

        async def answer(model: ServedModel) -> bytes:
            features = self._features(request.features, model, treatment)
            user = await self._read(treatment, model, request.user_id, call)
            ranking = await self._ranker.rank(model, user, item_ids, features)
            self._note(treatment, model, ranking, request.features, call)
            self._metrics.count_unknown_items("Rank", len(ranking.unknown))
            response = pb.RankResponse(
                provenance=self._explain(model, ranking, features, call),
                unknown_item_ids=ranking.unknown,
            )
            # Protobuf for Python would take the scores one by one.
            scores = wire.field(_SCORES, ranking.scores.astype("<f4").tobytes())
            return scores + response.SerializeToString()

        return await on_current_version(self._registry, treatment, answer)

    async def recommend(
        self, request: pb.RecommendRequest, call: Call
    ) -> pb.RecommendResponse:
        """Finds the best items of the catalogue that are new to the user."""
        check_id("user_id", request.user_id, self._limits)
        check_user(request.user_id)
        check_num_results(request.k, self._limits)
        check_excluded(request.exclude_item_ids, self._limits)
        check_exploration(request.exploration)
        treatment = self._trials.treat(request.user_id, request.model, call)

        async def answer(model: ServedModel) -> pb.RecommendResponse:
            features = self._features(request.features, model, treatment)
            user = await self._read(treatment, model, request.user_id, call)
            seen = [] if request.include_seen else seen_items(user)
            weights, seed = _explored(model, user, request)
            ranking = await self._ranker.recommend(
                model,
                user,
                weights,
                request.k,
                [*{*seen, *request.exclude_item_ids}],
                features,
            )
            self._note(treatment, model, ranking, request.features, call)
            return pb.RecommendResponse(
                item_ids=ranking.item_ids,
                scores=ranking.scores.tolist(),
                provenance=self._explain(model, ranking, features, call),
                seed=seed,
                seen=len(seen),
            )

        return await on_current_version(self._registry, treatment, answer)

    async def _read(
        self, treatment: Treatment, model: ServedModel, user_id: str, call: Call
    ) -> UserState:
        user = await self._ladder.read(
            self._store, model, user_id, call.store_seconds
        )
        if treatment.adapts:
            return user
        # What the user has seen is left out of recommendations all the same.
        return UserState(model.meta_init, user.record)

    def _note(
        self,
        treatment: Treatment,
        model: ServedModel,
        ranking: Ranking,
        sent: Mapping[str, pb.FeatureValues],
        call: Call,
    ) -> None:
        """Tells experiments what the user is shown."""
        place = treatment.place
        ms = self._trials.shown(place, call, model, ranking)
        self._shadows.rank(place, call, ranking.item_ids, sent, ms)

    def _features(
        self,
        sent: Mapping[str, pb.FeatureValues],
        model: ServedModel,
        treatment: Treatment,
    ) -> Features:
        elsewhere = features_elsewhere(self._registry, treatment)
        return sent_features(sent, model.user_features, self._limits, elsewhere)

    def _explain(
        self,
        model: ServedModel,
        ranking: Ranking,
        features: Features,
        call: Call,
    ) -> pb.Provenance:
        told = provenance(model, ranking.user, call, features)
        self._metrics.count_answer(model.name, told.rung)
        return told


def seen_items(user: UserState) -> Sequence[str]:
    """Returns the items that the user is known to have seen, once each."""
    if user.record is None:
        return ()
    return list({event.item_id: None for event in user.record.reservoir})


def _explored(
    model: ServedModel, user: UserState, request: pb.RecommendRequest
) -> tuple[Floats, int | None]:
    """Returns the weights to use, and the seed if they were drawn."""
    if not request.exploration:
        return user.weights, None
    seed = (
        request.seed
        if request.HasField("seed")
        else secrets.randbits(_SEED_BITS)
    )
    # Evidence fades as the weights do: back to the prior.
    num_events = user.support_count * user.kept_share
    std = request.exploration * posterior_std(model.manifest, num_events)
    return draw_weights(user.weights, std, request.user_id, seed), seed
