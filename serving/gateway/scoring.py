"""Scores candidates: from vectors that are kept, or by the model server.

With a version that gives vectors (signature `embed`), the gateway asks for
those it does not have and multiplies them itself. Items come again and again,
and a user's weights move with feedback only, so most ranks need no call of the
model server. The others take one, as they would anyway.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from serving.gateway.batcher import (
    MAX_SHARED_CANDIDATES,
    RankBatcher,
    RowScores,
    RowVectors,
)
from serving.gateway.kept_vectors import KeptVectors, Met, user_key
from serving.gateway.kept_versions import KeptVersions
from serving.metrics import Metrics
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow


class Scoring:
    """Scores of single rows; lives inside one event loop.

    Attributes:
        kept: The vectors that are kept.
    """

    def __init__(
        self, batcher: RankBatcher, max_items: int, metrics: Metrics
    ) -> None:
        """Sets it up.

        Args:
            batcher: Asks the model server.
            max_items: Item vectors to keep of each version; 0 leaves all
                scoring to the model server.
            metrics: What counts where scores come from.
        """
        self._batcher = batcher
        self._max_items = max_items
        self._metrics = metrics
        self.kept = KeptVersions(max_items)

    async def score(
        self, model: ServedModel, row: RankRow, user_id: str = ""
    ) -> RowScores:
        """Scores one user's candidates.

        Args:
            model: The pinned version to ask.
            row: The user and candidates.
            user_id: Who has these weights; see `Met`.

        Raises:
            UnknownModelError: The version is not loaded any more, and has to
                be asked.
            BackendError: The model server has to be asked, and did not give
                what it should.
        """
        if not self.keeps(model):
            return await self._batcher.rank(model, row)
        kept = self.kept.of(model)
        key = user_key(row.weights, row.features)
        user = kept.user(key)
        items, missing = kept.items(row.item_ids)
        known = None
        if user is None or missing:
            self._metrics.count_ranks_asked()
            if len(missing) > self._max_items:
                # They could not be kept, and scores are smaller than vectors.
                return await self._batcher.rank(model, row)
            known = np.ones(len(row.item_ids), np.bool_)
            met, forgotten = Met(user_id, row.features), self.kept.forgotten
            for places in _chunks(missing):
                item_ids = [row.item_ids[place] for place in places]
                answer = await self._embed(
                    model,
                    kept,
                    key,
                    row._replace(item_ids=item_ids),
                    met,
                    forgotten,
                )
                items[places], known[places] = answer.items, answer.known
            user = answer.user
        else:
            self._metrics.count_ranks_kept()
        # Not by BLAS, whose threads would take the core from the event loop.
        return RowScores(np.einsum("nv,v->n", items, user), known)

    async def _embed(
        self,
        model: ServedModel,
        kept: KeptVectors,
        key: bytes,
        row: RankRow,
        met: Met,
        forgotten: int,
        came: bool = True,
    ) -> RowVectors:
        """Asks for vectors, and keeps them."""
        answer = await self._batcher.embed(model, row)
        _keep(kept, row.item_ids, answer)
        # A copy: an answer is a part of its whole batch's.
        user = answer.user.copy()
        self.kept.keep_user(kept, key, user, met, came, forgotten)
        return answer

    async def ask_ahead(
        self, model: ServedModel, row: RankRow, user_id: str, forgotten: int
    ) -> None:
        """Asks for the vector of a user who is expected, if it is not kept.

        Args:
            model: A version that has vectors.
            row: The user, without candidates.
            user_id: Who has these weights; see `Met`.
            forgotten: What it was when the user was read: nobody is kept who
                may have been deleted since.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give a vector.
        """
        kept, key = self.kept.of(model), user_key(row.weights, row.features)
        if not kept.has_user(key):
            met = Met(user_id, row.features)
            await self._embed(model, kept, key, row, met, forgotten, came=False)

    async def ask_for_items(self, model: ServedModel) -> None:
        """Asks a version that is to serve for the items kept of others.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give vectors.
        """
        kept = self.kept.of(model)
        missing = (
            item_id
            for item_id in self.kept.items_met(model)
            if not kept.has_item(item_id)
        )
        while item_ids := [*itertools.islice(missing, MAX_SHARED_CANDIDATES)]:
            row = RankRow(model.meta_init, {}, item_ids)
            _keep(kept, item_ids, await self._batcher.embed(model, row))

    def keeps(self, model: ServedModel) -> bool:
        """Whether vectors of a version are kept."""
        return bool(self._max_items and model.manifest.vector_size)


def _chunks(places: Sequence[int]) -> Iterator[Sequence[int]]:
    """What one request may ask for at a time; one without places if none."""
    for start in range(0, max(1, len(places)), MAX_SHARED_CANDIDATES):
        yield places[start : start + MAX_SHARED_CANDIDATES]


def _keep(
    kept: KeptVectors, item_ids: Sequence[str], answer: RowVectors
) -> None:
    """Keeps those of the items that the model knows."""
    kept.keep_items(
        [item_ids[place] for place in np.flatnonzero(answer.known)],
        answer.items[answer.known],
    )
