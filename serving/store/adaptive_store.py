"""The contract of a store of adaptive weights."""

import abc
import logging
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TypeVar

from serving.errors import RecordError
from serving.store.record import UserKey, UserRecord

_log = logging.getLogger(__name__)

_Store = TypeVar("_Store", bound="AdaptiveStore")


class AdaptiveStore(abc.ABC):
    """Records by (model, user), written by compare-and-put.

    Two writers of one user lose nothing: a record is stored only if it
    follows the one that is there. `tests/contract/adaptive_store_suite.py`
    holds for every implementation. Methods are safe to call from several
    threads, and raise `StoreError` if the store itself fails.
    """

    @abc.abstractmethod
    def get(self, key: UserKey) -> UserRecord | None:
        """Returns a user's record, or None if there is none.

        Raises:
            RecordError: There is one, but its bytes are damaged.
        """

    def get_many(self, keys: Sequence[UserKey]) -> list[UserRecord | None]:
        """Returns the records in the order of the keys.

        None stands for those that are missing or damaged; `get` tells which.
        """
        return [self._get_or_none(key) for key in keys]

    @abc.abstractmethod
    def compare_and_put(self, record: UserRecord) -> bool:
        """Stores a record durably if it follows the stored one.

        It does if its sequence is one more than the stored record's, where
        a missing or damaged record counts as 0.

        Returns:
            Whether it was stored. If not, another writer was quicker: read,
            learn and try again.

        Raises:
            StoreFullError: There is no room; the old record stays.
        """

    @abc.abstractmethod
    def delete(self, key: UserKey) -> bool:
        """Removes a user's record; returns whether there was one."""

    @abc.abstractmethod
    def iterate(self, model: str) -> Iterator[UserRecord]:
        """Yields a model's records in the order of the users' UTF-8 bytes.

        They are those of one moment. Damaged ones are logged and left out.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases the store. Calling it again does nothing."""

    def __enter__(self: _Store) -> _Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _get_or_none(self, key: UserKey) -> UserRecord | None:
        try:
            return self.get(key)
        except RecordError as error:
            _log.warning("%s", error)
            return None


def stored_sequence(data: bytes | None, key: UserKey) -> int:
    """Returns what the sequence of a record's bytes counts as."""
    if data is None:
        return 0
    try:
        return UserRecord.from_bytes(data, key).sequence
    except RecordError as error:
        _log.warning("%s", error)
        return 0


def decode_all(
    model: str, entries: Iterator[tuple[bytes, bytes]]
) -> Iterator[UserRecord]:
    """Yields the records of stored (key, value) pairs that are whole."""
    for stored_key, data in entries:
        user_id = stored_key.partition(b"\0")[2].decode()
        try:
            yield UserRecord.from_bytes(data, UserKey(model, user_id))
        except RecordError as error:
            _log.warning("%s", error)
