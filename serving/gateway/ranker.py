"""Scores candidates with a user's adaptive weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import BackendError
from serving.gateway.backend import ModelServer
from serving.gateway.registry import ServedModel
from serving.gateway.users import SCORES_NOT_FINITE, UserState, read_user
from serving.protos import tf_serving_pb2 as pb
from serving.store import AdaptiveStore
from serving.tf_serving import encode_tensor, string_tensor

Inputs = Mapping[str, pb.TensorProto]


class Ranker:
    """Reads the user's weights and sends them along with the request."""

    def __init__(self, backend: ModelServer, store: AdaptiveStore) -> None:
        self._backend = backend
        self._store = store

    async def rank(
        self,
        model: ServedModel,
        user_id: str,
        item_ids: Sequence[str],
        features: Inputs,
    ) -> tuple[NDArray[Any], UserState]:
        """Scores candidates.

        Args:
            model: The pinned version to ask.
            user_id: The user.
            item_ids: Candidates.
            features: The user's features as inputs.

        Returns:
            Logits, float32, shape [candidates], and the weights they rest on.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give one score per item.
        """
        user = read_user(self._store, model, user_id)
        scores = await self._scores(model, user, item_ids, features)
        if user.hit and not np.isfinite(scores).all():
            user = UserState(model.meta_init, degraded_reason=SCORES_NOT_FINITE)
            scores = await self._scores(model, user, item_ids, features)
        if scores.shape != (len(item_ids),) or not np.isfinite(scores).all():
            raise BackendError(
                f"Version {model.version} of {model.name!r} did not give one "
                f"finite score for each of {len(item_ids)} candidates. Roll "
                "it back and check how it was exported."
            )
        return scores, user

    async def _scores(
        self,
        model: ServedModel,
        user: UserState,
        item_ids: Sequence[str],
        features: Inputs,
    ) -> NDArray[Any]:
        outputs = await self._backend.predict(
            model.name,
            model.version,
            "rank",
            {
                **features,
                "item_id": string_tensor(item_ids, (1, len(item_ids))),
                "adaptive_weights": encode_tensor(user.weights[np.newaxis]),
            },
        )
        return outputs["score"].reshape(-1)
