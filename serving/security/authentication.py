"""Lets in only calls that show a token with the right scope."""

from collections.abc import Awaitable, Callable

import grpc
import grpc.aio

from serving.errors import (
    PermissionDeniedError,
    ServingError,
    UnauthenticatedError,
    status_of,
)
from serving.security.caller import Caller, set_caller
from serving.security.refusals import CountRefusal, refusal
from serving.security.scopes import ADMIN, is_open, needed_scope
from serving.security.tokens import TokenFile

AUTHORIZATION = "authorization"


class Authentication(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Refuses calls before their request is read, and before any store is."""

    def __init__(
        self, tokens: TokenFile, count: CountRefusal = lambda _: None
    ) -> None:
        self._tokens = tokens
        self._count = count

    async def intercept_service(
        self,
        continuation: Callable[
            [grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]
        ],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Answers with a refusal, or lets the call through."""
        method = handler_call_details.method
        if not is_open(method):
            try:
                set_caller(
                    self._authorized(
                        method, handler_call_details.invocation_metadata
                    )
                )
            except ServingError as error:
                self._count(status_of(error))
                return refusal(error)
        return await continuation(handler_call_details)

    def _authorized(
        self, method: str, metadata: tuple[tuple[str, str | bytes], ...]
    ) -> Caller:
        """Returns the caller.

        Raises:
            UnauthenticatedError: There is no valid token.
            PermissionDeniedError: It may not call this method.
        """
        headers = [value for key, value in metadata if key == AUTHORIZATION]
        if len(headers) != 1 or not isinstance(headers[0], str):
            raise UnauthenticatedError(
                "This gateway asks for a token: send one header "
                "'authorization: Bearer NAME.SECRET'."
            )
        caller = self._tokens.caller_of(headers[0])
        needed = needed_scope(method)
        if needed not in caller.scopes and ADMIN not in caller.scopes:
            raise PermissionDeniedError(
                f"The token {caller.name!r} may not call {method}: that needs "
                f"the scope {needed!r}, it has "
                f"{', '.join(sorted(caller.scopes))}."
            )
        return caller
