"""Writers that share one sync to disk.

Syncing takes milliseconds. Writers that come while a sync runs are taken
together into the next transaction, and wait for one sync instead of one each
(group commit).
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

_Transaction = TypeVar("_Transaction")
_T = TypeVar("_T")


class Write(Generic[_Transaction, _T]):
    """What one writer wants done, and what came of it.

    Attributes:
        removes: Whether it only removes something.
        done: Whether it is durable, or has failed.
    """

    def __init__(
        self, work: Callable[[_Transaction], _T], removes: bool
    ) -> None:
        self.removes = removes
        self.done = False
        self._work = work
        self._result: _T | None = None
        self._error: Exception | None = None

    def run(self, transaction: _Transaction) -> None:
        """Does the work inside a transaction, perhaps for the second time."""
        self._result = self._work(transaction)

    def finish(self, error: Exception | None = None) -> None:
        """Says that it is durable, or why it will never be."""
        self._error = error
        self.done = True

    def result(self) -> _T:
        """Returns what the work returned, or raises why it failed."""
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]


class GroupCommit(Generic[_Transaction]):
    """Writers of one file; safe to use from several threads."""

    def __init__(
        self, commit: Callable[[Sequence[Write[_Transaction, Any]]], None]
    ) -> None:
        """Sets it up.

        Args:
            commit: Runs some writes in one transaction; durable on return. If
                it raises, nothing of them is stored. Called by one thread at
                a time.
        """
        self._commit = commit
        self._waiting: deque[Write[_Transaction, Any]] = deque()
        self._committing = threading.Lock()

    def write(self, work: Callable[[_Transaction], _T], removes: bool) -> _T:
        """Runs work inside a transaction; durable on return.

        Args:
            work: Called with the transaction, perhaps twice; what it returns
                is returned. If it raises, nothing of it is stored.
            removes: Whether it only removes something.
        """
        write = Write(work, removes)
        self._waiting.append(write)
        with self._committing:
            # Whoever had the lock before may have done our work, too.
            if not write.done:
                self._commit_waiting()
        return write.result()

    def _commit_waiting(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._finish(batch)
        except Exception as error:
            if len(batch) == 1:
                batch[0].finish(error)
                return
            # One of them failed and took the others along: each on its own.
            for write in batch:
                try:
                    self._finish([write])
                except Exception as own_error:
                    write.finish(own_error)

    def _finish(self, batch: Sequence[Write[_Transaction, Any]]) -> None:
        self._commit(batch)
        for write in batch:
            write.finish()
