"""Keeps store and log from growing for ever, while they are in use.

Threads of its own, so that no request waits, and short steps with pauses
between them, so that other threads and writers get their turn.
"""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from serving.errors import ServingError
from serving.event_log import EventLog
from serving.store import AdaptiveStore

_log = logging.getLogger(__name__)

_TRIM_SECONDS = 60.0
_PURGE_SECONDS = 3600.0
_PAUSE_SECONDS = 0.01


@contextlib.contextmanager
def upkeep(
    store: AdaptiveStore,
    log: EventLog,
    trim_seconds: float = _TRIM_SECONDS,
    purge_seconds: float = _PURGE_SECONDS,
) -> Iterator[None]:
    """Trims the log and purges the store from time to time, inside the block.

    What fails is logged, and tried again the next time.

    Args:
        store: The store; closed after the block.
        log: The log; closed after the block.
        trim_seconds: Time between two trims.
        purge_seconds: Time between two purges, each of which looks at all
            that an LMDB store holds.
    """
    stopped = threading.Event()
    threads = [
        threading.Thread(
            target=_repeat,
            args=(steps, seconds, stopped),
            name=f"upkeep-{steps.__name__}",
        )
        for steps, seconds in (
            (log.trim_steps, trim_seconds),
            (store.purge_steps, purge_seconds),
        )
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopped.set()
        for thread in threads:
            thread.join()


def _repeat(
    steps: Callable[[], Iterator[int]],
    seconds: float,
    stopped: threading.Event,
) -> None:
    while not stopped.wait(seconds):
        try:
            for _ in steps():
                if stopped.wait(_PAUSE_SECONDS):
                    return
        except Exception as error:
            # A defect of ours must not end it either, but shows where it is.
            unforeseen = not isinstance(error, ServingError)
            _log.warning("Upkeep failed: %s", error, exc_info=unforeseen)
