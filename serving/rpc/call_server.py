"""A server that hands calls to a function, all that are ready at a time.

So calls that come in while others are answered are found together, and can
be answered together; nobody waits for company.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import grpc
from grpc._cython import cygrpc

from serving.rpc.call import Call, hand_on

_log = logging.getLogger(__name__)

# Calls that gRPC may hand to a thread before the thread asks for more.
_REQUESTED_CALLS = 32
# Per thread; times the largest request, it is what strangers can have us keep.
MAX_UNREAD = 128
# How long it may take until cancelled calls have ended.
_CANCEL_SECONDS = 2.0

_OPTIONS = (
    # A second server on the port would answer some of the calls.
    ("grpc.so_reuseport", 0),
    # None but "identity". gRPC unpacks a message before it looks at its size,
    # so a thousand times as much memory as was sent could be had of us.
    ("grpc.compression_enabled_algorithms_bitset", 1),
)

_NEW_CALL = object()
_SERVER_ENDED = object()

Handle: TypeAlias = Callable[[Sequence[Call]], None]
Options: TypeAlias = Sequence[tuple[str, "str | int"]]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """How calls are put together.

    Attributes:
        max_calls: The most calls of a group.
        wait_seconds: How long a group waits for more. Only after a group of
            several, for without load nobody is on the way.
    """

    max_calls: int = 32
    wait_seconds: float = 0.0


class CallServer:
    """Takes calls in some threads; those of a connection stay in one."""

    def __init__(
        self,
        handle: Handle,
        options: Options = (),
        threads: int = 1,
        grouping: Grouping = Grouping(),
        on_hang_up: Callable[[Call], None] | None = None,
        max_unread: int = MAX_UNREAD,
    ) -> None:
        """Sets the server up.

        Args:
            handle: Is given each group of calls, in the thread that took
                them. What it raises refuses those that it has not ended.
            options: gRPC's channel arguments.
            threads: How many take calls.
            grouping: How calls are put together.
            on_hang_up: Is given calls whose caller is gone; None if nobody
                wants to know, which saves time.
            max_unread: Calls of a thread whose request is still on its way;
                beyond them the one that has taken longest is refused. What
                has come of a request takes memory, and nobody was asked yet
                who sends it.
        """
        self._server = cygrpc.Server((*_OPTIONS, *options), False)
        self._ended = threading.Event()
        self._loops = [
            _Loop(
                self._server,
                handle,
                grouping,
                on_hang_up,
                self._ended,
                max_unread,
            )
            for _ in range(threads)
        ]
        self._threads = [
            threading.Thread(target=loop.run, name=f"rpc-{index}", daemon=True)
            for index, loop in enumerate(self._loops)
        ]

    def listen(
        self, address: str, credentials: grpc.ServerCredentials | None = None
    ) -> None:
        """Binds an address.

        Args:
            address: `host:port`.
            credentials: For TLS; None is plaintext.

        Raises:
            RuntimeError: Somebody else listens there, or it is none of ours.
        """
        arguments = [address.encode()]
        if credentials is not None:
            arguments.append(credentials._credentials)
        if not self._server.add_http2_port(*arguments):
            raise RuntimeError(f"Failed to bind to address {address}")

    def start(self) -> None:
        """Begins to take calls."""
        self._server.start()
        for thread in self._threads:
            thread.start()

    def shut_down(self, grace_seconds: float) -> None:
        """Takes no more calls, and lets those that run end.

        Args:
            grace_seconds: How long; then they are cancelled.
        """
        if self._ended.is_set():
            return
        self._server.shutdown(self._loops[0].queue, _SERVER_ENDED)
        if not self._ended.wait(grace_seconds):
            self._server.cancel_all_calls()
            self._ended.wait(_CANCEL_SECONDS)

    def close(self) -> None:
        """Ends the threads of a server that is shut down.

        From then on gRPC takes it ill if anything is sent.
        """
        for loop, thread in zip(self._loops, self._threads, strict=True):
            loop.queue.shutdown()
            thread.join(_CANCEL_SECONDS)


class _Loop:
    """What one thread does; the attribute `queue` is gRPC's for it."""

    def __init__(
        self,
        server: Any,
        handle: Handle,
        grouping: Grouping,
        on_hang_up: Callable[[Call], None] | None,
        server_ended: threading.Event,
        max_unread: int,
    ) -> None:
        self.queue = cygrpc.CompletionQueue()
        self._server = server
        self._handle = handle
        self._grouping = grouping
        self._on_hang_up = on_hang_up
        self._server_ended = server_ended
        self._max_unread = max_unread
        # The one that has taken longest comes first.
        self._unread: dict[Call, None] = {}
        self._had_company = False
        self._open = True
        server.register_completion_queue(self.queue)

    def run(self) -> None:
        """Takes calls until the queue is shut down."""
        for _ in range(_REQUESTED_CALLS):
            self._request_call()
        while self._open:
            calls = self._next_calls()
            if calls:
                hand_on(self._handle, calls)
                self._had_company = len(calls) > 1

    def _request_call(self) -> None:
        # It refuses once it is shutting down.
        with contextlib.suppress(ValueError):
            self._server.request_call(self.queue, self.queue, _NEW_CALL)

    def _next_calls(self) -> list[Call]:
        """Waits for an event, then takes all calls that are ready."""
        calls: list[Call] = []
        until: float | None = None
        while self._open and len(calls) < self._grouping.max_calls:
            event = self.queue.poll(until)
            if event.tag is None:
                # Nothing until then, or nothing ever any more.
                self._open = not _is_shutdown(event)
                break
            try:
                call = self._call_of(event)
            except Exception:
                # Whatever one call is about, this thread takes the others.
                _log.exception("Unexpected error")
                call = None
            # It may hold the last reference to a call, which must be gone
            # before the next one is waited for.
            del event
            if call is not None:
                calls.append(call)
                if until is None:
                    until = self._group_deadline()
        return calls

    def _call_of(self, event: Any) -> Call | None:
        """Returns the call that an event makes ready, if it does."""
        tag = event.tag
        if isinstance(tag, Call):
            return self._read(tag, event)
        if tag is _NEW_CALL:
            if event.success and event.call is not None:
                self._request_call()
                self._begin(Call(event))
        elif tag is _SERVER_ENDED:
            self._server_ended.set()
        else:
            tag(event)
        return None

    def _read(self, call: Call, event: Any) -> Call | None:
        """Returns a call whose request has come, if one has."""
        self._unread.pop(call, None)
        if call.ended:
            return None
        if call.received(event):
            return call
        # Nobody hears it whose call gRPC has ended; nor may anything be sent
        # once the server has.
        if not self._server_ended.is_set():
            call.refuse(
                grpc.StatusCode.INVALID_ARGUMENT, "The call has no request."
            )
        return None

    def _begin(self, call: Call) -> None:
        """Asks for a call's request."""
        call.begin(self._on_hang_up)
        self._unread[call] = None
        if len(self._unread) > self._max_unread:
            slowest = next(iter(self._unread))
            del self._unread[slowest]
            slowest.refuse(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "The request takes too long to arrive while many others do.",
            )

    def _group_deadline(self) -> float:
        """Returns until when to look for more calls, seconds since 1970."""
        if self._had_company and self._grouping.wait_seconds:
            return time.time() + self._grouping.wait_seconds
        # Not now: gRPC would round that up to the next millisecond.
        return 0.0


def _is_shutdown(event: Any) -> bool:
    # Before grpcio 1.50 it was a timeout that succeeded.
    kinds = cygrpc.CompletionType
    return bool(event.completion_type == kinds.queue_shutdown or event.success)
