"""The contract of a store of adaptive weights."""

import abc
import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from serving.errors import DeletedUserError
from serving.store.record import UserKey, UserRecord
from serving.store.tombstone import Tombstone

_Store = TypeVar("_Store", bound="AdaptiveStore")
_BATCH = 512


class AdaptiveStore(abc.ABC):
    """Records by (model, user), written by compare-and-put.

    Two writers of one user lose nothing: a record is stored only if it
    follows the one that is there. A record holds the weights of several
    versions of the model, so that a rollback finds those of the old one.
    `tests/contract/adaptive_store_suite.py` holds for every implementation.
    Methods are safe to call from several threads, and raise `StoreError` if
    the store itself fails.
    """

    @abc.abstractmethod
    def get(self, key: UserKey) -> UserRecord | None:
        """Returns a user's record.

        None if there is none, or if it has expired or was deleted.

        Raises:
            RecordError: There is one, but its bytes are damaged.
        """

    async def aget(
        self, key: UserKey, seconds: float | None = None
    ) -> UserRecord | None:
        """Like `get`, from an event loop that must not wait.

        Stores that ask a disk or a server override it.

        Args:
            key: The user.
            seconds: How long the caller can wait; as long as the store may
                take if None.
        """
        del seconds
        return self.get(key)

    @abc.abstractmethod
    def get_many(self, keys: Sequence[UserKey]) -> list[UserRecord | None]:
        """Returns the records in the order of the keys, in one go.

        None stands for those that are missing or damaged; `get` tells which.
        """

    async def aget_many(
        self, keys: Sequence[UserKey]
    ) -> list[UserRecord | None]:
        """Like `get_many`, without holding up the event loop."""
        return await asyncio.to_thread(self.get_many, keys)

    @abc.abstractmethod
    def compare_and_put_many(
        self, records: Sequence[UserRecord]
    ) -> list[bool | DeletedUserError]:
        """Stores records as `compare_and_put` does, and syncs only once.

        The users are independent of each other: one may be refused, another
        stored. All of them are durable on return.

        Returns:
            For each record whether it was stored, or that the user was
            deleted, in the order of the records.

        Raises:
            StoreFullError: There is no room. Records that were stored all
                the same are told from the others by reading them.
            RecordError: One of the records can't be stored; none is.
        """

    def compare_and_put(self, record: UserRecord) -> bool:
        """Stores a record durably if it follows the stored one.

        It does if its sequence is one more than the stored record's, where a
        missing, expired or damaged record counts as 0.

        Returns:
            Whether it was stored. If not, another writer was quicker: read,
            learn and try again.

        Raises:
            DeletedUserError: The user was deleted; late events are refused
                until the tombstone expires.
            RecordError: The record can't be stored.
            StoreFullError: There is no room; the old record stays.
        """
        (stored,) = self.compare_and_put_many((record,))
        if isinstance(stored, DeletedUserError):
            raise stored
        return stored

    @abc.abstractmethod
    def delete(self, key: UserKey) -> tuple[bool, Tombstone]:
        """Removes a user's record durably and leaves a tombstone.

        Deleting again renews the tombstone.

        Returns:
            Whether there was a record, and the tombstone for the receipt.
        """

    @abc.abstractmethod
    def tombstone(self, key: UserKey) -> Tombstone | None:
        """Returns the tombstone of a deleted user until it expires."""

    @abc.abstractmethod
    def iterate(self, model: str) -> Iterator[UserRecord]:
        """Yields a model's records, in no particular order.

        One that is written meanwhile comes as it was before or after.
        Damaged ones are logged and left out, as are those expired.
        """

    def retire(self, model: str, fingerprint: bytes) -> int:
        """Drops the weights learned for a fixed part that is not served.

        What else is kept of the users stays. A gateway that still learns for
        that fixed part may bring weights back.

        Args:
            model: Name the model is served under.
            fingerprint: `fingerprint_digest` of the fixed part.

        Returns:
            How many users had such weights.
        """
        retired = 0
        for batch in _batches(_without(fingerprint, self.iterate(model))):
            retired += len(batch)
            while batch:
                results = self.compare_and_put_many(batch)
                # Another writer was quicker with these: take what it wrote.
                late = self.get_many(
                    [
                        record.key
                        for record, stored in zip(batch, results, strict=True)
                        if stored is False
                    ]
                )
                batch = list(_without(fingerprint, late))
        return retired

    def purge(self) -> int:
        """Frees the room of what has expired; returns how much was removed.

        Reads never see it anyway.
        """
        return sum(self.purge_steps())

    @abc.abstractmethod
    def purge_steps(self) -> Iterator[int]:
        """Purges in short steps; yields how much each has removed.

        Whoever shares the store with others may wait between them, or leave
        the rest. Servers that expire by themselves have nothing to do.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the store. Calling it again does nothing."""

    def __enter__(self: _Store) -> _Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _without(
    fingerprint: bytes, records: Iterable[UserRecord | None]
) -> Iterator[UserRecord]:
    """Yields the records that had weights for a fixed part without them."""
    for record in records:
        shortened = None if record is None else record.without(fingerprint)
        if shortened is not None:
            yield shortened


def _batches(records: Iterable[UserRecord]) -> Iterator[list[UserRecord]]:
    records = iter(records)
    while batch := list(itertools.islice(records, _BATCH)):
        yield batch
