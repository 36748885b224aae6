"""Ports of this machine, for servers that are started on it."""

import socket

from serving.errors import LaunchError

HOST = "127.0.0.1"


def free_port() -> int:
    """Returns a port that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
