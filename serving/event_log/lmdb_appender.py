"""Appends to an LMDB event log: makes room, and leaves out what is known."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from serving.errors import LogFullError
from serving.event_log.entry import Submission
from serving.event_log.event_log import Appended, LogConfig
from serving.event_log.lmdb_entries import LmdbEntries
from serving.event_log.lmdb_tombstones import LmdbTombstones
from serving.event_log.seen_ids import SeenIds, is_new
from serving.lmdb_file import LmdbFile, Transaction
from serving.store.tombstone import deleted

# What `append` returns for a submission, and the position of the user's entry
# before it; None if there is none, or if it is learned.
Stored = tuple[Appended, bytes | None]


class LmdbAppender:
    """Takes submissions in."""

    def __init__(
        self,
        file: LmdbFile,
        entries: LmdbEntries,
        tombstones: LmdbTombstones,
        config: LogConfig,
    ) -> None:
        """Opens the databases of event ids.

        Args:
            file: Where they are.
            entries: Where submissions go.
            tombstones: Of whom nothing is taken in.
            config: How much the log holds, and for how long.
        """
        self._entries = entries
        self._tombstones = tombstones
        self._most = config.max_entries
        self._seen = SeenIds(file, config.dedup_seconds)

    def append(
        self, transaction: Transaction, submissions: Sequence[Submission]
    ) -> list[Stored]:
        """Stores submissions without the events that are known.

        Args:
            transaction: A write transaction.
            submissions: What users did.

        Returns:
            What became of each submission, in their order.

        Raises:
            LogFullError: The log takes in no more.
        """
        self._make_room(transaction, len(submissions))
        parts = self._seen.live_parts(transaction)
        return [
            self._append_one(transaction, submission, parts)
            for submission in submissions
        ]

    def _make_room(self, transaction: Transaction, num_entries: int) -> None:
        """Drops the oldest learned entries if there would be too many."""
        held, unlearned = self._entries.counts(transaction)
        excess = held + num_entries - self._most
        if excess > held - unlearned:
            raise LogFullError(
                f"The event log holds {held} entries, {unlearned} of them not "
                f"learned from yet, and takes in no more than {self._most}. "
                "Send the events again later; if it stays so, see that the "
                "online stage runs and keeps up."
            )
        if excess > 0:
            self._entries.drop_learned(transaction, excess)

    def _append_one(
        self, transaction: Transaction, submission: Submission, parts: list[Any]
    ) -> Stored:
        key = submission.key
        if self._tombstones.hold(transaction, key):
            return deleted(key), None
        new = tuple(
            event
            for event in submission.events
            if is_new(transaction, parts, event.hash(key))
        )
        if not new:
            return None, None
        earlier = self._entries.newest_waiting(transaction, key)
        kept = dataclasses.replace(submission, events=new)
        return self._entries.put(transaction, kept), earlier
