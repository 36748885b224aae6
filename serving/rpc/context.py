"""What a handler learns of its call, as `grpc.aio.ServicerContext` tells it."""

import time
from typing import NamedTuple, NoReturn

import grpc

from serving.rpc.call import Call, Metadata

# Without a deadline gRPC gives one some hundred billion years ahead.
_FOREVER_SECONDS = 1e12


class CallDetails(NamedTuple):
    """What interceptors see of a call, as `grpc.HandlerCallDetails`."""

    method: str
    invocation_metadata: Metadata


class AbortedError(Exception):
    """A handler has ended its call with a status."""

    def __init__(
        self, code: grpc.StatusCode, words: str, metadata: Metadata
    ) -> None:
        super().__init__(words)
        self.code = code
        self.words = words
        self.metadata = metadata


class CallContext:
    """The part of gRPC's context that handlers here use.

    Attributes:
        trailing: Metadata to send after the response.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self.trailing: Metadata = ()

    async def abort(
        self,
        code: grpc.StatusCode,
        details: str = "",
        trailing_metadata: Metadata = (),
    ) -> NoReturn:
        """Ends the call with a status; does not return."""
        raise AbortedError(code, details, trailing_metadata or self.trailing)

    def invocation_metadata(self) -> Metadata:
        """Returns what came with the call."""
        return self._call.metadata

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Says what goes after the response."""
        self.trailing = trailing_metadata

    def time_remaining(self) -> float | None:
        """Returns for how many seconds the caller waits; None: for ever."""
        seconds = self._call.deadline - time.time()
        return None if seconds > _FOREVER_SECONDS else max(0.0, seconds)
