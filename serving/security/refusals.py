"""How calls are refused: the status, and when to try again.

`grpc-retry-pushback-ms` is what gRPC's own retries obey (gRFC A6); people and
other clients can read it among the trailing metadata as well.
"""

import math
from collections.abc import Callable
from typing import TypeAlias

import grpc
import grpc.aio

from serving.errors import RetryLaterError, status_of

# Told of the status of each call that is refused before a handler sees it.
CountRefusal: TypeAlias = Callable[[grpc.StatusCode], None]

PUSHBACK = "grpc-retry-pushback-ms"


def trailing_metadata(error: BaseException) -> tuple[tuple[str, str], ...]:
    """Returns what goes along with the status of an error."""
    if not isinstance(error, RetryLaterError):
        return ()
    return ((PUSHBACK, str(math.ceil(error.retry_after_seconds * 1000))),)


async def refuse(
    context: "grpc.aio.ServicerContext[object, object]", error: BaseException
) -> None:
    """Ends an RPC with the status of an error; does not return."""
    await context.abort(status_of(error), str(error), trailing_metadata(error))


def refusal(error: BaseException) -> grpc.RpcMethodHandler:
    """Returns a handler that refuses an RPC without reading its request.

    It is a streaming one: gRPC would read and parse the request of a unary
    call first, and whoever is refused must not cost more than the refusal.
    """

    async def handle(
        requests: object,
        context: "grpc.aio.ServicerContext[object, object]",
    ) -> None:
        await refuse(context, error)

    return grpc.stream_stream_rpc_method_handler(handle)
