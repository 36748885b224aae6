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
answer comes back within the same millisecond. An exposure's is when the user
was shown the items, also where a shadow scored them later.
"""

import contextlib
import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import LaunchError
from serving.experiments.assignment import Assignment
from serving.experiments.line_writer import LineWriter

# Of long lists, the best: what a user can have seen.
MAX_ITEMS = 100
FILE_PATTERN = "*.jsonl"

_KEY_BYTES = 32
# Fewer could be guessed, and the hash takes no more.
_LEAST_KEY_BYTES, _MOST_KEY_BYTES = 16, 64
_USER_BYTES = 8
_EVENT_BYTES = 4
_SCORE_DIGITS = 6
_MS_PER_DAY = 86_400_000


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

    What can't be written is lost, counted, and hurts no answer; nor does a
    disk that hangs.
    """

    def __init__(
        self,
        folder: Path,
        key: Path,
        count_lost: Callable[[str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Opens the log.

        Args:
            folder: Of the log's files; made if it is not there.
            key: File with the key that users are named by.
            count_lost: Is told of each line that is lost, why; from any
                thread.
            clock: Seconds since 1970.

        Raises:
            LaunchError: The folder can't be written to, or the key not read.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._pseudonyms = Pseudonyms(key)
        except (OSError, ValueError) as error:
            raise LaunchError(f"Can't log exposures: {error}") from error
        self._writer = LineWriter(folder, count_lost)
        self._clock = clock

    def exposure(
        self,
        place: Assignment,
        user_id: str,
        model: str,
        version: int,
        item_ids: Sequence[str],
        scores: NDArray[np.floating[Any]],
        ms: float | None = None,
    ) -> float:
        """Notes that a user was shown items (or would have been).

        Args:
            place: Experiment and arm.
            user_id: The user.
            model: The model that scored them.
            version: Its version.
            item_ids: The items.
            scores: Their scores, shape [items].
            ms: When the user was shown them; None: now.

        Returns:
            When that was.
        """
        best = np.argsort(-scores, kind="stable")[:MAX_ITEMS]
        ms = self._now() if ms is None else ms
        self._append(
            ms=ms,
            kind="exposure",
            experiment=place.experiment.name,
            arm=place.arm.name,
            user=self._pseudonyms.of(user_id),
            model=model,
            version=version,
            items=[item_ids[index] for index in best.tolist()],
            scores=scores[best].astype(float).round(_SCORE_DIGITS).tolist(),
        )
        return ms

    def outcome(
        self, user_id: str, event_id: str, item_id: str, label: float
    ) -> None:
        """Notes what a user made of an item."""
        event = hashlib.blake2b(event_id.encode(), digest_size=_EVENT_BYTES)
        self._append(
            kind="outcome",
            user=self._pseudonyms.of(user_id),
            event=event.hexdigest(),
            item=item_id,
            label=label,
        )

    async def forget(self, user_id: str) -> None:
        """Has reports leave out all that was noted of a user so far.

        Raises:
            ExposureLogError: That can't be made durable.
        """
        await self._writer.append_durably(
            *self._line(kind="forget", user=self._pseudonyms.of(user_id))
        )

    def close(self, seconds: float) -> None:
        """Writes what is not written yet; after so long, the rest is lost."""
        self._writer.close(seconds)

    def _append(self, **line: Any) -> None:
        self._writer.append(*self._line(**line))

    def _line(self, **line: Any) -> tuple[int, str]:
        """Returns the day whose file a line goes to, and the line."""
        now = self._now()
        text = json.dumps({"ms": now, **line}, separators=(",", ":"))
        return int(now // _MS_PER_DAY), text

    def _now(self) -> float:
        return round(self._clock() * 1000, 3)


def _read_or_make_key(path: Path) -> bytes:
    """Returns the key; of several processes that make one, one wins."""
    if not path.exists():
        mine = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        mine.write_text(secrets.token_hex(_KEY_BYTES), encoding="ascii")
        mine.chmod(0o600)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(mine)
        mine.unlink()
    key = bytes.fromhex(path.read_text(encoding="ascii"))
    if not _LEAST_KEY_BYTES <= len(key) <= _MOST_KEY_BYTES:
        raise ValueError(
            f"{path} holds {2 * len(key)} hexadecimal digits; a key has from "
            f"{2 * _LEAST_KEY_BYTES} to {2 * _MOST_KEY_BYTES}."
        )
    return key
