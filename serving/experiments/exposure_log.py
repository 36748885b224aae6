"""Writes down what users were shown and what they made of it.

JSON lines, appended; one file per process and day, so that nobody writes
into another's and old ones can be removed as a whole:

    {"kind": "exposure", "ms": 1700000000000.125, "experiment": "freeze",
     "arm": "control", "user": "9f86d081884c7d65", "model": "adaptower",
     "version": 3, "items": ["12", "7"], "scores": [1.5, -0.25]}
    {"kind": "outcome", "ms": ..., "user": ..., "event": "5c3a", "item": "12",
     "label": 1.0}
    {"kind": "forget", "ms": ..., "user": ...}

Users are named by a keyed hash: enough to join, and no id to leak. A user who
is deleted is forgotten: reports leave out what came before, and purging
removes it for good.

Moments are milliseconds with three digits more: what a program makes of an
answer comes back within the same millisecond.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import LaunchError
from serving.experiments.assignment import Assignment

# Of long lists, the best: what a user can have seen.
MAX_ITEMS = 100
FILE_PATTERN = "*.jsonl"

_KEY_BYTES = 32
_USER_BYTES = 8
_EVENT_BYTES = 4
_SCORE_DIGITS = 6
_MS_PER_DAY = 86_400_000

_log = logging.getLogger(__name__)


class Pseudonyms:
    """Names users so that only holders of the log's key can tell who it is."""

    def __init__(self, key: Path) -> None:
        """Reads the key from its file; makes one if there is none.

        Raises:
            OSError: The file can't be read or made.
            ValueError: It holds no key.
        """
        self._key = _read_or_make_key(key)

    def of(self, user_id: str) -> str:
        """Returns a user's name in the log."""
        return hashlib.blake2b(
            user_id.encode(), digest_size=_USER_BYTES, key=self._key
        ).hexdigest()


class ExposureLog:
    """Appends to one file per day; lives inside one event loop.

    What can't be written is lost, logged once, and hurts no answer.
    """

    def __init__(
        self,
        folder: Path,
        key: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the log.

        Args:
            folder: Of the log's files; made if it is not there.
            key: File with the key that users are named by.
            clock: Seconds since 1970.

        Raises:
            LaunchError: The folder can't be written to, or the key not read.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._pseudonyms = Pseudonyms(key)
        except (OSError, ValueError) as error:
            raise LaunchError(f"Can't log exposures: {error}") from error
        self._folder = folder
        self._clock = clock
        self._process = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._file: io.FileIO | None = None
        self._day = -1
        self._failing = False

    def exposure(
        self,
        place: Assignment,
        user_id: str,
        model: str,
        version: int,
        item_ids: Sequence[str],
        scores: NDArray[np.floating[Any]],
    ) -> None:
        """Notes that a user was shown items (or would have been).

        Args:
            place: Experiment and arm.
            user_id: The user.
            model: The model that scored them.
            version: Its version.
            item_ids: The items.
            scores: Their scores, shape [items].
        """
        best = np.argsort(-scores, kind="stable")[:MAX_ITEMS]
        self._write(
            kind="exposure",
            experiment=place.experiment.name,
            arm=place.arm.name,
            user=self._pseudonyms.of(user_id),
            model=model,
            version=version,
            items=[item_ids[index] for index in best.tolist()],
            scores=scores[best].astype(float).round(_SCORE_DIGITS).tolist(),
        )

    def outcome(
        self, user_id: str, event_id: str, item_id: str, label: float
    ) -> None:
        """Notes what a user made of an item."""
        event = hashlib.blake2b(event_id.encode(), digest_size=_EVENT_BYTES)
        self._write(
            kind="outcome",
            user=self._pseudonyms.of(user_id),
            event=event.hexdigest(),
            item=item_id,
            label=label,
        )

    def forget(self, user_id: str) -> None:
        """Has reports leave out all that was noted of a user so far."""
        self._write(kind="forget", user=self._pseudonyms.of(user_id))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, **line: Any) -> None:
        ms = round(self._clock() * 1000, 3)
        data = json.dumps({"ms": ms, **line}, separators=(",", ":"))
        try:
            # One write of a whole line: a kill cuts off the last, at most.
            self._file_of(int(ms // _MS_PER_DAY)).write(f"{data}\n".encode())
            self._failing = False
        except OSError as error:
            if not self._failing:
                self._failing = True
                _log.error("Exposures are lost: %s", error)

    def _file_of(self, day: int) -> io.FileIO:
        if self._file is None or day != self._day:
            self.close()
            date = time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
            path = self._folder / f"{date}-{self._process}.jsonl"
            self._file = io.FileIO(path, "ab")
            self._day = day
        return self._file


def _read_or_make_key(path: Path) -> bytes:
    """Returns the key; of several processes that make one, one wins."""
    if not path.exists():
        mine = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        mine.write_text(secrets.token_hex(_KEY_BYTES), encoding="ascii")
        mine.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(mine)
        mine.unlink()
    return bytes.fromhex(path.read_text(encoding="ascii"))
