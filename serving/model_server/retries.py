"""When a version that did not load is tried again: less and less often."""

import dataclasses
from collections.abc import Callable

FIRST_RETRY_SECONDS = 2.0
LAST_RETRY_SECONDS = 300.0


@dataclasses.dataclass(frozen=True)
class _Failure:
    """A version that did not load: when to try again, how long to wait."""

    retry_at: float
    wait_seconds: float


class Retries:
    """The failures of one model's versions; for one thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begins without any.

        Args:
            clock: Seconds.
        """
        self._clock = clock
        self._failures: dict[int, _Failure] = {}

    def is_due(self, version: int) -> bool:
        """Whether to try a version now."""
        failure = self._failures.get(version)
        return failure is None or self._clock() >= failure.retry_at

    def failed(self, version: int) -> float:
        """Takes note of a failure; returns how many seconds to wait."""
        failure = self._failures.get(version)
        wait = (
            min(2 * failure.wait_seconds, LAST_RETRY_SECONDS)
            if failure
            else FIRST_RETRY_SECONDS
        )
        self._failures[version] = _Failure(self._clock() + wait, wait)
        return wait

    def succeeded(self, version: int) -> None:
        """Forgets the failures of a version."""
        self._failures.pop(version, None)

    def forget(self) -> None:
        """Forgets all failures: the versions are others from now on."""
        self._failures.clear()
