"""A store in memory: for tests, and to try things out. Not durable."""

import threading
from collections.abc import Iterator, Sequence

from serving.errors import DeletedUserError, StoreError
from serving.store.adaptive_store import AdaptiveStore
from serving.store.record import UserKey, UserRecord
from serving.store.record_bytes import encode_record
from serving.store.stored_value import (
    has_expired,
    live_or_none,
    live_record,
    may_follow,
)
from serving.store.tombstone import Retention, Tombstone


class MemoryStore(AdaptiveStore):
    """Keeps the encoded records in a dictionary."""

    def __init__(self, retention: Retention | None = None) -> None:
        self._retention = retention or Retention()
        self._lock = threading.Lock()
        self._data: dict[bytes, bytes] | None = {}

    @property
    def _entries(self) -> dict[bytes, bytes]:
        if self._data is None:
            raise StoreError("The store is closed; open a new one.")
        return self._data

    def get(self, key: UserKey) -> UserRecord | None:  # noqa: D102
        data = self._entries.get(key.to_bytes())
        return live_record(data, key, self._retention)

    def get_many(  # noqa: D102
        self, keys: Sequence[UserKey]
    ) -> list[UserRecord | None]:
        entries = self._entries
        return [
            live_or_none(entries.get(key.to_bytes()), key, self._retention)
            for key in keys
        ]

    def compare_and_put_many(  # noqa: D102
        self, records: Sequence[UserRecord]
    ) -> list[bool | DeletedUserError]:
        encoded = [(r.key.to_bytes(), r, encode_record(r)) for r in records]
        results = []
        with self._lock:
            for key, record, data in encoded:
                follows = may_follow(
                    record, self._entries.get(key), self._retention
                )
                results.append(follows)
                if follows is True:
                    self._entries[key] = data
        return results

    def delete(self, key: UserKey) -> tuple[bool, Tombstone]:  # noqa: D102
        tombstone = Tombstone.now(self._retention)
        stored = key.to_bytes()
        with self._lock:
            data = self._entries.get(stored)
            self._entries[stored] = tombstone.to_bytes()
        return live_or_none(data, key, self._retention) is not None, tombstone

    def tombstone(self, key: UserKey) -> Tombstone | None:  # noqa: D102
        return Tombstone.live(self._entries.get(key.to_bytes()))

    def iterate(self, model: str) -> Iterator[UserRecord]:  # noqa: D102
        prefix = UserKey(model, "").to_bytes()
        with self._lock:
            entries = list(self._entries.items())
        for stored, data in entries:
            if stored.startswith(prefix):
                key = UserKey.from_bytes(stored)
                record = live_or_none(data, key, self._retention)
                if record is not None:
                    yield record

    def purge_steps(self) -> Iterator[int]:  # noqa: D102
        with self._lock:
            expired = [
                key
                for key, data in self._entries.items()
                if has_expired(data, UserKey.from_bytes(key), self._retention)
            ]
            for key in expired:
                del self._entries[key]
        yield len(expired)

    def close(self) -> None:  # noqa: D102
        self._data = None
