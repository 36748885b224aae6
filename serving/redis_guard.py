"""What stands between a Redis server's failures and who calls it.

Its errors are told in our words, and after some failures in a row calls fail
at once, without waiting for a timeout; after a pause one is let through on
trial.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import redis

from serving.redis_config import RedisConfig

# In a row; after that, calls fail at once for a while.
_MAX_FAILURES = 3


class RedisGuard:
    """Guards the calls to one server; safe to use from several threads."""

    def __init__(
        self,
        config: RedisConfig,
        failed: Callable[[str], Exception],
        full: Callable[[str], Exception],
    ) -> None:
        """Sets it up; calls go through.

        Args:
            config: Where the server is, and how it is used.
            failed: Makes the error to raise if the server fails.
            full: Makes the error to raise if the server has no room.
        """
        self._where = config.address
        self._pause_seconds = config.pause_seconds
        self._failed = failed
        self._full = full
        self._lock = threading.Lock()
        self._failures = 0
        self._trial_at = 0.0
        self._closed = False

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Translates errors; calls to a server that fails again fail at once.

        Otherwise every request would wait for its own timeout.
        """
        self._enter()
        try:
            yield
        except (
            redis.exceptions.ConnectionError,
            redis.exceptions.TimeoutError,
        ) as error:
            with self._lock:
                self._failures += 1
                self._trial_at = time.monotonic() + self._pause_seconds
            raise self._failed(
                f"at {self._where} does not answer: {error}"
            ) from error
        except redis.exceptions.RedisError as error:
            self._failures = 0
            raise self.refused(error) from error
        self._failures = 0

    def _enter(self) -> None:
        if self._closed:
            raise self._failed(f"at {self._where} is closed; connect anew.")
        if self._failures < _MAX_FAILURES:
            return
        with self._lock:
            now = time.monotonic()
            if now < self._trial_at:
                raise self._failed(
                    f"at {self._where} did not answer {self._failures} times "
                    "in a row; it is tried again within "
                    f"{self._pause_seconds:g} s."
                )
            # This call tries; the others wait for what comes of it.
            self._trial_at = now + self._pause_seconds

    def refused(self, error: "redis.exceptions.RedisError") -> Exception:
        """Returns our error for an answer of the server that is an error."""
        text = str(error)
        if isinstance(error, redis.exceptions.OutOfMemoryError):
            return self._full(
                f"at {self._where} has no memory left (maxmemory). What is "
                "there is still read. Raise maxmemory, or add servers; never "
                "let it evict keys (maxmemory-policy noeviction)."
            )
        if "unknown command" in text:
            return self._failed(
                f"at {self._where} is too old or has a command switched off: "
                f"{text.strip()}. Use Redis 7.2 or Valkey, or, if it lacks "
                "WAITAOF alone, do without durable writes."
            )
        if "appendonly is disabled" in text:
            return self._failed(
                f"at {self._where} keeps no append-only file, so nothing is "
                "durable. Start it with `--appendonly yes --appendfsync "
                "always`, or do without durable writes."
            )
        return self._failed(f"at {self._where} refused: {text}")

    def close(self) -> None:
        """Lets no more calls through. Calling it again does nothing."""
        self._closed = True
