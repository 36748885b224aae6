"""Retries, deadlines, tokens and TLS against a real server."""

import asyncio

import grpc
import pytest
import trustme

from serving.client import (
    AsyncRecommenderClient,
    ClientTls,
    FeedbackEvent,
    PlaintextTokenError,
    RecommenderClient,
    retry_after_seconds,
)
from serving.client.connection import MAX_ATTEMPTS
from serving.errors import OverloadedError
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.refusals import refuse
from serving.security.tls import ServerTls
from tests.helpers.recommender_server import RunningServer, write_pair

OK = None


class Scripted(pb_grpc.RecommenderServicer):
    """Answers with the next status of a script; OK when it is at its end."""

    def __init__(self) -> None:
        self.script: list[object] = []
        self.requests: list[object] = []
        self.metadata: dict[str, str] = {}
        self.remaining = 0.0

    async def Rank(self, request, context):
        await self._step(request, context)
        return pb.RankResponse(scores=[0.0] * len(request.item_ids))

    async def SubmitFeedback(self, request, context):
        await self._step(request, context)
        return pb.SubmitFeedbackResponse(accepted=len(request.events))

    async def _step(self, request, context):
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        self.remaining = context.time_remaining()
        step = self.script.pop(0) if self.script else OK
        if isinstance(step, grpc.StatusCode):
            await context.abort(step, "as the script says")
        if isinstance(step, Exception):
            await refuse(context, step)
        if isinstance(step, float):
            await asyncio.sleep(step)


@pytest.fixture
def server():
    with RunningServer(Scripted) as server:
        yield server


@pytest.fixture
def client(server):
    with RecommenderClient(server.target) as client:
        yield client


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    ],
)
def test_broken_off_call_is_sent_again_as_it_was(server, client, status):
    server.service.script = [status, status]
    events = [FeedbackEvent("e1", "7", 1.0)]
    assert client.submit_feedback("u", events).accepted == 1
    first, second, third = server.service.requests
    assert first == second == third


@pytest.mark.parametrize(
    "status",
    [
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.DATA_LOSS,
    ],
)
def test_refused_call_is_sent_once(server, client, status):
    server.service.script = [status] * 5
    with pytest.raises(grpc.RpcError) as refused:
        client.rank("u", ["7"])
    assert refused.value.code() == status
    assert len(server.service.requests) == 1


def test_call_that_its_caller_gives_up_is_not_sent_again(server):
    async def give_up():
        async with AsyncRecommenderClient(server.target) as client:
            ranking = asyncio.ensure_future(client.rank("u", ["7"]))
            while not server.service.requests:
                await asyncio.sleep(0.01)
            ranking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await ranking
            await client.rank("v", ["7"])

    server.service.script = [60.0]
    asyncio.run(give_up())
    assert [r.user_id for r in server.service.requests] == ["u", "v"]


def test_retries_end(server, client):
    server.service.script = [grpc.StatusCode.UNAVAILABLE] * 20
    with pytest.raises(grpc.RpcError) as failed:
        client.rank("u", ["7"])
    assert failed.value.code() == grpc.StatusCode.UNAVAILABLE
    assert len(server.service.requests) == MAX_ATTEMPTS


def test_one_deadline_holds_for_all_tries(server, client):
    server.service.script = [grpc.StatusCode.UNAVAILABLE, 5.0]
    with pytest.raises(grpc.RpcError) as failed:
        client.with_options(timeout_seconds=0.5).rank("u", ["7"])
    # Not UNAVAILABLE, nor the answer that the second try gives at last.
    assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # What the second try had left, it was told.
    assert server.service.remaining < 0.6


def test_gateway_in_trouble_is_not_buried_in_retries(server, client):
    server.service.script = [grpc.StatusCode.UNAVAILABLE] * 1000
    for _ in range(60):
        with pytest.raises(grpc.RpcError):
            client.with_options(timeout_seconds=3).rank("u", ["7"])
    assert len(server.service.requests) <= 60 + 10 + MAX_ATTEMPTS


