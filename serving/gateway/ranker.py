"""Scores candidates, and finds items, with a user's adaptive weights."""

import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.errors import BackendError
from serving.gateway.batcher import RowScores
from serving.gateway.scoring import Scoring
from serving.models.backend import ModelServer
from serving.models.ladder import SCORES_NOT_FINITE, UserState, fallback
from serving.models.served_model import ServedModel
from serving.models.templates import SCORE, Features, RankRow
from serving.tf_serving import decode_tensor

ITEM_ID = "item_id"

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, eq=False)
class Ranking:
    """Scored items.

    Attributes:
        item_ids: Items in the order of `scores`.
        scores: Finite logits, float32, shape [items].
        user: The weights they rest on.
        unknown: Those of the items that the model does not know.
    """

    item_ids: Sequence[str]
    scores: Floats
    user: UserState
    unknown: Sequence[str] = ()


_Ask = Callable[[Floats], Awaitable[Ranking]]


class Ranker:
    """Scores and finds items for a user's weights."""

    def __init__(self, backend: ModelServer, scoring: Scoring) -> None:
        """Sets it up.

        Args:
            backend: The model server.
            scoring: Scores candidates.
        """
        self._backend = backend
        self._scoring = scoring

    async def rank(
        self,
        model: ServedModel,
        user: UserState,
        item_ids: Sequence[str],
        features: Features,
    ) -> Ranking:
        """Scores candidates.

        Args:
            model: The pinned version to ask.
            user: Whose weights.
            item_ids: Candidates.
            features: Those that are known.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give one score per item.
        """
        user_id = user.record.key.user_id if user.record else ""

        async def ask(weights: Floats) -> Ranking:
            row = RankRow(weights, features, item_ids)
            answer = await self._scoring.score(model, row, user_id)
            unknown = _unknown(answer, item_ids)
            return Ranking(item_ids, answer.scores, user, unknown)

        return await _with_fallback(model, user, user.weights, ask)

    async def recommend(
        self,
        model: ServedModel,
        user: UserState,
        weights: Floats,
        k: int,
        excluded: Sequence[str],
        features: Features,
    ) -> Ranking:
        """Finds the best items of the whole catalogue.

        Args:
            model: The pinned version to ask.
            user: Whose weights.
            weights: The user's, or drawn around them, shape [P].
            k: How many items.
            excluded: Items to leave out.
            features: Those that are known.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not answer with scored items.
        """

        async def ask(weights: Floats) -> Ranking:
            response = await self._backend.run(
                model.name,
                model.templates.recommend(weights, features, k, excluded),
            )
            found = decode_tensor(response.outputs[ITEM_ID]).reshape(-1)
            scores = decode_tensor(response.outputs[SCORE]).reshape(-1)
            # Fewer than k are left: the rest of the row is padding.
            real = scores > -np.inf
            real |= np.isnan(scores)
            item_ids = [item_id.decode() for item_id in found[real]]
            return Ranking(item_ids, scores[real], user)

        return await _with_fallback(model, user, weights, ask)


async def _with_fallback(
    model: ServedModel, user: UserState, weights: Floats, ask: _Ask
) -> Ranking:
    """Asks again with the meta-initialization if weights spoil the scores."""
    ranking = await ask(weights)
    if np.isfinite(ranking.scores).all():
        return ranking
    if user.hit or weights is not user.weights:
        ranking = await ask(model.meta_init)
        if np.isfinite(ranking.scores).all():
            stand_in = fallback(model, user, SCORES_NOT_FINITE)
            return dataclasses.replace(ranking, user=stand_in)
    raise BackendError(
        f"Version {model.version} of {model.name!r} gave scores that are not "
        "finite. Roll it back and check how it was exported."
    )


def _unknown(answer: RowScores, item_ids: Sequence[str]) -> Sequence[str]:
    if answer.known is None or answer.known.all():
        return ()
    return [item_ids[index] for index in np.flatnonzero(~answer.known)]
