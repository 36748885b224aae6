"""One call of an RPC, and what its errors become."""

import dataclasses
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from serving.errors import ServingError, status_of

REQUEST_ID = "x-request-id"
MAX_REQUEST_ID = 64

# Unlike random ones, numbers after a random start cost next to nothing.
_START = os.urandom(6).hex()
_NUMBERS = itertools.count(1)

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


@dataclasses.dataclass(eq=False)
class Call:
    """One call of an RPC.

    Attributes:
        context: gRPC's own view of the call.
        request_id: The caller's `x-request-id`, or one made here.
        arm: Experiment and arm of the user, as "experiment/arm".
        notes: What logs and traces should tell of it.
    """

    context: Context
    request_id: str
    arm: str = ""
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, context: Context) -> "Call":
        """Returns the call that gRPC describes."""
        for key, value in context.invocation_metadata() or ():
            if key == REQUEST_ID and value.isprintable():
                return cls(context, str(value)[:MAX_REQUEST_ID])
        return cls(context, f"{_START}-{next(_NUMBERS)}")


Method: TypeAlias = Callable[[Any, Call], Awaitable[Any]]


def status_and_words(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Returns the status of an error, and what the caller may know of it."""
    if isinstance(error, ServingError):
        return status_of(error), str(error)
    if isinstance(error, grpc.aio.AioRpcError):
        # The model server's own answer to a request that was passed on.
        return error.code(), error.details() or ""
    return grpc.StatusCode.INTERNAL, (
        "Unexpected error; the gateway's log says more under the id in the "
        f"trailing metadata {REQUEST_ID!r}."
    )
