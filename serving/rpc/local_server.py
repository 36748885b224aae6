"""A server for callers on the same machine, over a Unix socket.

It hands on the calls that have come in, as `serving.rpc.call_server` does,
without gRPC in between: a call takes a third of the time. Each connection has
a thread, which answers its calls in turn.
"""

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import grpc

from serving.rpc.call import Metadata, hand_on
from serving.rpc.local_frames import (
    HELLO,
    AnswerFrame,
    FrameReader,
    decode_call,
    encode_answer,
)

_READ_BYTES = 1 << 18
# Before the next try to take a connection when there are too many.
_REST_SECONDS = 0.1

_log = logging.getLogger(__name__)


class LocalCall:
    """A call from the same machine; see `serving.rpc.call.Call`."""

    def __init__(self, number: int, rest: bytes, answers: list[bytes]) -> None:
        """Reads a frame.

        Args:
            number: The call's.
            rest: Of the frame.
            answers: Gets the frame of the answer.

        Raises:
            ValueError: It is no call.
        """
        call = decode_call(rest)
        self.method = call.method.decode()
        self.deadline = call.deadline
        self.request = call.request
        self.ended = False
        self._number = number
        self._answers = answers

    def answer(self, response: bytes, metadata: Metadata = ()) -> None:
        """Sends the response; that ends the call."""
        del metadata
        self._end(grpc.StatusCode.OK, response)

    def refuse(
        self, code: grpc.StatusCode, words: str, metadata: Metadata = ()
    ) -> None:
        """Sends a status without a response; that ends the call."""
        del metadata
        self._end(code, words.encode())

    def _end(self, code: grpc.StatusCode, content: bytes) -> None:
        self.ended = True
        answer = AnswerFrame(code, content)
        self._answers.append(encode_answer(self._number, answer))


Handle: TypeAlias = Callable[[Sequence[LocalCall]], None]


class LocalServer:
    """Takes calls on a Unix socket that only its own user can open."""

    def __init__(
        self,
        handle: Handle,
        max_message_bytes: int | None = None,
        wait_seconds: float = 0.0,
    ) -> None:
        """Sets the server up.

        Args:
            handle: Is given each group of calls, in the thread of their
                connection. What it raises refuses those it has not ended.
            max_message_bytes: The largest call; None is no limit.
            wait_seconds: How long a group waits for more. Only after a group
                of several, for without load nobody is on the way.
        """
        self._handle = handle
        self._max_message_bytes = max_message_bytes
        self._wait_seconds = wait_seconds
        self._listener = socket.socket(socket.AF_UNIX)
        self._path: Path | None = None
        self._stopped = False
        self._lock = threading.Lock()
        self._threads: dict[threading.Thread, socket.socket] = {}

    def listen(self, path: Path) -> None:
        """Makes the socket; one that nobody listens on any more goes.

        Args:
            path: Where; of about a hundred bytes at most.

        Raises:
            OSError: It can't be made, or somebody listens there.
        """
        if path.is_socket():
            with socket.socket(socket.AF_UNIX) as probe:
                if probe.connect_ex(str(path)) == 0:
                    raise OSError(f"Somebody listens on {path} already.")
            path.unlink()
        # Made so from the start: later would leave a moment for others.
        before = os.umask(0o177)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._path = path
        self._listener.listen()

    def start(self) -> None:
        """Begins to take calls."""
        threading.Thread(
            target=self._accept, name="local-accept", daemon=True
        ).start()

    def shut_down(self, grace_seconds: float) -> None:
        """Takes no more calls, and lets those that have come in end.

        Args:
            grace_seconds: How long; then their connections are closed.
        """
        self._stopped = True
        # Wakes the thread that waits for connections, or for calls.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        with self._lock:
            running = dict(self._threads)
        for connection in running.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        until = time.monotonic() + grace_seconds
        for thread, connection in running.items():
            thread.join(max(0.0, until - time.monotonic()))
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._stopped:
            try:
                connection, _ = self._listener.accept()
                self._begin(connection)
            except (OSError, RuntimeError) as error:
                if not self._stopped:
                    _log.warning("No connection can be taken: %s", error)
                    time.sleep(_REST_SECONDS)

    def _begin(self, connection: socket.socket) -> None:
        """Starts the thread of a connection.

        Raises:
            RuntimeError: The system has no more threads to give.
        """
        thread = threading.Thread(
            target=self._serve,
            args=(connection,),
            name="local-calls",
            daemon=True,
        )
        # Both or neither: only what was started can be waited for.
        with self._lock:
            try:
                thread.start()
            except RuntimeError:
                connection.close()
                raise
            self._threads[thread] = connection

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection:
                connection.sendall(HELLO)
                self._answer_calls(connection)
        except (OSError, ValueError) as error:
            # The other side is gone, or is none of ours.
            _log.warning("A local connection ended: %s", error)
        finally:
            with self._lock:
                del self._threads[threading.current_thread()]

    def _answer_calls(self, connection: socket.socket) -> None:
        reader = FrameReader(self._max_message_bytes)
        space = memoryview(bytearray(_READ_BYTES))
        had_company = False
        while size := connection.recv_into(space):
            answers: list[bytes] = []
            calls = self._calls(reader, space[:size], answers)
            if had_company and self._wait_seconds:
                ready, _, _ = select.select(
                    [connection], [], [], self._wait_seconds
                )
                if ready:
                    size = connection.recv_into(space)
                    calls += self._calls(reader, space[:size], answers)
            if calls:
                hand_on(self._handle, calls)
                had_company = len(calls) > 1
            if answers:
                connection.sendall(b"".join(answers))

    def _calls(
        self, reader: FrameReader, data: memoryview, answers: list[bytes]
    ) -> list[LocalCall]:
        calls = []
        for number, rest in reader.feed(data):
            if rest is None:
                words = f"A call is over {self._max_message_bytes} bytes."
                refusal = AnswerFrame(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, words.encode()
                )
                answers.append(encode_answer(number, refusal))
            else:
                calls.append(LocalCall(number, rest, answers))
        return calls
