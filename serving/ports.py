"""Ports of this machine, for servers that are started on it."""

import socket
import sys

from serving.errors import LaunchError

HOST = "127.0.0.1"

# Bound for as long as we live; see `free_port`.
_kept: list[socket.socket] = []


def free_port() -> int:
    """Returns a port that nobody listens on at the moment.

    On Linux nobody else is given it while this process lives: until the
    server that it is for has begun to listen, which takes seconds, others
    start servers, too. Who names the port can bind it all the same, as
    servers do: with SO_REUSEADDR, and while this socket does not listen.
    """
    probe = socket.socket()
    keeps = sys.platform == "linux"
    if keeps:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept.append(probe)
    probe.bind((HOST, 0))
    port = int(probe.getsockname()[1])
    if not keeps:
        probe.close()
    return port


def require_free(port: int, name: str) -> None:
    """Makes sure that nobody listens on a port.

    Another server's answers must not be taken for the new one's.

    Args:
        port: Where a server is to listen.
        name: What it is, in words.

    Raises:
        LaunchError: Somebody listens on the port.
    """
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) == 0:
            raise LaunchError(
                f"The {name} can't listen on {HOST}:{port}: somebody does "
                "already. Is another one running? End it, or choose another "
                "port."
            )
