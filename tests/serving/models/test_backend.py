"""Calls to model servers that are slow, gone, or several."""

import asyncio
import time

import grpc
import numpy as np
import pytest
import trustme

from serving.errors import (
    BackendDeadlineError,
    BackendUnavailableError,
    ServingError,
    UnknownModelError,
)
from serving.models.backend import ModelServer
from serving.protos import tf_serving_pb2 as pb
from serving.security.tls import ClientTls, ServerTls
from serving.tf_serving import PREDICT, encode_tensor, string_tensor
from tests.helpers.oracle_model_server import OracleModelServer
from tests.helpers.patience import PATIENT_SECONDS
from tests.helpers.recommender_server import write_pair
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE


@pytest.fixture
def server():
    with OracleModelServer() as server:
        yield server


def rank_request(version=1):
    request = pb.PredictRequest(
        inputs={
            "segment": string_tensor([""], (1,)),
            "tags": string_tensor([""], (1, 1)),
            "age": encode_tensor(np.array([np.nan], np.float32)),
            "item_id": string_tensor(ITEM_IDS, (1, len(ITEM_IDS))),
            "adaptive_weights": encode_tensor(
                np.zeros((1, NUM_ADAPTIVE), np.float32)
            ),
        }
    )
    request.model_spec.name = "model0"
    request.model_spec.version.value = version
    request.model_spec.signature_name = "rank"
    return request.SerializeToString()


def call(target, times, timeout=10.0, tls=None):
    """Ranks; returns each outcome, an error or None."""

    async def one(backend):
        try:
            await backend.run("model0", rank_request())
        except ServingError as error:
            return error
        return None

    async def run():
        backend = ModelServer(target, timeout, tls)
        try:
            return [await one(backend) for _ in range(times)]
        finally:
            await backend.close()

    return asyncio.run(run())


def test_calls_are_spread_over_all_servers_of_a_name(server):
    with OracleModelServer() as other:
        servers = (server, other)

        async def run():
            backend = ModelServer(f"ipv4:{server.target},{other.target}", 10.0)
            give_up = time.monotonic() + PATIENT_SECONDS
            # Until both are connected, all calls go to one.
            while not all(each.calls for each in servers):
                assert time.monotonic() < give_up
                await backend.run("model0", rank_request())
            before = [each.calls for each in servers]
            for _ in range(40):
                await backend.run("model0", rank_request())
            await backend.close()
            return before

        before = asyncio.run(run())
        for each, calls in zip(servers, before, strict=True):
            assert each.calls - calls > 5


def test_call_that_a_dying_server_breaks_off_is_answered_by_the_other(server):
    other = OracleModelServer()
    other.delay = 0.5

    async def run():
        backend = ModelServer(f"ipv4:{server.target},{other.target}", 5.0)
        calls = []
        # Until it is connected, all calls go to the first server.
        while not other.running and len(calls) < 1000:
            call = backend.run("model0", rank_request())
            calls.append(asyncio.create_task(call))
            await asyncio.sleep(0.01)
        assert other.running
        await asyncio.to_thread(other.stop)
        answers = await asyncio.gather(*calls)
        await backend.close()
        return answers

    assert all(asyncio.run(run()))


def test_model_server_may_ask_for_a_certificate(tmp_path):
    authority = trustme.CA()
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    pairs = [
        write_pair(authority.issue_cert(name), tmp_path, name)
        for name in ("127.0.0.1", "gateway")
    ]
    tls = ServerTls(*pairs[0], client_ca=ca)
    with OracleModelServer(tls=tls) as server:
        assert call(server.target, 2, 5.0, ClientTls(ca, *pairs[1])) == (
            [None] * 2
        )
        for stranger in (None, ClientTls(ca)):
            (refused,) = call(server.target, 1, 5.0, stranger)
            assert isinstance(refused, BackendUnavailableError)
        assert server.calls == 2


def test_dead_server_fails_calls_at_once_and_gets_no_storm(server):
    server.status = grpc.StatusCode.UNAVAILABLE
    outcomes = call(server.target, 200)
    assert {type(error) for error in outcomes} == {BackendUnavailableError}
    # Five open the breaker, each tried twice at most; then trials, rarely.
    assert server.calls <= 20


def test_hanging_server_costs_few_deadlines(server):
    server.delay = 60.0
    outcomes = call(server.target, 30, timeout=0.1)
    late = [e for e in outcomes if isinstance(e, BackendDeadlineError)]
    # On a busy machine some are late before they have reached the server.
    assert server.calls <= len(late)
    assert 5 <= len(late) <= 10
    assert "DEADLINE_EXCEEDED" in str(late[0])


def test_server_that_comes_back_is_found(server):
    port = server.port

    async def run():
        backend = ModelServer(f"127.0.0.1:{port}", 10.0)
        await asyncio.to_thread(server.stop)
        for _ in range(20):
            with pytest.raises(BackendUnavailableError):
                await backend.run("model0", rank_request())
        with OracleModelServer(port=port):
            for _ in range(500):
                try:
                    return await backend.run("model0", rank_request())
                except BackendUnavailableError:
                    await asyncio.sleep(0.02)
        return None

    assert asyncio.run(run()) is not None


def test_error_of_the_model_does_not_open_the_breaker(server):
    server.backend.versions.clear()
    outcomes = call(server.target, 30)
    assert {type(error) for error in outcomes} == {UnknownModelError}
    assert server.calls == 30


def test_callers_without_patience_do_not_open_the_breaker(server):
    server.delay = 0.2

    async def run():
        backend = ModelServer(server.target, 60.0)
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await backend.forward(PREDICT, rank_request(), seconds=0.01)
            assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        answer = await backend.forward(PREDICT, rank_request(), seconds=60.0)
        await backend.close()
        return pb.PredictResponse.FromString(answer)

    assert "score" in asyncio.run(run()).outputs


def leave(backend):
    """Calls as the batcher does whose callers have all gone."""
    return asyncio.wait_for(backend.run("model0", rank_request()), 0.5)


def pass_on(backend):
    """Calls for somebody who waits less long than we do."""
    return backend.forward(PREDICT, rank_request(), seconds=0.5)


@pytest.mark.parametrize("ask", [leave, pass_on])
def test_server_that_hangs_longer_than_callers_wait_opens_the_breaker(
    server, ask
):
    server.delay = 60.0
    outcomes = []

    async def run():
        backend = ModelServer(server.target, 2.0)
        for _ in range(30):
            try:
                await ask(backend)
            except BackendUnavailableError:
                outcomes.append("at once")
                break
            except (asyncio.TimeoutError, grpc.aio.AioRpcError):
                outcomes.append("late")
        await backend.close()

    asyncio.run(run())
    assert outcomes.count("late") >= 5
    assert outcomes[-1] == "at once"
