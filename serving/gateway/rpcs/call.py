"""One call of an RPC, and what its errors become."""

import asyncio
import dataclasses
import itertools
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio

from serving.errors import ServingError, status_of
from serving.protos import recommender_pb2 as pb

REQUEST_ID = "x-request-id"
MAX_REQUEST_ID = 64
# Of the time that a caller waits. Without the store there is a worse answer,
# without the model server there is none.
_STORE_SHARE = 0.5

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
        provenance: How its answer was made, once that is known.
    """

    context: Context
    request_id: str
    arm: str = ""
    provenance: pb.Provenance | None = None

    @classmethod
    def of(cls, context: Context) -> "Call":
        """Returns the call that gRPC describes."""
        for key, value in context.invocation_metadata() or ():
            # It is sent back, and gRPC sends no other characters.
            if key == REQUEST_ID and value.isascii() and value.isprintable():
                return cls(context, str(value)[:MAX_REQUEST_ID])
        return cls(context, f"{_START}-{next(_NUMBERS)}")

    @property
    def store_seconds(self) -> float | None:
        """How long the store may take, so that the caller has an answer."""
        left: float | None = self.context.time_remaining()
        return None if left is None else _STORE_SHARE * left

    def notes(self) -> dict[str, str | int]:
        """Returns what logs and traces tell of the answer."""
        told = self.provenance
        if told is None:
            return {}
        return {
            "model": told.model,
            "version": told.version,
            "meta_init_version": told.meta_init_version,
            "support_count": told.support_count,
            "rung": pb.Rung.Name(told.rung),
            "arm": told.arm,
            "degraded_reason": told.degraded_reason,
        }


Method: TypeAlias = Callable[[Any, Call], Awaitable[Any]]


def status_and_words(error: BaseException) -> tuple[grpc.StatusCode, str]:
    """Returns the status of an error, and what the caller may know of it."""
    if isinstance(error, ServingError):
        return status_of(error), str(error)
    if isinstance(error, asyncio.CancelledError):
        return grpc.StatusCode.CANCELLED, "The call was cancelled."
    if isinstance(error, grpc.aio.AioRpcError):
        # The model server's own answer to a request that was passed on.
        return error.code(), error.details() or ""
    return grpc.StatusCode.INTERNAL, (
        "Unexpected error; the gateway's log says more under the id in the "
        f"trailing metadata {REQUEST_ID!r}."
    )
