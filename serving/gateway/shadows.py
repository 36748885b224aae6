"""Asks shadow arms what they would have answered, behind the scenes."""

from collections.abc import Mapping, Sequence

from serving.experiments.assignment import Assignment
from serving.experiments.treatments import Treatment, treatment_of
from serving.gateway.ranker import Ranker
from serving.gateway.rpcs.call import Call
from serving.gateway.trials import Trials
from serving.models.ladder import Ladder, UserState
from serving.models.pinned import current_version, on_current_version
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.online.stage import OnlineStage
from serving.online.told import encode_told, known_features, submission_of
from serving.protos import recommender_pb2 as pb
from serving.store import AdaptiveStore

Features = Mapping[str, pb.FeatureValues]


class Shadows:
    """Ranks and learns for the shadows of a user's experiment.

    They score the items that the user was shown, so that what the user makes
    of those judges them as well.
    """

    def __init__(
        self,
        trials: Trials,
        registry: ModelRegistry,
        ranker: Ranker,
        stage: OnlineStage,
        store: AdaptiveStore,
        ladder: Ladder,
    ) -> None:
        self._trials = trials
        self._registry = registry
        self._ranker = ranker
        self._stage = stage
        self._store = store
        self._ladder = ladder

    def rank(
        self,
        place: Assignment | None,
        call: Call,
        item_ids: Sequence[str],
        features: Features,
        shown_ms: float | None,
    ) -> None:
        """Has the shadows score what the user was shown, and when."""
        user_id = self._trials.user_of(call)
        if user_id is None:
            return
        for treatment in _shadows_of(place):
            work = self._rank(
                treatment, user_id, call, item_ids, features, shown_ms
            )
            self._trials.in_shadow(user_id, work)

    def learn(
        self,
        place: Assignment | None,
        call: Call,
        events: Sequence[pb.FeedbackEvent],
        features: Features,
    ) -> None:
        """Has the shadows learn from the user's events."""
        user_id = self._trials.user_of(call)
        if user_id is None:
            return
        for treatment in _shadows_of(place):
            if treatment.adapts:
                self._trials.in_shadow(
                    user_id, self._learn(treatment, user_id, events, features)
                )

    async def _rank(
        self,
        treatment: Treatment,
        user_id: str,
        call: Call,
        item_ids: Sequence[str],
        features: Features,
        shown_ms: float | None,
    ) -> None:
        async def score(model: ServedModel) -> None:
            user = UserState(model.meta_init)
            if treatment.adapts:
                user = await self._ladder.read(self._store, model, user_id)
            # They were checked against the model that the user was shown.
            known = known_features(
                pb.Told(features=features), model.user_features
            )
            ranking = await self._ranker.rank(model, user, item_ids, known)
            self._trials.shown(treatment.place, call, model, ranking, shown_ms)

        await on_current_version(self._registry, treatment, score)

    async def _learn(
        self,
        treatment: Treatment,
        user_id: str,
        events: Sequence[pb.FeedbackEvent],
        features: Features,
    ) -> None:
        model = await current_version(self._registry, treatment)
        await self._stage.submit(
            submission_of(model.name, user_id, events, encode_told(features))
        )


def _shadows_of(place: Assignment | None) -> list[Treatment]:
    if place is None:
        return []
    return [
        treatment_of(arm, Assignment(place.experiment, arm))
        for arm in place.experiment.shadows
    ]
