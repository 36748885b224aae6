"""How clients connect, show who they are, and try again.

Retries are gRPC's own (gRFC A6): with jittered, growing pauses, within the
one deadline of the call, obeying what the gateway says about when, and
throttled, so that a gateway in trouble is not buried in retries. Only calls
that the gateway broke off or never got are sent again (UNAVAILABLE, and
CANCELLED for those that reach a server of gRPC's between its decision to
close and the client's hearing of it), and those that lost a race (ABORTED);
every call of ours may be: reads change nothing, a user deleted twice is
deleted, and an event counts once by its id. What a caller cancels ends there.
"""

import copy
import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

from serving.client.errors import PlaintextTokenError
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.tls import ClientTls, channel_credentials

DEFAULT_TIMEOUT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 16 << 20
MAX_ATTEMPTS = 5

_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{"service": "adaptower.v1.Recommender"}],
                "retryPolicy": {
                    "maxAttempts": MAX_ATTEMPTS,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": [
                        "UNAVAILABLE",
                        "CANCELLED",
                        "ABORTED",
                    ],
                },
            }
        ],
        # Each failure takes a token, each success gives a tenth; no retries
        # while half of them are gone.
        "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
    }
)
CHANNEL_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Longer requests would be sent once only.
    ("grpc.per_rpc_retry_buffer_size", MAX_MESSAGE_BYTES),
    # A gateway that comes back is found within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
)
# "127.shop.example" is a name like any other.
_THIS_MACHINE = re.compile(r"(localhost|127(\.\d+){3}|\[::1\]|unix):")


@dataclasses.dataclass(frozen=True)
class CallOptions:
    """What goes along with each call.

    Attributes:
        timeout_seconds: Deadline of a call, retries included.
        token: Bearer token, or what returns it; asked anew for each call, so
            that it may change.
        request_id: What the gateway's logs and traces shall call requests;
            None lets the gateway choose.
    """

    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    token: str | Callable[[], str] | None = None
    request_id: str | None = None

    def keywords(self) -> dict[str, Any]:
        """Returns keyword arguments for a method of a stub."""
        metadata = []
        if self.token is not None:
            token = self.token if isinstance(self.token, str) else self.token()
            metadata.append(("authorization", f"Bearer {token}"))
        if self.request_id is not None:
            metadata.append(("x-request-id", self.request_id))
        return {
            "timeout": self.timeout_seconds,
            "metadata": metadata,
            "wait_for_ready": True,
        }


_Client = TypeVar("_Client", bound="ConnectedClient")


class ConnectedClient:
    """A connection and what goes along with its calls.

    A subclass says which of gRPC's two ways to wait is its own.
    """

    # The module `grpc` or `grpc.aio`; both make channels alike.
    _transport: ClassVar[Any]

    def __init__(
        self,
        target: str,
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        *,
        tls: ClientTls | None = None,
        token: str | Callable[[], str] | None = None,
        plaintext_token: bool = False,
    ) -> None:
        """Connects on the first call.

        Args:
            target: `host:port` of the gateway.
            timeout_seconds: Deadline of each call, retries included.
            tls: How to know the gateway, and to show who we are; None speaks
                plain gRPC.
            token: Bearer token, or what returns the current one.
            plaintext_token: Send the token over a plain connection even to
                another machine, as inside a mesh that encrypts by itself.

        Raises:
            PlaintextTokenError: The token would travel unencrypted.
            LaunchError: A TLS file can't be used.
        """
        if tls is not None:
            self._channel = self._transport.secure_channel(
                target, channel_credentials(tls), CHANNEL_OPTIONS
            )
        elif token is None or plaintext_token or _is_local(target):
            self._channel = self._transport.insecure_channel(
                target, CHANNEL_OPTIONS
            )
        else:
            raise PlaintextTokenError(
                f"The token would travel to {target} readable by everyone on "
                "the way. Connect with tls=ClientTls(...), or, where the "
                "network encrypts by itself, say plaintext_token=True."
            )
        self._stub = pb_grpc.RecommenderStub(self._channel)
        self._options = CallOptions(timeout_seconds, token)

    def with_options(
        self: _Client,
        timeout_seconds: float | None = None,
        request_id: str | None = None,
    ) -> _Client:
        """Returns a client for some calls, over the same connection.

        Args:
            timeout_seconds: Their deadline, if another.
            request_id: What the gateway's logs shall call them.
        """
        client = copy.copy(self)
        client._options = dataclasses.replace(
            self._options,
            timeout_seconds=timeout_seconds or self._options.timeout_seconds,
            request_id=request_id or self._options.request_id,
        )
        return client


def _is_local(target: str) -> bool:
    return _THIS_MACHINE.match(target) is not None
