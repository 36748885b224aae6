"""What the gateway's flags say about security."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from serving.security.tls import ClientTls, ServerTls


@dataclasses.dataclass(frozen=True)
class SecurityConfig:
    """Who may call, how often, and over which connections.

    Attributes:
        tls: How the gateway shows who it is; None speaks plain gRPC.
        tokens: The tokens file; None lets everybody call everything.
        max_in_flight: Calls worked on at once.
        feedback_per_second: Events that one user may send, in the long run.
        feedback_burst: Events that one user may send at once.
    """

    tls: ServerTls | None = None
    tokens: Path | None = None
    max_in_flight: int = 512
    feedback_per_second: float = 10.0
    feedback_burst: int = 1_000


def add_security_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that `take_security_config` reads."""
    group = parser.add_argument_group("security")
    default = SecurityConfig()
    for flag, text in (
        ("--tls-certificate", "certificate chain of the gateway (PEM)"),
        ("--tls-key", "its private key (PEM)"),
        (
            "--tls-client-ca",
            "authorities (PEM); clients must show a certificate of theirs",
        ),
        (
            "--tokens",
            "tokens file; callers must show a bearer token with the right "
            "scope. `python -m serving.security` makes them",
        ),
    ):
        group.add_argument(flag, type=Path, metavar="FILE", help=text)
    group.add_argument(
        "--max-in-flight",
        type=int,
        default=default.max_in_flight,
        metavar="N",
        help="calls worked on at once; more are refused with "
        "RESOURCE_EXHAUSTED; default: %(default)s",
    )
    group.add_argument(
        "--feedback-per-second",
        type=float,
        default=default.feedback_per_second,
        metavar="R",
        help="events of one user in the long run; default: %(default)s",
    )
    group.add_argument(
        "--feedback-burst",
        type=int,
        default=default.feedback_burst,
        metavar="N",
        help="events of one user at once; default: %(default)s",
    )


def add_backend_tls_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that say how the model server is known."""
    group = parser.add_argument_group("TLS of the model server")
    for flag, text in (
        ("--backend-ca", "authorities (PEM) that vouch for the model server"),
        ("--backend-certificate", "certificate shown to the model server"),
        ("--backend-key", "its private key (PEM)"),
    ):
        group.add_argument(flag, type=Path, metavar="FILE", help=text)


def take_backend_tls(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> ClientTls | None:
    """Takes what `add_backend_tls_flags` added out of parsed flags."""
    ca, own, own_key = (
        flags.pop(name)
        for name in ("backend_ca", "backend_certificate", "backend_key")
    )
    if (own is None) != (own_key is None):
        parser.error("--backend-certificate and --backend-key go together")
    return ClientTls(ca, own, own_key) if ca or own else None


def take_security_config(
    flags: dict[str, Any], parser: argparse.ArgumentParser
) -> SecurityConfig:
    """Takes what `add_security_flags` added out of parsed flags."""
    certificate, key, client_ca = (
        flags.pop(name)
        for name in ("tls_certificate", "tls_key", "tls_client_ca")
    )
    if (certificate is None) != (key is None):
        parser.error("--tls-certificate and --tls-key go together")
    if client_ca is not None and certificate is None:
        parser.error(
            "--tls-client-ca needs --tls-certificate and --tls-key as well"
        )
    limits = {
        name: flags.pop(name)
        for name in ("max_in_flight", "feedback_per_second", "feedback_burst")
    }
    for name, value in limits.items():
        if not value > 0:
            parser.error(f"--{name.replace('_', '-')} must be more than 0")
    return SecurityConfig(
        tls=ServerTls(certificate, key, client_ca) if certificate else None,
        tokens=flags.pop("tokens"),
        **limits,
    )
