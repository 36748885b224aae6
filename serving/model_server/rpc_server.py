"""A gRPC server of unary calls that spends a quarter of the usual time on each.

`grpc.server` passes every call through several threads, `grpc.aio` through
several tasks, which takes longer than the graph of a recommender. Here a
thread takes whatever calls are ready from gRPC's completion queue, answers
them, and only then looks for more. So calls that come in meanwhile are found
together, and can run as one batch; nobody waits for company.

It is made of `grpc._cython.cygrpc`, as `grpc.server` is. That is private to
grpcio; it has not changed where it is used here since grpcio 1.36.
"""

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc

from serving.errors import LaunchError

_log = logging.getLogger(__name__)

# Calls that gRPC may hand to a thread before the thread asks for more.
_REQUESTED_CALLS = 32
# How long it may take until cancelled calls have ended.
_CANCEL_SECONDS = 1.0
_NO_FLAGS = 0
_NO_METADATA = ()
# Tags of events in a completion queue; that of a message is its `Call`.
_NEW_CALL = object()
_CALL_ENDED = object()
_SERVER_ENDED = object()


@dataclasses.dataclass(frozen=True)
class RpcLimits:
    """What is let in.

    Attributes:
        message_bytes: The largest request; gRPC refuses larger ones.
        group_calls: The most calls that a thread answers as a group.
        wait_seconds: How long it waits for a group to fill. Only after a
            group of several, for without load nobody is on the way.
    """

    message_bytes: int
    group_calls: int
    wait_seconds: float = 0.0


class Call:
    """A call, to be answered or refused once.

    Attributes:
        method: Path of the method, `/package.Service/Method`.
        deadline: Until when the caller waits, seconds since 1970.
        request: The request's bytes.
        ended: Whether it was answered or refused.
    """

    def __init__(self, loop: "_Loop", event: Any) -> None:
        self._loop = loop
        self._call = event.call
        self.method: str = event.call_details.method.decode()
        self.deadline: float = event.call_details.deadline
        self.request = b""
        self.ended = False

    def answer(self, response: bytes) -> None:
        """Sends the response."""
        self._end(
            cygrpc.SendMessageOperation(response, _NO_FLAGS),
            cygrpc.SendStatusFromServerOperation(
                _NO_METADATA, cygrpc.StatusCode.ok, b"", _NO_FLAGS
            ),
        )

    def refuse(self, code: grpc.StatusCode, words: str) -> None:
        """Sends an error."""
        self._end(
            cygrpc.SendStatusFromServerOperation(
                _NO_METADATA, code.value[0], words.encode(), _NO_FLAGS
            )
        )

    def _end(self, *operations: Any) -> None:
        self.ended = True
        # If the caller is gone this fails, and nobody needs to know.
        self._loop.begin(
            self._call,
            (
                cygrpc.SendInitialMetadataOperation(_NO_METADATA, _NO_FLAGS),
                *operations,
                cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS),
            ),
            _CALL_ENDED,
        )

    def receive(self) -> None:
        """Asks for the request, which comes in an event of its own."""
        operations = (cygrpc.ReceiveMessageOperation(_NO_FLAGS),)
        self._loop.begin(self._call, operations, self)


Handle = Callable[[Sequence[Call]], None]


class RpcServer:
    """Answers calls in some threads; a connection's calls stay in one."""

    def __init__(self, handle: Handle, threads: int, limits: RpcLimits) -> None:
        """Sets the server up.

        Args:
            handle: Answers or refuses each of a group of calls.
            threads: How many threads call it.
            limits: What is let in.
        """
        self._server = cygrpc.Server(
            (
                ("grpc.max_receive_message_length", limits.message_bytes),
                # A second server on the port would answer some of the calls.
                ("grpc.so_reuseport", 0),
            ),
            False,
        )
        self._loops = [
            _Loop(self._server, handle, limits) for _ in range(threads)
        ]
        self._threads = [
            threading.Thread(target=loop.run, name=f"rpc-{index}", daemon=True)
            for index, loop in enumerate(self._loops)
        ]

    def listen(self, address: str) -> None:
        """Binds an address.

        Raises:
            LaunchError: Somebody else listens there, or it is none of ours.
        """
        try:
            port = self._server.add_http2_port(address.encode())
        except RuntimeError as error:
            raise LaunchError(f"Can't listen on {address}: {error}") from error
        if not port:
            raise LaunchError(f"Can't listen on {address}.")

    def start(self) -> None:
        """Begins to take calls."""
        self._server.start()
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Takes no more calls, and lets those that run end.

        Args:
            grace_seconds: How long; then they are cancelled.
        """
        self._loops[0].shut_down()
        self._join(grace_seconds)
        self._server.cancel_all_calls()
        self._join(_CANCEL_SECONDS)

    def _join(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))


class _Loop:
    """What one thread does."""

    def __init__(self, server: Any, handle: Handle, limits: RpcLimits) -> None:
        self._server = server
        self._handle = handle
        self._limits = limits
        self._queue = cygrpc.CompletionQueue()
        # Events of calls that are still to come; one more ends the server.
        self._due = 0
        self._ends_server = False
        self._had_company = False
        server.register_completion_queue(self._queue)

    def begin(self, call: Any, operations: Sequence[Any], tag: object) -> None:
        """Starts operations of a call, which end in an event with a tag."""
        self._due += 1
        call.start_server_batch(operations, tag)

    def shut_down(self) -> None:
        """Lets no more calls in, on any loop; any thread may call it."""
        self._ends_server = True
        self._server.shutdown(self._queue, _SERVER_ENDED)

    def run(self) -> None:
        """Takes and answers calls until the server is shut down."""
        for _ in range(_REQUESTED_CALLS):
            self._request_call()
        while self._due or self._ends_server:
            calls = self._next_calls()
            if calls:
                self._answer(calls)
                self._had_company = len(calls) > 1

    def _request_call(self) -> None:
        try:
            self._server.request_call(self._queue, self._queue, _NEW_CALL)
            self._due += 1
        except ValueError:
            # It is shutting down.
            pass

    def _next_calls(self) -> list[Call]:
        """Waits for an event, then takes all calls that are ready."""
        calls: list[Call] = []
        until: float | None = None
        while len(calls) < self._limits.group_calls:
            event = self._queue.poll(until)
            if event.completion_type == cygrpc.CompletionType.queue_timeout:
                break
            calls += self._calls_of(event)
            # It may hold the last reference to a call, which must be gone
            # before the next one is waited for.
            del event
            if calls and until is None:
                until = time.time() + self._wait_seconds()
            if not (self._due or self._ends_server):
                break
        return calls

    def _calls_of(self, event: Any) -> list[Call]:
        """Returns the call that an event makes ready, if it does."""
        if event.tag is _SERVER_ENDED:
            self._ends_server = False
            return []
        self._due -= 1
        if event.tag is _NEW_CALL:
            self._accept(event)
        elif isinstance(event.tag, Call):
            message = event.batch_operations[0].message()
            # None from a caller who has gone, or whose request is too large;
            # gRPC has told the latter.
            if message is not None:
                event.tag.request = message
                return [event.tag]
        return []

    def _wait_seconds(self) -> float:
        return self._limits.wait_seconds if self._had_company else 0.0

    def _accept(self, event: Any) -> None:
        if event.success and event.call is not None:
            self._request_call()
            Call(self, event).receive()

    def _answer(self, calls: Sequence[Call]) -> None:
        try:
            self._handle(calls)
        except Exception:
            _log.exception("Unexpected error")
        for call in calls:
            if not call.ended:
                call.refuse(grpc.StatusCode.INTERNAL, "Unexpected error.")
