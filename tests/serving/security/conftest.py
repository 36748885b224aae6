"""A gRPC server behind the interceptors, in a thread with its own loop."""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme
import yaml
from grpc_health.v1 import health, health_pb2_grpc

from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.caller import check_user, current_caller
from serving.security.refusals import refuse
from serving.security.tls import ServerTls, server_credentials

SECRETS = {
    "web": "s3cret-of-web",
    "shop-a": "s3cret-of-shop-a",
    "old": "s3cret-of-old",
    "boss": "s3cret-of-boss",
}


class Recommender(pb_grpc.RecommenderServicer):
    """Says who called; counts the calls that get through."""

    def __init__(self) -> None:
        self.calls = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def Rank(self, request, context):
        self.calls += 1
        await self.slow.wait()
        try:
            check_user(request.user_id)
        except Exception as error:
            await refuse(context, error)
        caller = current_caller()
        return pb.RankResponse(
            provenance=pb.Provenance(model=caller.name if caller else "")
        )

    async def DeleteUser(self, request, context):
        self.calls += 1
        return pb.DeleteUserResponse()


class RunningServer:
    """A server in a thread of its own."""

    def __init__(
        self,
        interceptors: Sequence[grpc.aio.ServerInterceptor],
        tls: ServerTls | None,
        options: Sequence[tuple[str, object]],
    ) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._run(self._start(interceptors, tls, options))

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(
            20
        )

    async def _start(self, interceptors, tls, options) -> None:
        self.service = Recommender()
        self._server = grpc.aio.server(
            interceptors=interceptors, options=options
        )
        pb_grpc.add_RecommenderServicer_to_server(self.service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(
            health.aio.HealthServicer(), self._server
        )
        address = "localhost:0"
        self.port = (
            self._server.add_secure_port(address, server_credentials(tls))
            if tls
            else self._server.add_insecure_port(address)
        )
        self.target = f"localhost:{self.port}"
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


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """Starts servers; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
            tls: ServerTls | None = None,
            options: Sequence[tuple[str, object]] = (),
        ) -> RunningServer:
            server = RunningServer(interceptors, tls, options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


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


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def server_tls(authority: trustme.CA, tmp_path: Path) -> ServerTls:
    return ServerTls(
        *write_pair(authority.issue_cert("localhost"), tmp_path, "server")
    )


def token_entry(name: str, *scopes: str, **more: object) -> dict[str, object]:
    digest = hashlib.sha256(SECRETS[name].encode()).hexdigest()
    return {"name": name, "sha256": digest, "scopes": list(scopes), **more}


@pytest.fixture
def tokens_path(tmp_path: Path) -> Path:
    path = tmp_path / "tokens.yaml"
    entries = [
        token_entry("web", "rank", "feedback"),
        token_entry("shop-a", "rank", users="shop-a:"),
        token_entry("old", "rank", expires="2020-01-01T00:00:00Z"),
        token_entry("boss", "admin"),
    ]
    path.write_text(yaml.safe_dump({"tokens": entries}))
    return path
