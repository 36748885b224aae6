"""What clients raise, and what refusals tell.

grpc.RpcError
└── GatewayError              the gateway answered a call with an error
    ├── RequestRefusedError   the request must be another
    ├── AccessRefusedError    the token is not good for it
    ├── TryLaterError         too much, for now
    ├── UnavailableError      the gateway, or what is behind it, is not there
    └── TimedOutError         there was no answer in time
ServingError
└── PlaintextTokenError       a token would travel unencrypted
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import ClassVar

import grpc

from serving.errors import ServingError
from serving.security.refusals import PUSHBACK

_REQUEST_ID = "x-request-id"


class PlaintextTokenError(ServingError):
    """A token would be sent unencrypted to another machine."""


class GatewayError(grpc.RpcError):  # type: ignore[misc]
    """A call that failed: which, how, and what to do about it.

    It answers what any error of gRPC's answers; the one that was raised is its
    `__cause__`.

    Attributes:
        method: Name of the RPC.
        advice: What to do.
    """

    advice: ClassVar[str] = (
        "It is no fault of the request: the gateway's log says more under its "
        "id."
    )

    def __init__(
        self,
        method: str,
        code: grpc.StatusCode,
        details: str,
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        super().__init__(method, code, details, trailing_metadata)
        self.method = method
        self._code = code
        self._details = details
        self._trailing_metadata = trailing_metadata

    def code(self) -> grpc.StatusCode:
        """Returns the status."""
        return self._code

    def details(self) -> str:
        """Returns what the gateway says, or gRPC itself."""
        return self._details

    def trailing_metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """Returns what came after the status."""
        return self._trailing_metadata

    def __str__(self) -> str:
        ids = [v for key, v in self._trailing_metadata if key == _REQUEST_ID]
        of_request = f" [{ids[0]!s}]" if ids else ""
        return (
            f"{self.method}: {self._code.name}: {self._details}{of_request}\n"
            f"{self.advice}"
        )


class RequestRefusedError(GatewayError):
    """The gateway can't do what is asked, however often."""

    advice = "Change the request: sent again as it is, it fails again."


class AccessRefusedError(GatewayError):
    """Who calls is not known, or may not."""

    advice = "Check the client's token: its scopes, its users, and its end."


class TryLaterError(GatewayError):
    """The gateway takes no more for now."""

    advice = (
        "Send it again later (`retry_after_seconds` may tell when), or less "
        "at once."
    )


class UnavailableError(GatewayError):
    """Nobody was there to do it, or it was broken off, several times."""

    advice = (
        "See whether the gateway and its model server run. It may be sent "
        "again at any time: an event counts once by its id."
    )


class TimedOutError(GatewayError):
    """There was no answer within `timeout_seconds`; it may have been done."""

    advice = (
        "See whether the gateway runs, or give it more `timeout_seconds`. It "
        "may be sent again: an event counts once by its id."
    )


_KINDS = {
    grpc.StatusCode.INVALID_ARGUMENT: RequestRefusedError,
    grpc.StatusCode.NOT_FOUND: RequestRefusedError,
    grpc.StatusCode.FAILED_PRECONDITION: RequestRefusedError,
    grpc.StatusCode.UNIMPLEMENTED: RequestRefusedError,
    grpc.StatusCode.UNAUTHENTICATED: AccessRefusedError,
    grpc.StatusCode.PERMISSION_DENIED: AccessRefusedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: TryLaterError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.CANCELLED: UnavailableError,
    grpc.StatusCode.ABORTED: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: TimedOutError,
}


@contextlib.contextmanager
def told_as_ours(method: str) -> Iterator[None]:
    """Turns gRPC's errors about a call into ours."""
    try:
        yield
    except grpc.RpcError as error:
        kind = _KINDS.get(error.code(), GatewayError)
        raise kind(
            method,
            error.code(),
            error.details() or "",
            # Pairs of a kind that can be pickled.
            [(key, value) for key, value in error.trailing_metadata() or ()],
        ) from error


def retry_after_seconds(error: grpc.RpcError) -> float | None:
    """Returns when a refused call may be tried again, if the gateway says."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK:
            return int(value) / 1000
    return None
