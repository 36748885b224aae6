"""A gRPC server for tests of clients and interceptors, over a real channel."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import trustme
from grpc_health.v1 import health, health_pb2_grpc

from serving.ports import free_port
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.tls import ServerTls
from serving.security.wiring import listen


class RunningServer:
    """A Recommender of the test's own, in a thread with its own loop."""

    def __init__(
        self,
        make_service: Callable[[], pb_grpc.RecommenderServicer],
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        tls: ServerTls | None = None,
        options: Sequence[tuple[str, object]] = (),
        port: int = 0,
        make_server: Callable[..., Any] = grpc.aio.server,
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, daemon=True
        )
        self._thread.start()
        self.port = port or free_port()
        self.target = f"localhost:{self.port}"
        self._run(
            self._start(make_service, interceptors, tls, options, make_server)
        )

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(
            20
        )

    async def _start(
        self, make_service, interceptors, tls, options, make_server
    ):
        self.service = make_service()
        self._server = make_server(interceptors=interceptors, options=options)
        pb_grpc.add_RecommenderServicer_to_server(self.service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(
            health.aio.HealthServicer(), self._server
        )
        listen(self._server, "localhost", self.port, tls)
        await self._server.start()

    def call(self, function: Callable[[], object]) -> None:
        """Runs something in the server's loop."""

        async def run():
            function()

        self._run(run())

    def stop(self) -> None:
        self._run(self._server.stop(0))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()


def write_pair(
    certificate: trustme.LeafCert, folder: Path, name: str
) -> tuple[Path, Path]:
    """Writes certificate chain and key as PEM files."""
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(
        b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    )
    key.write_bytes(certificate.private_key_pem.bytes())
    return chain, key
