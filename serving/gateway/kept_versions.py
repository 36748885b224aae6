"""What is kept of each version, and of users until they are forgotten.

A new version has nothing kept: what was kept of the others says which items
and users it will be asked for.
"""

import asyncio
import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple, TypeVar

from serving.contract.features import Feature
from serving.gateway.kept_vectors import Floats, KeptVectors, Met
from serving.models.served_model import ServedModel

# Of so many versions of a model vectors are kept: the current one, those of
# experiments' arms, and the one before that requests are pinned to.
_MAX_VERSIONS = 4
# Users' vectors are dropped between one and two times this after their last
# use, or after they were expected: nothing is left for long of users that
# another gateway deleted.
_USER_SECONDS = 300.0

_T = TypeVar("_T")


class _Version(NamedTuple):
    """What vectors are of; not by the number alone, as it may come anew."""

    model: str
    version: int
    fingerprint: str
    user_features: tuple[Feature, ...]


class KeptVersions:
    """The vectors of all versions; lives inside one event loop.

    Attributes:
        forgotten: How often users were dropped: who was read before may have
            been deleted since.
    """

    def __init__(self, max_items: int) -> None:
        """Keeps nothing yet.

        Args:
            max_items: Item vectors to keep of each version.
        """
        self._max_items = max_items
        # Those asked for last at the end.
        self._versions: dict[_Version, KeptVectors] = {}
        self._ageing: asyncio.TimerHandle | None = None
        self.forgotten = 0

    def of(self, model: ServedModel) -> KeptVectors:
        """Returns what is kept of a version."""
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

    def keep_user(
        self,
        kept: KeptVectors,
        key: bytes,
        vector: Floats,
        met: Met,
        came: bool,
        forgotten: int,
    ) -> None:
        """Keeps a user's vector, unless the user may have been deleted.

        Args:
            kept: Where.
            key: What `user_key` gives.
            vector: Of the user, [V].
            met: Who it is.
            came: Whether the user came, or is only expected.
            forgotten: What it was when the user was read.
        """
        if forgotten == self.forgotten:
            kept.keep_user(key, vector, met, came)
            self._age_later()

    def items_met(self, model: ServedModel) -> Iterator[str]:
        """The items kept of other versions, each once."""
        others = [each.item_ids for _, each in self._others(model)]
        every = _each_once(itertools.chain.from_iterable(others), str)
        return itertools.islice(every, self._max_items)

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

    def _others(self, model: ServedModel) -> list[tuple[_Version, KeptVectors]]:
        """What is kept of other versions, of that asked last first."""
        kept = self.of(model)
        return [
            (version, each)
            for version, each in reversed(self._versions.items())
            if version.model == model.name and each is not kept
        ]

    def forget_users(self) -> None:
        """Drops what is kept of users, as when one of them was deleted."""
        self.forgotten += 1
        for kept in self._versions.values():
            kept.forget_users()

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
