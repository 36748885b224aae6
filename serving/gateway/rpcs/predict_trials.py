"""Experiments on users whose clients speak TF Serving's API.

Such a request is in an experiment where one of ours would be: if it is for
one user, asks the default model, and names no version of it. A batch of
several users is in none: each may be in an arm that asks another model, and an
answer is one model's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.contract.features import NUMERIC
from serving.experiments.treatments import Treatment
from serving.gateway.ranker import ITEM_ID, Ranking
from serving.gateway.rpcs.call import Call
from serving.gateway.shadows import Shadows
from serving.gateway.trials import Trials
from serving.models.ladder import UserState
from serving.models.served_model import ServedModel
from serving.models.templates import SCORE
from serving.protos import recommender_pb2
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor


class PredictTrials:
    """Finds a request's treatment, and notes what its user is shown."""

    def __init__(
        self, trials: Trials, shadows: Shadows, default_model: str
    ) -> None:
        self._trials = trials
        self._shadows = shadows
        self._default_model = default_model

    def treat(
        self, model: str, user_ids: Sequence[str], call: Call
    ) -> Treatment:
        """Returns how to answer a request that names no version."""
        if model != self._default_model or len(set(user_ids)) != 1:
            return Treatment(model)
        # Whom the empty id names is nobody, and in no experiment.
        if not user_ids[0]:
            return Treatment(model)
        return self._trials.treat(user_ids[0], "", call)

    def note(
        self,
        treatment: Treatment,
        user_id: str,
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
        features = _features(model, inputs, len(scores))
        for names, values, told in zip(items, scores, features, strict=True):
            ranking = _without_padding(names, values, user)
            self._trials.shown(treatment.place, user_id, model, ranking)
            self._shadows.rank(treatment.place, user_id, ranking.item_ids, told)


def _without_padding(
    names: NDArray[Any], scores: NDArray[Any], user: UserState
) -> Ranking:
    kept = np.isfinite(scores) & (names != b"")
    return Ranking(
        [name.decode(errors="replace") for name in names[kept]],
        scores[kept],
        user,
    )


def _features(
    model: ServedModel, inputs: Mapping[str, pb.TensorProto], rows: int
) -> list[dict[str, recommender_pb2.FeatureValues]]:
    """Returns what the inputs tell of each row's user, as Rank takes it."""
    found: list[dict[str, recommender_pb2.FeatureValues]] = [
        {} for _ in range(rows)
    ]
    for name, feature in model.user_features.items():
        column = decode_tensor(inputs[name])
        column = np.broadcast_to(column, (rows, *column.shape[1:]))
        for row, values in zip(found, column, strict=True):
            told = row[name] = recommender_pb2.FeatureValues()
            if feature.kind == NUMERIC:
                told.numbers.values.extend(np.atleast_1d(values).tolist())
            else:
                told.strings.values.extend(
                    value.decode(errors="replace")
                    for value in np.atleast_1d(values)
                    if value
                )
    return found
