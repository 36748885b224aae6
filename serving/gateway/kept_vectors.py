"""Vectors that one version gave, kept so that the gateway scores by itself.

A score is the dot product of a user's and an item's vector. An item's vector
depends on its id alone, a user's on the weights and features that were sent:
whatever changes is another question, so nothing kept is ever out of date. What
is kept is bounded, whoever asks. Items that the model does not know are not
kept, as there is no end of them; nor is much that is told of one user.
"""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from serving.models.templates import Features

# Users kept at most; half of them may be of an earlier age.
MAX_USERS = 8192
# Of a user of whom more was told, nobody will know who it was.
_MAX_TOLD_BYTES = 1024
_DIGEST_BYTES = 16

Floats = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Met:
    """A user who came, and would be known again under another version.

    Attributes:
        user_id: Whose weights were used; empty for the meta-initialization of
            somebody without a record.
        features: Those that were told.
    """

    user_id: str
    features: Features


@dataclasses.dataclass(eq=False)
class _KeptUser:
    vector: Floats
    met: Met | None
    came: bool


class KeptVectors:
    """The vectors of one version; lives inside one event loop."""

    def __init__(self, length: int, max_items: int) -> None:
        """Keeps nothing yet.

        Args:
            length: Of each vector, V.
            max_items: Items kept at most; the oldest make room.
        """
        # Pages of it take memory once items are written there.
        self._vectors = np.empty((max_items, length), np.float32)
        self._row: dict[str, int] = {}
        self._item_ids: list[str] = []
        self._next_row = 0
        self._users: dict[bytes, _KeptUser] = {}
        self._users_before: dict[bytes, _KeptUser] = {}

    @property
    def item_ids(self) -> list[str]:
        """The items that are kept."""
        return [*self._row]

    def items(self, item_ids: Sequence[str]) -> tuple[Floats, list[int]]:
        """Finds items.

        Args:
            item_ids: Candidates.

        Returns:
            Their vectors, [candidates, V], a copy; and the places of those
            that are not kept, where the vectors mean nothing.
        """
        rows = [self._row.get(item_id, -1) for item_id in item_ids]
        missing: list[int] = []
        if -1 in rows:
            missing = [place for place, row in enumerate(rows) if row < 0]
        return self._vectors.take(rows, axis=0), missing

    def has_item(self, item_id: str) -> bool:
        """Whether an item's vector is kept."""
        return item_id in self._row

    def keep_items(self, item_ids: Sequence[str], vectors: Floats) -> None:
        """Keeps items; those that are kept already stay as they are."""
        for item_id, vector in zip(item_ids, vectors, strict=True):
            if item_id in self._row:
                continue
            row = self._next_row
            if row < len(self._item_ids):
                del self._row[self._item_ids[row]]
                self._item_ids[row] = item_id
            else:
                self._item_ids.append(item_id)
            self._row[item_id] = row
            self._vectors[row] = vector
            self._next_row = (row + 1) % len(self._vectors)

    def has_user(self, key: bytes) -> bool:
        """Whether a user's vector is kept."""
        return key in self._users or key in self._users_before

    def user(self, key: bytes) -> Floats | None:
        """Finds the vector of a user who came.

        Args:
            key: What `user_key` gives.

        Returns:
            float32 [V]; None if it is not kept.
        """
        kept = self._users.get(key)
        if kept is None:
            kept = self._users_before.get(key)
            if kept is None:
                return None
            self._keep_user(key, kept)
        kept.came = True
        return kept.vector

    def keep_user(
        self, key: bytes, vector: Floats, met: Met, came: bool = True
    ) -> None:
        """Keeps a user's vector.

        Args:
            key: What `user_key` gives.
            vector: Of the user, [V].
            met: Who it is.
            came: Whether the user came, or is only expected.
        """
        little = len(repr(met.features)) <= _MAX_TOLD_BYTES
        self._keep_user(key, _KeptUser(vector, met if little else None, came))

    def _keep_user(self, key: bytes, kept: _KeptUser) -> None:
        if len(self._users) >= MAX_USERS // 2:
            self.age_users()
        self._users[key] = kept

    @property
    def users_met(self) -> Iterator[Met]:
        """Who came, the last first; somebody who changed comes repeatedly."""
        for users in (self._users, self._users_before):
            for kept in reversed(users.values()):
                if kept.met is not None and kept.came:
                    yield kept.met

    @property
    def has_users(self) -> bool:
        """Whether any user's vector is kept."""
        return bool(self._users or self._users_before)

    def age_users(self) -> None:
        """Drops users who were not asked for since the last time but one."""
        self._users_before, self._users = self._users, {}

    def forget_users(self) -> None:
        """Drops all users' vectors."""
        self._users, self._users_before = {}, {}


def user_key(weights: Floats, features: Features) -> bytes:
    """Returns what stands for a user: a digest of what the vector is made of.

    Args:
        weights: Adaptive weights, [P].
        features: Those that are known.
    """
    told = repr(sorted(features.items())).encode()
    return hashlib.blake2b(
        weights.tobytes() + told, digest_size=_DIGEST_BYTES
    ).digest()
