"""Stops calling a server that does not answer, and finds out when it does.

Closed: calls go through. After some failures in a row it opens: calls fail at
once, without waiting for a deadline. After a pause one call is let through on
trial; it closes the breaker, or the pause begins again, twice as long (Nygard,
*Release It!*, "Circuit Breaker").

Nobody waits for a server that hangs until it fails: callers leave when their
own time is up. Such a call is a failure if it waited for long and the server
answered nobody meanwhile; what a hurried caller leaves says nothing.
"""

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterator

import grpc

from serving.errors import BackendUnavailableError

_log = logging.getLogger(__name__)


class CircuitBreaker:
    """Guards the calls to one server; lives inside one event loop."""

    def __init__(
        self,
        long_seconds: float,
        failures: int = 5,
        pause_seconds: float = 0.5,
        max_pause_seconds: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Sets it up closed.

        Args:
            long_seconds: How long a call must have waited in vain to tell
                against the server rather than its caller.
            failures: Failures in a row after which it opens.
            pause_seconds: How long it stays open at first.
            max_pause_seconds: How long at most.
            clock: Seconds from any start.
            draw: From 0 to 1; spreads the trials of several gateways.
        """
        self._long = long_seconds
        self._failures = failures
        self._pause = pause_seconds
        self._max_pause = max_pause_seconds
        self._clock = clock
        self._draw = draw
        self._answered_at = -math.inf
        self._failed = 0
        self._opened = 0
        self._trial_at = 0.0
        self._on_trial = False

    @property
    def is_open(self) -> bool:
        """Whether calls are held back."""
        return self._failed >= self._failures

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Lets one call through, and learns how it went.

        Within it, gRPC's own errors and cancellation must be raised as they
        are.

        Raises:
            BackendUnavailableError: The breaker is open.
        """
        trial = self._enter()
        started = self._clock()
        try:
            yield
        except asyncio.CancelledError:
            self._leave(trial, started)
            raise
        except grpc.RpcError as error:
            code = error.code()
            if code is grpc.StatusCode.UNAVAILABLE:
                self._fail(trial)
            elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
                self._leave(trial, started)
            else:
                # Any answer at all, be it an error, shows that it is there.
                self._succeed()
            raise
        else:
            self._succeed()
        finally:
            if trial:
                self._on_trial = False

    def _enter(self) -> bool:
        """Returns whether the call is one on trial."""
        if not self.is_open:
            return False
        if self._on_trial or self._clock() < self._trial_at:
            raise BackendUnavailableError(
                "The model server failed to answer several times in a row; "
                "it is tried again every second or two."
            )
        self._on_trial = True
        return True

    def _leave(self, trial: bool, started: float) -> None:
        """Judges a call that went without an answer."""
        waited = self._clock() - started
        if waited >= self._long and self._answered_at <= started:
            self._fail(trial)

    def _fail(self, trial: bool) -> None:
        was_open = self.is_open
        self._failed += 1
        # Calls that were under way when it opened do not make it longer.
        if trial or (self.is_open and not was_open):
            pause = min(self._pause * 2**self._opened, self._max_pause)
            self._opened += 1
            self._trial_at = self._clock() + pause * (0.5 + self._draw() / 2)
            if not was_open:
                _log.warning("The model server fails; calls to it pause")

    def _succeed(self) -> None:
        if self.is_open:
            _log.info("The model server answers again")
        self._failed = self._opened = 0
        self._answered_at = self._clock()
