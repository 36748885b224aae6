"""The embedded durable store: one LMDB environment on a local disk.

A put is one transaction and returns after it is synced to disk. Readers of
other processes may have the same folder open; there is no server.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import lmdb

from serving.errors import StoreError, StoreFullError
from serving.store.adaptive_store import (
    AdaptiveStore,
    decode_all,
    stored_sequence,
)
from serving.store.record import UserKey, UserRecord

# Address space, not disk: the file grows as records come.
DEFAULT_MAP_BYTES = 64 << 30


class LmdbStore(AdaptiveStore):
    """Keeps the records in an LMDB folder.

    Not to be used across `fork()`: open it in the process that uses it, once.
    """

    def __init__(
        self, path: str | Path, map_bytes: int = DEFAULT_MAP_BYTES
    ) -> None:
        """Opens the folder, or creates it.

        Args:
            path: Folder on a local disk; LMDB does not work on network disks.
            map_bytes: The most that the file may grow to.

        Raises:
            StoreError: It can't be opened.
        """
        self._path = Path(path)
        self._map_bytes = map_bytes
        with self._translated():
            self._path.mkdir(parents=True, exist_ok=True)
            # No write map: a stray write of ours must not reach the file.
            self._env = lmdb.open(
                str(self._path),
                map_size=map_bytes,
                max_readers=1024,
                sync=True,
                metasync=True,
                writemap=False,
                readahead=False,
            )
            # Slots of readers that were killed would fill the table up.
            self._env.reader_check()

    def get(self, key: UserKey) -> UserRecord | None:  # noqa: D102
        with self._translated(), self._env.begin() as transaction:
            data = transaction.get(key.to_bytes())
        return None if data is None else UserRecord.from_bytes(data, key)

    def compare_and_put(self, record: UserRecord) -> bool:  # noqa: D102
        key = record.key.to_bytes()
        data = record.to_bytes()
        with (
            self._translated(),
            self._env.begin(write=True) as transaction,
        ):
            stored = stored_sequence(transaction.get(key), record.key)
            if record.sequence != stored + 1:
                return False
            return bool(transaction.put(key, data))

    def delete(self, key: UserKey) -> bool:  # noqa: D102
        with (
            self._translated(),
            self._env.begin(write=True) as transaction,
        ):
            return bool(transaction.delete(key.to_bytes()))

    def iterate(self, model: str) -> Iterator[UserRecord]:  # noqa: D102
        return decode_all(model, self._entries(UserKey(model, "").to_bytes()))

    def _entries(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        with self._translated(), self._env.begin() as transaction:
            cursor = transaction.cursor()
            if not cursor.set_range(prefix):
                return
            for key, data in cursor:
                if not key.startswith(prefix):
                    return
                yield key, data

    def close(self) -> None:  # noqa: D102
        self._env.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns LMDB's errors into ours."""
        try:
            yield
        except (lmdb.MapFullError, lmdb.DiskError) as error:
            raise StoreFullError(
                f"The store {self._path} is full ({self._map_bytes} bytes at "
                "most, and what the disk has left). Users' weights are still "
                "read, but not updated. Give it more with --store-map-bytes "
                "or free some disk."
            ) from error
        except lmdb.Error as error:
            raise StoreError(
                f"The store {self._path} failed: {error}. See that the folder "
                "is on a local disk, may be written, and holds an LMDB store."
            ) from error
        except OSError as error:
            raise StoreError(
                f"The store {self._path} can't be opened: {error.strerror}."
            ) from error
