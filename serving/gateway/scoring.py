"""Scores candidates: from vectors that are kept, or by the model server.

With a version that gives vectors (signature `embed`), the gateway asks for
those it does not have and multiplies them itself. Items come again and again,
and a user's weights move with feedback only, so most ranks need no call of the
model server. The others take one, as they would anyway.
"""

import asyncio
import itertools
from collections.abc import (
    Callable,
    Hashable,
    Iterable,
    Iterator,
    Sequence,
)
from typing import NamedTuple, TypeVar

import numpy as np

from serving.contract.features import Feature
from serving.gateway.batcher import (
    MAX_SHARED_CANDIDATES,
    RankBatcher,
    RowScores,
    RowVectors,
)
from serving.gateway.kept_vectors import KeptVectors, Met, user_key
from serving.metrics import Metrics
from serving.models.served_model import ServedModel
from serving.models.templates import RankRow

# Of so many versions of a model vectors are kept: the current one, those of
# experiments' arms, and the one before that requests are pinned to.
_MAX_VERSIONS = 4
# Users' vectors are dropped between one and two times this after their last
# use: nothing is left for long of users that another gateway deleted.
_USER_SECONDS = 300.0

_T = TypeVar("_T")


class _Version(NamedTuple):
    """What vectors are of; not by the number alone, as it may come anew."""

    model: str
    version: int
    fingerprint: str
    user_features: tuple[Feature, ...]


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
        # Those asked for last at the end.
        self._versions: dict[_Version, KeptVectors] = {}
        self._ageing: asyncio.TimerHandle | None = None
        # How often users were dropped.
        self._forgotten = 0

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
            known = np.ones(len(row.item_ids), np.bool_)
            met, forgotten = Met(user_id, row.features), self._forgotten
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
        # Who was deleted meanwhile must not come back.
        if forgotten == self._forgotten:
            # A copy: an answer is a part of its whole batch's.
            kept.keep_user(key, answer.user.copy(), met, came)
            self._age_later()
        return answer

    @property
    def forgotten(self) -> int:
        """How often users were dropped."""
        return self._forgotten

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
        kept, key = self._kept(model), user_key(row.weights, row.features)
        if not kept.has_user(key):
            met = Met(user_id, row.features)
            await self._embed(model, kept, key, row, met, forgotten, came=False)

    async def ask_for_items(self, model: ServedModel) -> None:
        """Asks a version that is to serve for the items kept of others.

        Raises:
            UnknownModelError: The version is not loaded any more.
            BackendError: The model server did not give vectors.
        """
        kept = self._kept(model)
        others = [each.item_ids for _, each in self._others(model)]
        every = _each_once(itertools.chain.from_iterable(others), str)
        missing = (
            item_id
            for item_id in itertools.islice(every, self._max_items)
            if not kept.has_item(item_id)
        )
        while item_ids := [*itertools.islice(missing, MAX_SHARED_CANDIDATES)]:
            row = RankRow(model.meta_init, {}, item_ids)
            _keep(kept, item_ids, await self._batcher.embed(model, row))

    def users_met(self, model: ServedModel) -> Iterator[Met]:
        """Who came under other versions until now, the last first, each once.

        Only under versions of the same features: what was told must be what
        this one may be told.
        """
        came = [
            each
            for version, kept in self._others(model)
            if version.user_features == model.manifest.user_features
            for each in kept.users_met
        ]
        # Without a name people differ by what they told.
        return _each_once(
            came, lambda met: met.user_id or (repr(met.features),)
        )

    def keeps(self, model: ServedModel) -> bool:
        """Whether vectors of a version are kept."""
        return bool(self._max_items and model.manifest.vector_size)

    def _others(self, model: ServedModel) -> list[tuple[_Version, KeptVectors]]:
        """What is kept of other versions, of that asked last first."""
        kept = self._kept(model)
        return [
            (version, each)
            for version, each in reversed(self._versions.items())
            if version.model == model.name and each is not kept
        ]

    def forget_users(self) -> None:
        """Drops what is kept of users, as when one of them was deleted."""
        self._forgotten += 1
        for kept in self._versions.values():
            kept.forget_users()

    def _kept(self, model: ServedModel) -> KeptVectors:
        manifest = model.manifest
        key = _Version(
            model.name,
            model.version,
            manifest.fingerprint,
            manifest.user_features,
        )
        kept = self._versions.pop(key, None)
        if kept is None:
            kept = KeptVectors(manifest.vector_size, self._max_items)
            before = [e for e in self._versions if e.model == model.name]
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


def _each_once(
    values: Iterable[_T], name: Callable[[_T], Hashable]
) -> Iterator[_T]:
    """Leaves out what came before, looking no further than is asked for."""
    seen: set[Hashable] = set()
    for value in values:
        key = name(value)
        if key not in seen:
            seen.add(key)
            yield value


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
