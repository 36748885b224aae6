"""Where versions of meta states are kept: a small JSON record per fixed part.

Several processes may share them, and a person may roll back while gateways
run: who saves says what the record was when it was loaded, and is refused if
that is not so any more. So of those who learn at the same time one wins, and
the others go on from what it came to.
"""

import abc
import json
import logging
from collections.abc import Hashable

from serving.contract.errors import MetaStateError
from serving.contract.meta_update import MetaProgress

_log = logging.getLogger(__name__)

# What tells one content of a record from the next. None: there is no record.
Stamp = Hashable | None

# Of a model, those that were saved last. A rollback needs those of the
# versions that are still pushed, two unless the pusher is told otherwise.
KEPT_RECORDS = 16


class MetaStates(abc.ABC):
    """The contract; safe to use from several threads."""

    @abc.abstractmethod
    def known(self) -> list[tuple[str, str]]:
        """Returns models and fingerprints that there are records of, sorted.

        Raises:
            StoreError: They can't be read.
        """

    @abc.abstractmethod
    def stamp(self, model: str, fingerprint: str) -> Stamp:
        """Returns what a record's content can be told by, at little cost.

        Raises:
            StoreError: It can't be read.
        """

    @abc.abstractmethod
    def load(
        self, model: str, fingerprint: str
    ) -> tuple[MetaProgress | None, Stamp]:
        """Reads a record; None if there is none, or none that can be used.

        Raises:
            StoreError: It can't be read.
        """

    @abc.abstractmethod
    def save(
        self,
        model: str,
        fingerprint: str,
        progress: MetaProgress,
        expected: Stamp,
    ) -> Stamp:
        """Replaces a record durably, if it is still as it was loaded.

        Of the model's other records those go that are not among the
        `KEPT_RECORDS` saved last: every fixed part that was pushed has one.

        Args:
            model: Name of the model.
            fingerprint: Of the fixed part.
            progress: What to keep.
            expected: Stamp of what this progress goes on from.

        Returns:
            The new stamp; None if somebody else was quicker, and nothing was
            written.

        Raises:
            StoreError: It can't be written.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Releases what is held. Calling it again does nothing."""


def roll_back(
    states: MetaStates, model: str, fingerprint: str, version: int
) -> MetaProgress:
    """Makes an earlier version of a meta state the one that is served.

    Gateways that share the records notice at their next look at them.

    Args:
        states: Where it is kept.
        model: Name of the model.
        fingerprint: Of the fixed part.
        version: A version in the record's history, or the exported one.

    Returns:
        The progress after it.

    Raises:
        MetaStateError: There is no such version.
        StoreError: The record can't be read or written.
    """
    while True:
        progress, stamp = states.load(model, fingerprint)
        if progress is None:
            raise MetaStateError(
                f"No meta state of model {model!r} and fingerprint "
                f"{fingerprint} is kept; there is nothing to roll back."
            )
        progress = progress.roll_back(version)
        if states.save(model, fingerprint, progress, stamp) is not None:
            return progress


def encode_progress(progress: MetaProgress) -> bytes:
    """Returns a record's bytes."""
    return json.dumps(progress.to_dict()).encode()


def decode_progress(data: bytes, where: str) -> MetaProgress | None:
    """Reads what `encode_progress` made; None if it is damaged.

    Args:
        data: The bytes.
        where: What to call them in the log.
    """
    try:
        return MetaProgress.from_dict(json.loads(data))
    except (MetaStateError, ValueError) as error:
        _log.error(
            "%s is not used: %s. The exported meta state is served; the next "
            "promoted one replaces it.",
            where,
            error,
        )
        return None
