"""Bounds the work in hand: what is too much is refused at once.

A queue without end answers everybody too late. With a bound, those let in are
answered in time, and those refused learn it within a millisecond, with a
hint when to try again (see Google's SRE book, "Handling Overload").
"""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from serving.errors import DeadlinePassedError, OverloadedError
from serving.security.refusals import CountRefusal, refusal, refuse
from serving.security.scopes import is_open

_RETRY_AFTER_SECONDS = 0.5


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Lets in so many calls at once; lives inside one event loop.

    Streams (health's Watch, reflection) are few, long and idle; they are not
    counted.
    """

    def __init__(
        self, max_in_flight: int, count: CountRefusal = lambda _: None
    ) -> None:
        """Sets it up.

        Args:
            max_in_flight: How many calls may be worked on at once.
            count: Told of each refusal.
        """
        self._max = max_in_flight
        self._count = count
        self._in_flight = 0

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Answers with a refusal, or lets the call through and counts it."""
        if is_open(handler_call_details.method):
            return await continuation(handler_call_details)
        if self._in_flight >= self._max:
            return refusal(self._overloaded())
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        return _with_behaviour(handler, self._counted(handler.unary_unary))

    def _counted(
        self, behaviour: Callable[[Any, Any], Awaitable[Any]]
    ) -> Callable[[Any, Any], Awaitable[Any]]:
        async def answer(
            request: Any, context: "grpc.aio.ServicerContext[Any, Any]"
        ) -> Any:
            # Calls that came in a burst were all let in before the first of
            # them got here.
            if self._in_flight >= self._max:
                await refuse(context, self._overloaded())
            if context.time_remaining() == 0:
                await refuse(context, self._too_late())
            self._in_flight += 1
            try:
                return await behaviour(request, context)
            finally:
                self._in_flight -= 1

        return answer

    def _overloaded(self) -> OverloadedError:
        self._count(grpc.StatusCode.RESOURCE_EXHAUSTED)
        return OverloadedError(
            f"The gateway is working on {self._max} calls, as many as it may "
            "(--max-in-flight). Try again later, or start more gateways.",
            _RETRY_AFTER_SECONDS,
        )

    def _too_late(self) -> DeadlinePassedError:
        self._count(grpc.StatusCode.DEADLINE_EXCEEDED)
        return DeadlinePassedError(
            "The deadline passed before work on the call began."
        )


def _with_behaviour(
    handler: grpc.RpcMethodHandler, behaviour: Callable[..., Any]
) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(
        behaviour, handler.request_deserializer, handler.response_serializer
    )