def test_client_waits_for_a_gateway_to_come_up(server):
    port = server.port
    server.stop()
    server.stop = lambda: None
    with RecommenderClient(f"localhost:{port}") as client:
        with pytest.raises(grpc.RpcError) as failed:
            client.with_options(timeout_seconds=0.2).rank("u", ["7"])
        assert failed.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        with RunningServer(Scripted, port=port):
            assert len(client.rank("u", ["7"]).scores) == 1


def test_refusal_tells_when_to_come_again(server, client):
    server.service.script = [OverloadedError("too much", 1.25)]
    with pytest.raises(grpc.RpcError) as refused:
        client.rank("u", ["7"])
    assert retry_after_seconds(refused.value) == 1.25
    server.service.script = [grpc.StatusCode.INTERNAL]
    with pytest.raises(grpc.RpcError) as refused:
        client.rank("u", ["7"])
    assert retry_after_seconds(refused.value) is None


def test_aio_client_is_told_as_well(server):
    async def refused():
        async with AsyncRecommenderClient(server.target) as client:
            with pytest.raises(grpc.RpcError) as refusal:
                await client.rank("u", ["7"])
            return refusal.value

    server.service.script = [OverloadedError("too much", 1.25)]
    assert retry_after_seconds(asyncio.run(refused())) == 1.25


def test_options_go_along_with_calls_and_leave_the_client_as_it_is(
    server, client
):
    client.with_options(request_id="r-1", timeout_seconds=2).rank("u", ["7"])
    assert server.service.metadata["x-request-id"] == "r-1"
    assert server.service.remaining < 2.5
    client.rank("u", ["7"])
    assert "x-request-id" not in server.service.metadata
    assert server.service.remaining > 2.5


def test_token_goes_along_and_may_change(server):
    tokens = iter(["a.1", "a.2"])
    with RecommenderClient(server.target, token=lambda: next(tokens)) as client:
        client.rank("u", ["7"])
        assert server.service.metadata["authorization"] == "Bearer a.1"
        client.rank("u", ["7"])
        assert server.service.metadata["authorization"] == "Bearer a.2"


@pytest.mark.parametrize("kind", [RecommenderClient, AsyncRecommenderClient])
@pytest.mark.parametrize("host", ["gateway", "127", "127.0.0.1", "localhost"])
def test_token_in_plaintext_to_another_machine_is_refused(kind, host):
    with pytest.raises(PlaintextTokenError, match="tls=ClientTls"):
        kind(f"{host}.gateway.example:8600", token="a.1")


@pytest.mark.parametrize(
    "target", ["localhost:1", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:a"]
)
def test_token_in_plaintext_goes_to_this_machine(target):
    RecommenderClient(target, token="a.1").close()


def test_token_in_plaintext_may_be_allowed():
    RecommenderClient(
        "gateway.example:8600", token="a.1", plaintext_token=True
    ).close()


def test_tls_with_token_for_both_clients(tmp_path):
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    server_pair = write_pair(
        authority.issue_cert("localhost"), tmp_path, "server"
    )
    own_pair = write_pair(authority.issue_cert("web"), tmp_path, "client")

    async def rank_async(target, **options):
        async with AsyncRecommenderClient(target, **options) as client:
            return await client.rank("u", ["7"])

    with RunningServer(
        Scripted, tls=ServerTls(*server_pair, client_ca=ca)
    ) as server:
        options = {"tls": ClientTls(ca, *own_pair), "token": "a.1"}
        with RecommenderClient(server.target, **options) as client:
            assert len(client.rank("u", ["7"]).scores) == 1
        assert server.service.metadata["authorization"] == "Bearer a.1"
        ranked = asyncio.run(rank_async(server.target, **options))
        assert len(ranked.scores) == 1


def test_aio_client_retries_as_well(server):
    async def rank():
        async with AsyncRecommenderClient(server.target) as client:
            other = client.with_options(timeout_seconds=3)
            return await other.rank("u", ["7"])

    server.service.script = [grpc.StatusCode.UNAVAILABLE]
    assert len(asyncio.run(rank()).scores) == 1
    assert len(server.service.requests) == 2
