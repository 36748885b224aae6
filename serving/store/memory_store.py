"""A store in memory: for tests, and to try things out. Not durable."""

import threading
from collections.abc import Iterator

from serving.errors import StoreError
from serving.store.adaptive_store import (
    AdaptiveStore,
    decode_all,
    stored_sequence,
)
from serving.store.record import UserKey, UserRecord


class MemoryStore(AdaptiveStore):
    """Keeps the encoded records in a dictionary."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._data: dict[bytes, bytes] | None = {}

    @property
    def _entries(self) -> dict[bytes, bytes]:
        if self._data is None:
            raise StoreError("The store is closed; open a new one.")
        return self._data

    def get(self, key: UserKey) -> UserRecord | None:  # noqa: D102
        data = self._entries.get(key.to_bytes())
        return None if data is None else UserRecord.from_bytes(data, key)

    def compare_and_put(self, record: UserRecord) -> bool:  # noqa: D102
        key = record.key.to_bytes()
        data = record.to_bytes()
        with self._lock:
            stored = stored_sequence(self._entries.get(key), record.key)
            if record.sequence != stored + 1:
                return False
            self._entries[key] = data
            return True

    def delete(self, key: UserKey) -> bool:  # noqa: D102
        with self._lock:
            return self._entries.pop(key.to_bytes(), None) is not None

    def iterate(self, model: str) -> Iterator[UserRecord]:  # noqa: D102
        prefix = UserKey(model, "").to_bytes()
        with self._lock:
            entries = sorted(self._entries.items())
        return decode_all(
            model, (entry for entry in entries if entry[0].startswith(prefix))
        )

    def close(self) -> None:  # noqa: D102
        self._data = None
