"""Versions of meta states that end with the process, as a store in memory."""

import threading

from serving.contract.meta_update import MetaProgress
from serving.online.meta_states import KEPT_RECORDS, MetaStates, Stamp


class MemoryMetaStates(MetaStates):
    """A dictionary; what is in it never changes, so it is its own stamp."""

    def __init__(self) -> None:
        """Starts without records."""
        # In the order in which they were saved.
        self._records: dict[tuple[str, str], MetaProgress] = {}
        self._lock = threading.Lock()

    def known(self) -> list[tuple[str, str]]:  # noqa: D102
        return sorted(self._records)

    def stamp(self, model: str, fingerprint: str) -> Stamp:  # noqa: D102
        return self._records.get((model, fingerprint))

    def load(  # noqa: D102
        self, model: str, fingerprint: str
    ) -> tuple[MetaProgress | None, Stamp]:
        found = self._records.get((model, fingerprint))
        return found, found

    def save(  # noqa: D102
        self,
        model: str,
        fingerprint: str,
        progress: MetaProgress,
        expected: Stamp,
    ) -> Stamp:
        key = (model, fingerprint)
        with self._lock:
            if self._records.get(key) is not expected:
                return None
            self._records.pop(key, None)
            self._records[key] = progress
            saved = [each for each in self._records if each[0] == model]
            for gone in saved[:-KEPT_RECORDS]:
                del self._records[gone]
            return progress

    def close(self) -> None:
        """Keeps them: there is nothing to release."""
