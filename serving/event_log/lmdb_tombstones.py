"""Who was deleted from an LMDB log, and when they may come back."""

import itertools
from collections.abc import Sequence

from serving.lmdb_file import LmdbFile, Transaction
from serving.store.record import UserKey
from serving.store.tombstone import Tombstone


class LmdbTombstones:
    """A database, digest of the user -> tombstone."""

    def __init__(self, file: LmdbFile) -> None:
        self._deleted = file.database("deleted")

    def put(
        self, transaction: Transaction, key: UserKey, tombstone: Tombstone
    ) -> None:
        """Lets no more in of a user."""
        transaction.put(key.digest, tombstone.to_bytes(), db=self._deleted)

    def hold(self, transaction: Transaction, key: UserKey) -> bool:
        """Whether nothing of a user is taken in."""
        data = transaction.get(key.digest, db=self._deleted)
        return Tombstone.live(data) is not None

    def chunk(
        self, transaction: Transaction, start: bytes, most: int
    ) -> list[tuple[bytes, bool]]:
        """Returns digests of deleted users, and whether they may come back.

        Args:
            transaction: Any transaction.
            start: The first digest to look at.
            most: How many to look at.
        """
        cursor = transaction.cursor(db=self._deleted)
        if not cursor.set_range(start):
            return []
        return [
            (owner, Tombstone.live(data) is None)
            for owner, data in itertools.islice(cursor, most)
        ]

    def forget(self, transaction: Transaction, owners: Sequence[bytes]) -> int:
        """Removes those tombstones of some users that have expired.

        Returns:
            How many it looked at.
        """
        for owner in owners:
            data = transaction.get(owner, db=self._deleted)
            if data is not None and Tombstone.live(data) is None:
                transaction.delete(owner, db=self._deleted)
        return len(owners)
