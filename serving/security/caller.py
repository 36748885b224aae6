"""Who makes the call that is being answered.

Authentication sets it where the RPC comes in; gRPC runs the handler in the
same context, so whoever learns the user id of the request can check it here
without having it passed along.
"""

import contextvars
import dataclasses

from serving.errors import PermissionDeniedError


@dataclasses.dataclass(frozen=True)
class Caller:
    """A caller that has shown a valid token.

    Attributes:
        name: Name of the token, for logs.
        scopes: What it may call.
        user_prefix: It may act only for users whose id begins so; empty for
            all of them.
    """

    name: str
    scopes: frozenset[str]
    user_prefix: str = ""


_caller: contextvars.ContextVar[Caller | None] = contextvars.ContextVar(
    "caller", default=None
)


def set_caller(caller: Caller) -> None:
    """Says who makes the call of this context."""
    _caller.set(caller)


def check_user(user_id: str) -> None:
    """Checks that the caller may act for a user.

    Raises:
        PermissionDeniedError: The user is none of the caller's.
    """
    caller = _caller.get()
    if caller is not None and not user_id.startswith(caller.user_prefix):
        raise PermissionDeniedError(
            f"The token {caller.name!r} may act only for users whose id "
            f"begins with {caller.user_prefix!r}."
        )
