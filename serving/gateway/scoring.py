"""Scores candidates: from vectors that are kept, or by the model server.

With a version that gives vectors (signature `embed`), the gateway asks for
those it does not have and multiplies them itself. Items come again and again,
and a user's weights move with feedback only, so most ranks need no call of the
model server. The others take one, as they would anyway.
"""

import asyncio
import collections
import contextlib
import time
from collections.abc import Callable, Sequence

import numpy as np

from serving.errors import ServingError
from serving.gateway.batcher import (
    MAX_SHARED_CANDIDATES,
    RankBatcher,
    RowScores,
    RowVectors,
)
from serving.gateway.kept_vectors import KeptVectors, user_key
from serving.metrics import Metrics
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow

# Of so many versions vectors are kept: the current one, those of experiments'
# arms, and the one before that requests are pinned to.
_MAX_VERSIONS = 4
# Users' vectors are dropped between one and two times this after their last
# use: nothing is left for long of users that another gateway deleted.
_USER_SECONDS = 300.0
# So long a switch to a new version may wait for the items that are kept.
_AHEAD_SECONDS = 2.0


class Scoring:
    """Scores of single rows; lives inside one event loop."""

    def __init__(
        self,
        batcher: RankBatcher,
        max_items: int,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Sets it up.

        Args:
            batcher: Asks the model server.
            max_items: Item vectors to keep of each version; 0 leaves all
                scoring to the model server.
            metrics: What counts where scores come from.
            clock: Tells the time in seconds.
        """
        self._batcher = batcher
        self._max_items = max_items
        self._metrics = metrics
        self._clock = clock
        self._age_at = clock() + _USER_SECONDS
        self._versions: collections.OrderedDict[
            tuple[str, int, str], KeptVectors
        ] = collections.OrderedDict()

    async def score(self, model: ServedModel, row: RankRow) -> RowScores:
        """Scores one user's candidates.

        Raises:
            UnknownModelError: The version is not loaded any more, and has to
                be asked.
            BackendError: The model server has to be asked, and did not give
                what it should.
        """
        if not self._max_items or not model.manifest.vector_size:
            return await self._batcher.rank(model, row)
        kept = self._kept(model)
        key = user_key(row.weights, row.features)
        user = kept.user(key)
        items, missing = kept.items(row.item_ids)
        known = None
        if user is None or missing:
            self._metrics.count_ranks_asked()
            if len(missing) > MAX_SHARED_CANDIDATES:
                # Scores are smaller than so many vectors.
                return await self._batcher.rank(model, row)
            item_ids = [row.item_ids[place] for place in missing]
            answer = await self._batcher.embed(
                model, row._replace(item_ids=item_ids)
            )
            # Copies: an answer is a part of its whole batch's.
            user = answer.user.copy()
            kept.keep_user(key, user)
            items[missing] = answer.items
            known = np.ones(len(row.item_ids), np.bool_)
            known[missing] = answer.known
            _keep(kept, item_ids, answer)
        else:
            self._metrics.count_ranks_kept()
        # Not by BLAS, whose threads would take the core from the event loop.
        return RowScores(np.einsum("nv,v->n", items, user), known)

    async def prepare(self, model: ServedModel) -> None:
        """Asks a version that is to serve for the items kept of another.

        Else the first who come after a switch would ask for the same items, all
        at the same moment. What can't be had, or not soon, Ranks ask for.
        """
        if self._max_items and model.manifest.vector_size:
            with contextlib.suppress(ServingError, asyncio.TimeoutError):
                await asyncio.wait_for(self._ask_ahead(model), _AHEAD_SECONDS)

    async def _ask_ahead(self, model: ServedModel) -> None:
        kept = self._kept(model)
        others = [
            each
            for (name, *_), each in self._versions.items()
            if name == model.name and each is not kept
        ]
        # The version that was asked last is the one that served.
        item_ids = others[-1].item_ids if others else []
        _, missing = kept.items(item_ids)
        item_ids = [item_ids[place] for place in missing]
        for start in range(0, len(item_ids), MAX_SHARED_CANDIDATES):
            chunk = item_ids[start : start + MAX_SHARED_CANDIDATES]
            row = RankRow(model.meta_init, {}, chunk)
            _keep(kept, chunk, await self._batcher.embed(model, row))

    def forget_users(self) -> None:
        """Drops what is kept of users, as when one of them was deleted."""
        for kept in self._versions.values():
            kept.forget_users()

    def _kept(self, model: ServedModel) -> KeptVectors:
        manifest = model.manifest
        # Not by the number alone: a folder may be pushed anew.
        key = (model.name, model.version, manifest.fingerprint)
        kept = self._versions.get(key)
        if kept is None:
            kept = KeptVectors(manifest.vector_size, self._max_items)
            self._versions[key] = kept
            if len(self._versions) > _MAX_VERSIONS:
                self._versions.popitem(last=False)
        self._versions.move_to_end(key)
        if self._clock() >= self._age_at:
            self._age_at = self._clock() + _USER_SECONDS
            for each in self._versions.values():
                each.age_users()
        return kept


def _keep(
    kept: KeptVectors, item_ids: Sequence[str], answer: RowVectors
) -> None:
    """Keeps those of the items that the model knows."""
    kept.keep_items(
        [item_ids[place] for place in np.flatnonzero(answer.known)],
        answer.items[answer.known],
    )
