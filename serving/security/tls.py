"""TLS for the gateway and for those who connect, from files.

Certificates that are renewed in place are taken up by the next handshake: a
gateway need not be restarted every ninety days.
"""

import dataclasses
import logging
import ssl
from pathlib import Path

import grpc

from serving.errors import LaunchError

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ServerTls:
    """How a server shows who it is.

    Attributes:
        certificate: PEM file with its certificate chain.
        key: PEM file with the private key.
        client_ca: PEM file with the authorities whose clients may connect;
            None lets every client connect.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclasses.dataclass(frozen=True)
class ClientTls:
    """How a client knows the server, and shows who it is.

    Attributes:
        ca: PEM file with the authorities that may vouch for the server; None
            for those that gRPC brings along.
        certificate: PEM file with the client's own certificate chain, for
            servers that ask for one.
        key: PEM file with its private key.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None


def server_credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Returns credentials that follow the files.

    Raises:
        LaunchError: A file can't be read, or they do not belong together.
    """
    files = _FollowedFiles(tls)
    return grpc.dynamic_ssl_server_credentials(
        files.configuration,
        files.changed_configuration,
        require_client_authentication=tls.client_ca is not None,
    )


def channel_credentials(tls: ClientTls) -> grpc.ChannelCredentials:
    """Returns credentials for a connection.

    Raises:
        LaunchError: A file can't be read, or they do not belong together.
    """
    if (tls.certificate is None) != (tls.key is None):
        raise LaunchError(
            "A client certificate and its key go together: give both or none."
        )
    if tls.certificate and tls.key:
        _check_pair(tls.certificate, tls.key)
    if tls.ca:
        _check_authorities(tls.ca)
    return grpc.ssl_channel_credentials(
        root_certificates=_read(tls.ca) if tls.ca else None,
        private_key=_read(tls.key) if tls.key else None,
        certificate_chain=_read(tls.certificate) if tls.certificate else None,
    )


class _FollowedFiles:
    """Files of a server, read again when one of them changes."""

    def __init__(self, tls: ServerTls) -> None:
        self._tls = tls
        self._seen = self._states()
        self.configuration = self._read_all()

    def changed_configuration(
        self,
    ) -> grpc.ServerCertificateConfiguration | None:
        """Returns the new configuration, or None; gRPC asks per handshake."""
        try:
            states = self._states()
            if states == self._seen:
                return None
            configuration = self._read_all()
        except LaunchError as error:
            # In the middle of a renewal, certificate and key differ.
            _log.warning("The certificate stays as it was: %s", error)
            return None
        self._seen = states
        _log.info("Took up the certificate in %s", self._tls.certificate)
        return configuration

    def _read_all(self) -> grpc.ServerCertificateConfiguration:
        _check_pair(self._tls.certificate, self._tls.key)
        if self._tls.client_ca:
            _check_authorities(self._tls.client_ca)
        return grpc.ssl_server_certificate_configuration(
            [(_read(self._tls.key), _read(self._tls.certificate))],
            root_certificates=(
                _read(self._tls.client_ca) if self._tls.client_ca else None
            ),
        )

    def _states(self) -> tuple[tuple[int, int], ...]:
        paths = (self._tls.certificate, self._tls.key, self._tls.client_ca)
        try:
            states = [path.stat() for path in paths if path is not None]
        except OSError as error:
            raise LaunchError(f"Can't read a TLS file: {error}") from error
        return tuple((state.st_mtime_ns, state.st_ino) for state in states)


def _check_pair(certificate: Path, key: Path) -> None:
    """Says it now: gRPC only fails each handshake, without a word why."""
    try:
        ssl.create_default_context().load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise LaunchError(
            f"{certificate} and {key} can't be used as certificate and key "
            f"(PEM, without a passphrase, made for each other): {error}"
        ) from error


def _check_authorities(path: Path) -> None:
    """Says it now: gRPC only fails to listen, or each handshake."""
    _read(path)
    try:
        ssl.create_default_context(cafile=path)
    except (OSError, ssl.SSLError) as error:
        raise LaunchError(
            f"{path} holds no certificates of authorities (PEM): {error}"
        ) from error


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise LaunchError(f"Can't read a TLS file: {error}") from error
    if b"-----BEGIN" not in content:
        raise LaunchError(f"{path} is not a PEM file.")
    return content
