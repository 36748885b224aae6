"""Unary calls of a `grpc.aio` channel at a fraction of their time.

For each call `grpc.aio` makes a task and an object that offers metadata,
callbacks and cancellation. Who only wants the answer awaits grpcio's inner
call here instead. Connections, balancing, retries and deadlines are those of
the channel, and so are the errors.
"""

import asyncio
import time
from collections.abc import Sequence

import grpc
import grpc.aio

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class AsyncChannel:
    """Calls the methods of a server, with bytes; for one event loop."""

    def __init__(
        self,
        target: str,
        options: Sequence[tuple[str, str | int]] = (),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        """Connects on the first call.

        Args:
            target: `host:port`, or another of gRPC's names.
            options: gRPC's channel arguments.
            credentials: For TLS; None is plaintext.
        """
        self._channel = (
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )

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
            wait_for_ready: Whether to wait for a connection if there is none;
                None leaves it to the channel.

        Raises:
            grpc.aio.AioRpcError: The server answered with an error, or did
                not answer.
        """
        deadline = time.time() + timeout_seconds
        call = self._channel._channel.call(
            method, deadline, None, wait_for_ready
        )
        try:
            answer: bytes | None = await call.unary_unary(request, ())
        except asyncio.CancelledError:
            call.cancel("Nobody waits for the answer any more.")
            raise
        if answer is not None:
            return answer
        status = await call.status()
        raise grpc.aio.AioRpcError(
            _CODES[status.code()],
            grpc.aio.Metadata.from_tuple(await call.initial_metadata()),
            grpc.aio.Metadata.from_tuple(status.trailing_metadata()),
            status.details(),
            status.debug_error_string(),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._channel.close()
