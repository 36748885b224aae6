"""The embedded durable store: one LMDB environment on a local disk.

A put returns after it is synced to disk. Readers of other processes may have
the same folder open; there is no server.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.errors import DeletedUserError, StoreError, StoreFullError
from serving.in_parts import in_parts
from serving.lmdb_file import DEFAULT_MAP_BYTES, LmdbFile, Transaction
from serving.store.adaptive_store import AdaptiveStore
from serving.store.page_cache import PageCache
from serving.store.read_batcher import ReadBatcher
from serving.store.record import UserKey, UserRecord
from serving.store.record_bytes import encode_record
from serving.store.stored_value import (
    has_expired,
    live_or_none,
    live_record,
    may_follow,
)
from serving.store.tombstone import Retention, Tombstone

# A read takes microseconds, or milliseconds if its page is on the disk only.
_READ_SECONDS = 1.0
# So many records are read and decoded in a fraction of a millisecond.
_FEW = 8
# Entries of one short transaction: one that stays open keeps LMDB from using
# room again.
_CHUNK = 256


class LmdbStore(AdaptiveStore):
    """Keeps the records in an LMDB folder.

    Not to be used across `fork()`: open it in the process that uses it, once.
    """

    def __init__(
        self,
        path: str | Path,
        map_bytes: int = DEFAULT_MAP_BYTES,
        retention: Retention | None = None,
    ) -> None:
        """Opens the folder, or creates it.

        Args:
            path: Folder on a local disk; LMDB does not work on network disks.
            map_bytes: The most that the file may grow to.
            retention: How long records and tombstones are kept.

        Raises:
            StoreError: It can't be opened.
        """
        self._retention = retention or Retention()
        self._file = LmdbFile(path, map_bytes, 0, _failed, _full)
        self._batcher = ReadBatcher(self._read, _READ_SECONDS)
        self._page_cache = PageCache(self._file.data_path)

    def get(self, key: UserKey) -> UserRecord | None:  # noqa: D102
        with self._file.reading() as transaction:
            data = transaction.get(key.to_bytes())
        return live_record(data, key, self._retention)

    async def aget(
        self, key: UserKey, seconds: float | None = None
    ) -> UserRecord | None:
        """Like `get`; read in the event loop while all is in memory.

        Else in a thread: a disk that hangs then holds no loop up. What can
        hold it up is a page that the kernel dropped since the last look, two
        seconds ago at the most, on a disk that hangs at that moment: the loop
        stands still until the page is there.
        """
        if self._is_in_memory:
            return self.get(key)
        data = await self._batcher.get(key.to_bytes(), seconds)
        return live_record(data, key, self._retention)

    @property
    def _is_in_memory(self) -> bool:
        """Whether a read waits for no disk, as of the last look."""
        return self._page_cache.has_all

    def get_many(  # noqa: D102
        self, keys: Sequence[UserKey]
    ) -> list[UserRecord | None]:
        found = self._read([key.to_bytes() for key in keys])
        return [
            live_or_none(data, key, self._retention)
            for key, data in zip(keys, found, strict=True)
        ]

    async def aget_many(
        self, keys: Sequence[UserKey]
    ) -> list[UserRecord | None]:
        """Like `get_many`; where a few are read, see `aget`."""
        if len(keys) <= _FEW and self._is_in_memory:
            return self.get_many(keys)
        return await super().aget_many(keys)

    def compare_and_put_many(  # noqa: D102
        self, records: Sequence[UserRecord]
    ) -> list[bool | DeletedUserError]:
        encoded = [(r.key.to_bytes(), r, encode_record(r)) for r in records]

        def put(
            transaction: Transaction,
        ) -> list[bool | DeletedUserError]:
            results = []
            for key, record, data in encoded:
                follows = may_follow(
                    record, transaction.get(key), self._retention
                )
                results.append(follows)
                if follows is True:
                    transaction.put(key, data)
            return results

        return self._file.write(put)

    def _read(self, keys: Sequence[bytes]) -> list[bytes | None]:
        with self._file.reading() as transaction:
            return [transaction.get(key) for key in keys]

    def delete(self, key: UserKey) -> tuple[bool, Tombstone]:  # noqa: D102
        tombstone = Tombstone.now(self._retention)

        def delete(transaction: Transaction) -> bytes | None:
            # Only what is removed lets LMDB join pages that are nearly empty;
            # what is replaced by something shorter does not.
            data = transaction.pop(key.to_bytes())
            transaction.put(key.to_bytes(), tombstone.to_bytes())
            return data

        data = self._file.write(delete, removes=True)
        return live_or_none(data, key, self._retention) is not None, tombstone

    def tombstone(self, key: UserKey) -> Tombstone | None:  # noqa: D102
        with self._file.reading() as transaction:
            return Tombstone.live(transaction.get(key.to_bytes()))

    def iterate(self, model: str) -> Iterator[UserRecord]:  # noqa: D102
        for stored, data in self._entries(UserKey(model, "").to_bytes()):
            key = UserKey.from_bytes(stored)
            record = live_or_none(data, key, self._retention)
            if record is not None:
                yield record

    def purge_steps(self) -> Iterator[int]:  # noqa: D102
        for chunk in self._chunks(b""):
            expired = [
                stored
                for stored, data in chunk
                if has_expired(
                    data, UserKey.from_bytes(stored), self._retention
                )
            ]
            yield in_parts(self._remove, expired, StoreFullError)

    def _remove(self, batch: Sequence[bytes]) -> int:
        """Removes entries unless they were written again since."""

        def remove(transaction: Transaction) -> int:
            removed = 0
            for stored in batch:
                data = transaction.get(stored)
                key = UserKey.from_bytes(stored)
                if data is not None and has_expired(data, key, self._retention):
                    removed += transaction.delete(stored)
            return removed

        return self._file.write(remove, removes=True) if batch else 0

    def _entries(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for chunk in self._chunks(prefix):
            for key, data in chunk:
                if not key.startswith(prefix):
                    return
                yield key, data

    def _chunks(self, start: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
        """Yields entries from a key on, each chunk as it is at its moment."""
        while True:
            with self._file.reading() as transaction:
                cursor = transaction.cursor()
                found = cursor.set_range(start)
                chunk = list(itertools.islice(cursor, _CHUNK)) if found else []
            if not chunk:
                return
            yield chunk
            start = chunk[-1][0] + b"\0"

    def close(self) -> None:  # noqa: D102
        self._page_cache.close()
        self._batcher.close()
        self._file.close()


def _failed(what: str) -> StoreError:
    return StoreError(f"The store {what}")


def _full(what: str) -> StoreFullError:
    return StoreFullError(
        f"The store {what}. Users' weights are still read, but not updated. "
        "Give it more with --store-map-bytes or free some disk."
    )
