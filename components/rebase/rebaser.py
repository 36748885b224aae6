"""Learns known users again for another version of their model.

The store may be in use meanwhile: what somebody else wrote is read and
learned from again, who was deleted stays deleted, and a user whose weights
rest on all events is left alone, so that a second run finds only who is new.
"""

import collections
import dataclasses
import functools
import itertools
import os
import weakref
from collections.abc import Iterator, Sequence

import numpy as np

from components.served_model import (
    ServedModel,
    adapt_inputs,
    feature_inputs,
)
from serving.contract.guard import Adapted, Guard
from serving.contract.manifest import AdaptiveManifest
from serving.errors import DeletedUserError
from serving.event_log.config import open_event_log
from serving.event_log.event_log import EventLog, LogConfig
from serving.lmdb_file import SAME_MAP_BYTES
from serving.online.relearning import Relearning, is_behind
from serving.online.told import decode_told, known_features
from serving.store import AdaptiveStore, UserKey, UserRecord
from serving.store.config import StoreConfig, open_store

# What becomes of a user.
KNOWN = "known"  # in the store when it was looked through
REBASED = "rebased"
CURRENT = "current"  # learned by somebody else meanwhile
GONE = "gone"  # deleted or expired meanwhile
NO_EVENTS = "no_events"  # nothing is kept to learn from
REFUSED = "refused"  # the inner loop gave weights that can't be stored
BUSY = "busy"  # written by others again and again

# One call of `adapt` for this many users: at 192 events each some 4 MB.
USERS_PER_CALL = 256
MAX_ATTEMPTS = 10

Counts = collections.Counter[str]


@dataclasses.dataclass(frozen=True)
class RebaseConfig:
    """What is learned for, and where the users are.

    Attributes:
        model_dir: The SavedModel's folder.
        model_name: Name it is served under, hence that of the records.
        store: Where users' weights are; variables of the environment are
            put in for `$NAME`, so that a password need not be written down.
        log: How the event log beside it was opened.
    """

    model_dir: str
    model_name: str
    store: StoreConfig
    log: LogConfig = dataclasses.field(default_factory=LogConfig)


class Rebaser:
    """Learns batches of users again; closes the store when it is dropped."""

    def __init__(self, config: RebaseConfig) -> None:
        """Opens store and log; the model is loaded when it is first needed.

        Args:
            config: What is learned for, and where the users are.

        Raises:
            ManifestError: The model's manifest is absent or wrong.
            ServingError: Store or log can't be opened.
        """
        self._config = config
        self._manifest = AdaptiveManifest.load(config.model_dir)
        # Gateways may have the folders open.
        store = dataclasses.replace(
            _expanded(config.store), map_bytes=SAME_MAP_BYTES
        )
        log = dataclasses.replace(config.log, map_bytes=SAME_MAP_BYTES)
        self._store: AdaptiveStore = open_store(store)
        self._closing = [weakref.finalize(self, self._store.close)]
        self._log: EventLog = open_event_log(store, log)
        self._closing.append(weakref.finalize(self, self._log.close))

    def close(self) -> None:
        """Releases store and log."""
        for close in self._closing:
            close()

    @functools.cached_property
    def _model(self) -> ServedModel:
        return ServedModel.load(self._config.model_dir)

    def batches(self, counts: Counts) -> Iterator[list[str]]:
        """Looks through the store for users to learn.

        Args:
            counts: Counts the users that are looked at.

        Yields:
            Ids of users whose weights are missing or rest on fewer events
            than were seen, at most `USERS_PER_CALL` at a time.
        """
        behind = self._behind(counts)
        while batch := list(itertools.islice(behind, USERS_PER_CALL)):
            yield batch

    def _behind(self, counts: Counts) -> Iterator[str]:
        for record in self._store.iterate(self._config.model_name):
            counts[KNOWN] += 1
            if is_behind(record, self._manifest):
                yield record.key.user_id

    def rebase(self, user_ids: Sequence[str]) -> Counts:
        """Learns users again and stores the outcome durably.

        Args:
            user_ids: A batch of users, none of them twice.

        Returns:
            How many of them came to what.

        Raises:
            StoreError: The store failed.
        """
        counts = Counts()
        keys = [UserKey(self._config.model_name, id_) for id_ in user_ids]
        for _ in range(MAX_ATTEMPTS):
            keys = self._attempt(keys, counts)
            if not keys:
                return counts
        counts[BUSY] += len(keys)
        return counts

    def _attempt(
        self, keys: Sequence[UserKey], counts: Counts
    ) -> list[UserKey]:
        """Learns users once; returns those that others were quicker with."""
        tasks = []
        for record in self._store.get_many(keys):
            if record is None:
                counts[GONE] += 1
            elif not is_behind(record, self._manifest):
                counts[CURRENT] += 1
            elif (task := self._task(record)) is not None:
                tasks.append(task)
            else:
                counts[NO_EVENTS] += 1
        records = self._learn(tasks)
        counts[REFUSED] += len(tasks) - len(records)
        again = []
        for record, stored in zip(
            records, self._store.compare_and_put_many(records), strict=True
        ):
            if isinstance(stored, DeletedUserError):
                counts[GONE] += 1
            elif stored:
                counts[REBASED] += 1
            else:
                again.append(record.key)
        return again

    def _task(self, record: UserRecord) -> Relearning | None:
        return Relearning.of(
            record,
            self._manifest,
            self._manifest.meta_state.meta_init,
            self._log.events_of(record.key),
        )

    def _learn(self, tasks: Sequence[Relearning]) -> list[UserRecord]:
        """Runs the inner loop of a batch, guarded as the online stage's.

        Who learned nothing that can be stored is left out.
        """
        if not tasks:
            return []
        declared = {f.name: f for f in self._manifest.user_features}
        told = [
            known_features(decode_told(task.record.features), declared)
            for task in tasks
        ]
        starts = np.stack([task.start for task in tasks])
        meta_state = self._manifest.meta_state
        outputs = self._model.call(
            "adapt",
            adapt_inputs(
                feature_inputs(self._manifest.user_features, told),
                [task.support for task in tasks],
                starts,
                meta_state,
            ),
        )
        adapted = Adapted(
            outputs["adaptive_weights"],
            outputs["loss_before"],
            outputs["loss_after"],
        )
        guard = Guard.of(self._manifest.inner_loop, len(meta_state.meta_init))
        checked = guard.check(starts, adapted, meta_state.meta_init)
        learned = map(
            Relearning.learned, tasks, checked.weights, checked.finite
        )
        return [record for record in learned if record is not None]


def _expanded(store: StoreConfig) -> StoreConfig:
    """Puts variables of the environment into the location of a store."""
    if store.location is None:
        return store
    return dataclasses.replace(
        store, location=os.path.expandvars(store.location)
    )
