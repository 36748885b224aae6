"""Scores candidates: from vectors that are kept, or by the model server.

With a version that gives vectors (signature `embed`), the gateway asks for
those it does not have and multiplies them itself. Items come again and again,
and a user's weights move with feedback only, so most ranks need no call of the
model server. The others take one, as they would anyway.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator, Sequence

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

# Of so many versions of a model vectors are kept: the current one, those of
# experiments' arms, and the one before that requests are pinned to.
_MAX_VERSIONS = 4
# Users' vectors are dropped between one and two times this after their last
# use: nothing is left for long of users that another gateway deleted.
_USER_SECONDS = 300.0
# So long a switch to a new version may wait for the items that are kept.
_AHEAD_SECONDS = 2.0


class Scoring:
    """Scores of single rows; lives inside one event loop."""

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
        # By model, version and fingerprint, those asked for last at the end.
        self._versions: dict[tuple[str, int, str], KeptVectors] = {}
        self._ageing: asyncio.TimerHandle | None = None
        # How often users were dropped.
        self._forgotten = 0

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
            if len(missing) > self._max_items:
                # They could not be kept, and scores are smaller than vectors.
                return await self._batcher.rank(model, row)
            forgotten = self._forgotten
            known = np.ones(len(row.item_ids), np.bool_)
            for places in _chunks(missing):
                item_ids = [row.item_ids[place] for place in places]
                answer = await self._batcher.embed(
                    model, row._replace(item_ids=item_ids)
                )
                items[places], known[places] = answer.items, answer.known
                _keep(kept, item_ids, answer)
            # A copy: an answer is a part of its whole batch's.
            user = answer.user.copy()
            # Who was deleted meanwhile must not come back.
            if forgotten == self._forgotten:
                kept.keep_user(key, user)
                self._age_later()
        else:
            self._metrics.count_ranks_kept()
        # Not by BLAS, whose threads would take the core from the event loop.
        return RowScores(np.einsum("nv,v->n", items, user), known)

    async def prepare(self, model: ServedModel) -> None:
        """Asks a version that is to serve for the items kept of others.

        Else the first who come after a switch would ask for the same items, all
        at the same moment. What can't be had, or not soon, Ranks ask for.
        """
        if self._max_items and model.manifest.vector_size:
            with contextlib.suppress(ServingError, asyncio.TimeoutError):
                await asyncio.wait_for(self._ask_ahead(model), _AHEAD_SECONDS)

    async def _ask_ahead(self, model: ServedModel) -> None:
        kept = self._kept(model)
        # Of the version that was asked last first of all.
        others = [
            each.item_ids
            for (name, *_), each in reversed(self._versions.items())
            if name == model.name and each is not kept
        ]
        item_ids = [*dict.fromkeys(itertools.chain(*others))][: self._max_items]
        _, missing = kept.items(item_ids)
        for places in _chunks(missing) if missing else ():
            chunk = [item_ids[place] for place in places]
            row = RankRow(model.meta_init, {}, chunk)
            _keep(kept, chunk, await self._batcher.embed(model, row))

    def forget_users(self) -> None:
        """Drops what is kept of users, as when one of them was deleted."""
        self._forgotten += 1
        for kept in self._versions.values():
            kept.forget_users()

    def _kept(self, model: ServedModel) -> KeptVectors:
        manifest = model.manifest
        # Not by the number alone: a folder may be pushed anew.
        key = (model.name, model.version, manifest.fingerprint)
        kept = self._versions.pop(key, None)
        if kept is None:
            kept = KeptVectors(manifest.vector_size, self._max_items)
            before = [each for each in self._versions if each[0] == model.name]
            if len(before) >= _MAX_VERSIONS:
                del self._versions[before[0]]
        self._versions[key] = kept
        return kept

    def _age_later(self) -> None:
        if self._ageing is None:
            loop = asyncio.get_running_loop()
            self._ageing = loop.call_later(_USER_SECONDS, self._age)

    def _age(self) -> None:
        self._ageing = None
        for kept in self._versions.values():
            kept.age_users()
        if any(kept.has_users for kept in self._versions.values()):
            self._age_later()


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
