"""Puts what `SecurityConfig` asks for around a gRPC server."""

import logging

import grpc.aio

from serving.errors import LaunchError
from serving.rpc.async_server import AsyncServer
from serving.security.admission import Admission
from serving.security.authentication import Authentication
from serving.security.config import SecurityConfig
from serving.security.refusals import CountRefusal
from serving.security.tls import ServerTls, server_credentials
from serving.security.tokens import TokenFile

# gRPC's own default takes clients that ping more often than every five
# minutes for attackers and hangs up on them; proxies and NATs drop idle
# connections sooner than that.
KEEPALIVE_OPTIONS = (
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
_THIS_MACHINE = ("127.", "localhost", "[::1]")

_log = logging.getLogger(__name__)


def interceptors(
    security: SecurityConfig, count: CountRefusal
) -> tuple[grpc.aio.ServerInterceptor, ...]:
    """Returns what calls pass before their handler, outermost first.

    Who calls is asked first: strangers must not take the places of others.

    Raises:
        LaunchError: The tokens file can't be used.
    """
    admission = Admission(security.max_in_flight, count)
    if security.tokens is None:
        return (admission,)
    return Authentication(TokenFile(security.tokens), count), admission


def listen(
    server: AsyncServer, host: str, port: int, tls: ServerTls | None
) -> None:
    """Has a server listen, with TLS or without.

    Raises:
        LaunchError: The address can't be listened on, or a file not be used.
    """
    address = f"{host}:{port}"
    try:
        if tls is not None:
            server.add_secure_port(address, server_credentials(tls))
        else:
            server.add_insecure_port(address)
    except RuntimeError as error:
        raise LaunchError(
            f"Can't listen on {address}: {error}. Is another gateway running? "
            "Choose another port."
        ) from error


def warn_if_open(security: SecurityConfig, host: str) -> None:
    """Says in the log that everybody may do everything, if so."""
    if host.startswith(_THIS_MACHINE):
        return
    if security.tls is None:
        _log.warning(
            "No --tls-certificate: %s is readable by everyone on the way",
            host,
        )
    if security.tokens is None:
        _log.warning(
            "No --tokens: whoever reaches %s may read and delete users", host
        )
