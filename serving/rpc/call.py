"""A call as the server sees it: its request, and what it is answered."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import grpc
from grpc._cython import cygrpc

Metadata: TypeAlias = Sequence[tuple[str, "str | bytes"]]

_NO_FLAGS = 0
# Of what is told with a status. Clients refuse metadata of more than 8 KiB, in
# which a byte may take three, and would see that in place of the status.
MAX_WORDS_BYTES = 2_000

_log = logging.getLogger(__name__)


class UnaryCall(Protocol):
    """What a handler of unary calls needs of one; see `Call`."""

    method: str
    deadline: float
    request: bytes
    ended: bool

    def answer(self, response: bytes, metadata: Metadata = ()) -> None:
        """Sends the response; that ends the call."""

    def refuse(
        self, code: grpc.StatusCode, words: str, metadata: Metadata = ()
    ) -> None:
        """Sends a status without a response; that ends the call."""


_Unary = TypeVar("_Unary", bound=UnaryCall)


def hand_on(
    handle: Callable[[Sequence[_Unary]], None], calls: Sequence[_Unary]
) -> None:
    """Has calls answered; what is raised refuses those that have not ended."""
    try:
        handle(calls)
    except Exception:
        _log.exception("Unexpected error")
        for call in calls:
            if not call.ended:
                call.refuse(grpc.StatusCode.INTERNAL, "Unexpected error.")


def _ignore(event: Any) -> None:
    """What becomes of an operation whose end nobody waits for."""


class Call:
    """A call that has sent its first request.

    Attributes:
        method: Path of the method, `/package.Service/Method`.
        metadata: What came with it.
        deadline: Until when the caller waits, seconds since 1970; far in the
            future if there is no deadline.
        request: The request's bytes.
        ended: Whether it was answered or refused.
    """

    def __init__(self, event: Any) -> None:
        """Takes what gRPC says of a new call."""
        self._call = event.call
        self._hang_up_is_watched = False
        self._has_sent = False
        # Whoever connects may send any bytes: they must not end our thread.
        self.method: str = event.call_details.method.decode(errors="replace")
        self.metadata: Metadata = event.invocation_metadata
        self.deadline: float = event.call_details.deadline
        self.request = b""
        self.ended = False

    def begin(self, on_hang_up: "Callable[[Call], None] | None") -> None:
        """Asks for the first request; the event's tag is the call.

        Args:
            on_hang_up: Is given the call if its caller goes before it ends.
        """
        if on_hang_up is not None:
            self._hang_up_is_watched = True

            def closed(event: Any) -> None:
                if event.batch_operations[0].cancelled():
                    on_hang_up(self)

            self._start(closed, cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS))
        self._start(self, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    def received(self, event: Any) -> bool:
        """Takes the first request from its event.

        Returns:
            Whether there is one. There is none from callers who have gone,
            and of requests that are too large; gRPC has refused those.
        """
        message = event.batch_operations[0].message()
        if message is None:
            return False
        self.request = message
        return True

    def answer(self, response: bytes, metadata: Metadata = ()) -> None:
        """Sends the response, and metadata after it; that ends the call."""
        self._end(
            cygrpc.SendMessageOperation(response, _NO_FLAGS),
            _status(grpc.StatusCode.OK, "", metadata),
        )

    def refuse(
        self, code: grpc.StatusCode, words: str, metadata: Metadata = ()
    ) -> None:
        """Sends a status without a response; that ends the call."""
        self._end(_status(code, words, metadata))

    def finish(self, metadata: Metadata = ()) -> None:
        """Says that there are no more responses; that ends the call."""
        self._end(_status(grpc.StatusCode.OK, "", metadata))

    def send(self, response: bytes, on_end: Callable[[Any], None]) -> None:
        """Sends one of several responses.

        Args:
            response: Its bytes.
            on_end: Is given the event once the next one may be sent.
        """
        self._send(on_end, cygrpc.SendMessageOperation(response, _NO_FLAGS))

    def receive(self, on_end: Callable[[Any], None]) -> None:
        """Asks for one of several requests.

        Args:
            on_end: Is given the event with the message, which is None when
                there are no more.
        """
        self._start(on_end, cygrpc.ReceiveMessageOperation(_NO_FLAGS))

    def _end(self, *operations: Any) -> None:
        self.ended = True
        if not self._hang_up_is_watched:
            close = cygrpc.ReceiveCloseOnServerOperation(_NO_FLAGS)
            operations = (*operations, close)
        self._send(_ignore, *operations)

    def _send(self, on_end: Callable[[Any], None], *operations: Any) -> None:
        if not self._has_sent:
            self._has_sent = True
            head = cygrpc.SendInitialMetadataOperation((), _NO_FLAGS)
            operations = (head, *operations)
        self._start(on_end, *operations)

    def _start(self, tag: object, *operations: Any) -> None:
        # To a caller who is gone nothing can be sent: that event says so.
        self._call.start_server_batch(operations, tag)


def _status(code: grpc.StatusCode, words: str, metadata: Metadata) -> Any:
    details = words.encode()
    if len(details) > MAX_WORDS_BYTES:
        # Not in the midst of a character.
        kept = details[:MAX_WORDS_BYTES].decode(errors="ignore")
        details = f"{kept}...".encode()
    return cygrpc.SendStatusFromServerOperation(
        tuple(metadata), code.value[0], details, _NO_FLAGS
    )
