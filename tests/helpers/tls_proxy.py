"""Ends TLS in front of a server that can't: bytes go through as they are."""

import contextlib
import socket
import ssl
import threading


class TlsProxy:
    """Listens with TLS, and connects to a plain port.

    Attributes:
        port: Where it listens.
    """

    def __init__(self, pair, client_ca, target_port):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*map(str, pair))
        if client_ca is not None:
            self._context.load_verify_locations(str(client_ca))
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(
                    target=self._serve, args=(plain,), daemon=True
                ).start()

    def _serve(self, accepted):
        with contextlib.suppress(OSError):
            secured = self._context.wrap_socket(accepted, server_side=True)
            behind = socket.create_connection(("127.0.0.1", self._target_port))
            threading.Thread(
                target=_copy, args=(secured, behind), daemon=True
            ).start()
            _copy(behind, secured)


def _copy(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
