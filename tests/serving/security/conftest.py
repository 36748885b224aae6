"""A gRPC server behind the interceptors, certificates and tokens."""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import grpc
import grpc.aio
import pytest
import trustme
import yaml

from serving.errors import PermissionDeniedError
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.rpc.async_server import AsyncServer
from serving.security.caller import check_user
from serving.security.refusals import refuse
from serving.security.tls import ServerTls
from tests.helpers.recommender_server import RunningServer, write_pair

SECRETS = {
    "web": "s3cret-of-web",
    "shop-a": "s3cret-of-shop-a",
    "old": "s3cret-of-old",
    "boss": "s3cret-of-boss",
}


class Recommender(pb_grpc.RecommenderServicer):
    """Counts the calls that get through, and those it works on."""

    def __init__(self) -> None:
        self.calls = 0
        self.in_hand = 0
        self.slow = asyncio.Event()
        self.slow.set()

    async def Rank(self, request, context):
        self.calls += 1
        self.in_hand += 1
        try:
            await self.slow.wait()
            check_user(request.user_id)
        except PermissionDeniedError as error:
            await refuse(context, error)
        finally:
            self.in_hand -= 1
        return pb.RankResponse()

    async def SubmitFeedback(self, request, context):
        await context.abort(grpc.StatusCode.ABORTED, "as ever")

    async def DeleteUser(self, request, context):
        self.calls += 1
        return pb.DeleteUserResponse()


@pytest.fixture(params=[grpc.aio.server, AsyncServer], ids=["aio", "rpc"])
def serve(
    request: pytest.FixtureRequest,
) -> Iterator[Callable[..., RunningServer]]:
    """Starts servers; they end with the test."""
    with contextlib.ExitStack() as stack:

        def start(
            interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
            tls: ServerTls | None = None,
            options: Sequence[tuple[str, object]] = (),
        ) -> RunningServer:
            return stack.enter_context(
                RunningServer(
                    Recommender,
                    interceptors,
                    tls,
                    options,
                    make_server=request.param,
                )
            )

        yield start


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


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
