"""What clients raise, and what refusals tell.

What the gateway refuses is raised as `grpc.RpcError`, with its status and
explanation.
"""

import grpc

from serving.errors import ServingError
from serving.security.refusals import PUSHBACK


class PlaintextTokenError(ServingError):
    """A token would be sent unencrypted to another machine."""


def retry_after_seconds(error: grpc.RpcError) -> float | None:
    """Returns when a refused call may be tried again, if the gateway says."""
    for key, value in error.trailing_metadata() or ():
        if key == PUSHBACK:
            return int(value) / 1000
    return None
