"""Too much at once, over a real channel."""

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.security.admission import Admission
from serving.security.refusals import PUSHBACK
from tests.helpers.patience import PATIENT_SECONDS, wait_until

MAX_IN_FLIGHT = 4


@pytest.fixture
def counted():
    return []


@pytest.fixture
def admission(counted):
    return Admission(MAX_IN_FLIGHT, counted.append)


@pytest.fixture
def server(serve, admission):
    server = serve(
        [admission], options=[("grpc.max_receive_message_length", 100_000)]
    )
    server.call(server.service.slow.clear)
    yield server
    server.call(server.service.slow.set)


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(
        server.target, [("grpc.enable_retries", 0)]
    ) as channel:
        yield pb_grpc.RecommenderStub(channel)


REQUEST = pb.RankRequest(user_id="u")


def test_calls_beyond_the_bound_are_refused_and_the_others_answered(
    server, stub, counted
):
    futures = [stub.Rank.future(REQUEST, timeout=20) for _ in range(40)]
    wait_until(lambda: sum(f.done() for f in futures) == 40 - MAX_IN_FLIGHT)
    assert server.service.in_hand == server.service.calls == MAX_IN_FLIGHT
    server.call(server.service.slow.set)
    codes = [future.code() for future in futures]
    assert codes.count(grpc.StatusCode.OK) == MAX_IN_FLIGHT
    refused = [f for f in futures if f.code() != grpc.StatusCode.OK]
    for future in refused:
        assert future.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "--max-in-flight" in future.details()
        assert dict(future.trailing_metadata())[PUSHBACK] == "500"
    assert counted == [grpc.StatusCode.RESOURCE_EXHAUSTED] * len(refused)
    wait_until(lambda: server.service.in_hand == 0)
    assert stub.Rank(REQUEST, timeout=60) is not None


def test_cancelled_calls_give_their_places_back(server, stub):
    for _ in range(3):
        futures = [stub.Rank.future(REQUEST, timeout=20) for _ in range(4)]
        wait_until(lambda: server.service.in_hand == MAX_IN_FLIGHT)
        for future in futures:
            future.cancel()
        wait_until(lambda: server.service.in_hand == 0)


def test_failing_calls_give_their_places_back(stub):
    for _ in range(MAX_IN_FLIGHT + 1):
        with pytest.raises(grpc.RpcError) as failed:
            stub.SubmitFeedback(pb.SubmitFeedbackRequest(), timeout=60)
        # A place kept would have the last one refused.
        assert failed.value.code() == grpc.StatusCode.ABORTED


def test_health_answers_under_overload(server, stub):
    futures = [stub.Rank.future(REQUEST, timeout=20) for _ in range(10)]
    wait_until(lambda: server.service.in_hand == MAX_IN_FLIGHT)
    with grpc.insecure_channel(server.target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(), timeout=60
        )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for future in futures:
        future.cancel()


def test_expired_call_is_not_worked_on(server, stub):
    stands_still, blocker = threading.Event(), threading.Event()

    def block():
        stands_still.set()
        blocker.wait(10)

    # The server's loop stands still while the deadlines pass.
    holder = threading.Thread(target=server.call, args=(block,))
    holder.start()
    assert stands_still.wait(PATIENT_SECONDS)
    futures = [stub.Rank.future(REQUEST, timeout=0.1) for _ in range(3)]
    codes = [future.code() for future in futures]
    blocker.set()
    holder.join()
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED] * 3
    server.call(server.service.slow.set)
    stub.Rank(REQUEST, timeout=60)
    assert server.service.calls == 1


def test_oversized_message_is_refused(stub, server):
    with pytest.raises(grpc.RpcError) as refused:
        stub.Rank(pb.RankRequest(user_id="u" * 200_000), timeout=60)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in refused.value.details()
    assert server.service.calls == 0
