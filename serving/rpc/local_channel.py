"""Calls to a `LocalServer`, in the place of `AsyncChannel`."""

import asyncio
import itertools
import time
from typing import Any, cast

import grpc
import grpc.aio

from serving.rpc.local_frames import (
    HELLO,
    CallFrame,
    FrameReader,
    decode_answer,
    encode_call,
)

# A call whose connection breaks off is made once more.
_TRIES = 2
_RECONNECT_SECONDS = 0.1
# What may wait to be read by a server before callers wait with the rest.
_UNREAD_BYTES = 1 << 20


class _BrokenOffError(Exception):
    """The connection ended while a call was under way."""


class LocalChannel:
    """Calls the methods of a server, with bytes; for one event loop.

    A server that comes back is found by the next call.
    """

    def __init__(self, path: str) -> None:
        """Connects on the first call.

        Args:
            path: Of the server's socket.
        """
        self._path = path
        self._link: _Link | None = None
        self._connecting: asyncio.Task[_Link] | None = None

    async def call(
        self,
        method: bytes,
        request: bytes,
        timeout_seconds: float,
        wait_for_ready: bool | None = None,
    ) -> bytes:
        """Calls a method and returns its answer.

        Args:
            method: Path of the method, `/package.Service/Method`.
            request: The serialized request.
            timeout_seconds: How long to wait.
            wait_for_ready: Whether to wait for a server if there is none.

        Raises:
            grpc.aio.AioRpcError: The server answered with an error, or did
                not answer.
        """
        until = asyncio.get_running_loop().time() + timeout_seconds
        call = CallFrame(time.time() + timeout_seconds, method, request)
        for _ in range(_TRIES):
            link = self._link
            if link is None or not link.open:
                link = await self._connected(until, bool(wait_for_ready))
            try:
                return await link.call(call, until)
            except _BrokenOffError:
                pass
        raise _error(
            grpc.StatusCode.UNAVAILABLE,
            f"The server on {self._path} broke the call off.",
        )

    async def close(self) -> None:
        """Closes the connection."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close()

    async def _connected(self, until: float, wait: bool) -> "_Link":
        loop = asyncio.get_running_loop()
        while True:
            if self._connecting is None:
                self._connecting = loop.create_task(self._connect())
            connecting = self._connecting
            await asyncio.wait(
                {connecting}, timeout=max(0.0, until - loop.time())
            )
            if not connecting.done():
                raise _deadline_error()
            error = connecting.exception()
            if error is None:
                return connecting.result()
            if not wait:
                raise _error(
                    grpc.StatusCode.UNAVAILABLE,
                    f"Nobody listens on {self._path}: {error}",
                ) from error
            if loop.time() + _RECONNECT_SECONDS > until:
                raise _deadline_error() from error
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _connect(self) -> "_Link":
        try:
            _, link = await asyncio.get_running_loop().create_unix_connection(
                _Link, self._path
            )
            self._link = link
            return link
        finally:
            self._connecting = None


class _Link(asyncio.Protocol):
    """One connection, and the calls that are under way on it.

    Attributes:
        open: Whether calls can be made.
    """

    def __init__(self) -> None:
        self.open = False
        # Why no call can be made any more.
        self._end_reason: Exception | None = None
        self._reader = FrameReader()
        self._numbers = itertools.count()
        self._pending: dict[int, asyncio.Future[bytes]] = {}
        self._loop = asyncio.get_running_loop()
        # Done when the server reads again; None while it does.
        self._reading: asyncio.Future[None] | None = None

    async def call(self, call: CallFrame, until: float) -> bytes:
        """Makes a call.

        Args:
            call: What to send.
            until: When to give up, by the event loop's clock.

        Raises:
            grpc.aio.AioRpcError: It was refused, or time is over.
            _BrokenOffError: The connection ended.
        """
        if self._end_reason is not None:
            # It ended before anybody made use of it.
            raise self._end_reason
        number = next(self._numbers)
        answer: asyncio.Future[bytes] = self._loop.create_future()
        self._pending[number] = answer
        timer = self._loop.call_at(until, _expire, answer)
        try:
            while self._reading is not None:
                either: set[asyncio.Future[Any]] = {self._reading, answer}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                if answer.done():
                    return answer.result()
            self._transport.write(encode_call(number, call))
            return await answer
        finally:
            timer.cancel()
            # An answer that comes later finds nobody.
            del self._pending[number]

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_UNREAD_BYTES)
        self._transport.write(HELLO)
        self.open = True

    def data_received(self, data: bytes) -> None:
        """Hands answers to their callers."""
        try:
            for number, rest in self._reader.feed(data):
                answer = self._pending.get(number)
                if answer is None or answer.done() or rest is None:
                    continue
                code, content = decode_answer(rest)
                if code is grpc.StatusCode.OK:
                    answer.set_result(content)
                else:
                    answer.set_exception(
                        _error(code, content.decode(errors="replace"))
                    )
        except ValueError as error:
            self._end(_error(grpc.StatusCode.UNAVAILABLE, str(error)))
            self._transport.abort()

    def pause_writing(self) -> None:
        """The server does not read what it is sent."""
        self._reading = self._loop.create_future()

    def resume_writing(self) -> None:
        """The server reads again."""
        if self._reading is not None:
            self._reading.set_result(None)
            self._reading = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells those who wait."""
        del exc
        self._end(_BrokenOffError())

    def _end(self, error: Exception) -> None:
        self.open = False
        self._end_reason = self._end_reason or error
        self.resume_writing()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(error)


def _expire(answer: "asyncio.Future[bytes]") -> None:
    if not answer.done():
        answer.set_exception(_deadline_error())


def _deadline_error() -> grpc.aio.AioRpcError:
    return _error(
        grpc.StatusCode.DEADLINE_EXCEEDED, "The server did not answer in time."
    )


def _error(code: grpc.StatusCode, words: str) -> grpc.aio.AioRpcError:
    nothing = grpc.aio.Metadata()
    return grpc.aio.AioRpcError(code, nothing, nothing, words)
