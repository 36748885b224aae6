"""Experiments on users whose clients speak TF Serving's API.

Such a request is in an experiment where one of ours would be: if it is for
one user, asks the default model, and names no version of it. A batch of
several users is in none: each may be in an arm that asks another model, and an
answer is one model's.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.experiments.treatments import Treatment
from serving.gateway.ranker import ITEM_ID, Ranking
from serving.gateway.rpcs.call import Call
from serving.gateway.rpcs.predict_features import fitted, told_features
from serving.gateway.shadows import Shadows
from serving.gateway.trials import Trials
from serving.models.ladder import UserState
from serving.models.pinned import features_elsewhere
from serving.models.registry import ModelRegistry
from serving.models.served_model import ServedModel
from serving.models.templates import SCORE
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor


class PredictTrials:
    """Finds a request's treatment, and notes what its user is shown."""

    def __init__(
        self, trials: Trials, shadows: Shadows, registry: ModelRegistry
    ) -> None:
        self._trials = trials
        self._shadows = shadows
        self._registry = registry

    def treat(
        self, model: str, user_ids: Sequence[str], call: Call
    ) -> Treatment:
        """Returns how to answer a request that names no version."""
        if model != self._registry.default_model or len({*user_ids}) != 1:
            return Treatment(model)
        # Whom the empty id names is nobody, and in no experiment.
        if not user_ids[0]:
            return Treatment(model)
        return self._trials.treat(user_ids[0], "", call)

    def fitted(
        self,
        treatment: Treatment,
        model: ServedModel,
        request: pb.PredictRequest,
        batch: int,
    ) -> pb.PredictRequest:
        """Returns the request as the arm's model takes it."""
        if treatment.place is None:
            return request
        asked = self._registry.served(self._registry.default_model)
        return fitted(
            request,
            model.user_features,
            asked.user_features if asked else (),
            features_elsewhere(self._registry, treatment),
            batch,
        )

    def note(
        self,
        treatment: Treatment,
        call: Call,
        user: UserState,
        model: ServedModel,
        request: pb.PredictRequest,
        response: bytes,
    ) -> None:
        """Tells experiments what the user is shown, row by row."""
        if treatment.place is None:
            return
        inputs = request.inputs
        outputs = pb.PredictResponse.FromString(response).outputs
        # `recommend` finds items, `rank` is given them.
        named = outputs if ITEM_ID in outputs else inputs
        if SCORE not in outputs or ITEM_ID not in named:
            # The request's output filter left it out.
            return
        scores = decode_tensor(outputs[SCORE])
        # A row of an input may stand for all of them.
        items = np.broadcast_to(decode_tensor(named[ITEM_ID]), scores.shape)
        names = features_elsewhere(self._registry, treatment)
        features = told_features(inputs, names, len(scores))
        place = treatment.place
        for row, values, told in zip(items, scores, features, strict=True):
            ranking = _without_padding(row, values, user)
            ms = self._trials.shown(place, call, model, ranking)
            self._shadows.rank(place, call, ranking.item_ids, told, ms)


def _without_padding(
    names: NDArray[Any], scores: NDArray[Any], user: UserState
) -> Ranking:
    kept = np.isfinite(scores) & (names != b"")
    return Ranking(
        [name.decode(errors="replace") for name in names[kept]],
        scores[kept],
        user,
    )
