"""A gateway told to end under load: it says so, finishes, and loses nothing."""

import signal
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.store import LmdbStore, UserKey

pytestmark = pytest.mark.fault

NUM_USERS = 6
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def test_drain_is_announced_and_breaks_nothing_off(
    gateway, model_server, tmp_path
):
    model_server.delay = 0.2
    acknowledged = [0] * NUM_USERS
    refusals = []
    health = []
    began = time.monotonic()

    def submit(user, stub):
        number = 0
        while True:
            number += 1
            event = pb.FeedbackEvent(event_id=str(number), item_id="003")
            sent = time.monotonic() - began
            try:
                answer = stub.SubmitFeedback(
                    pb.SubmitFeedbackRequest(
                        user_id=f"u{user}", events=[event]
                    ),
                    timeout=10,
                )
            except grpc.RpcError as error:
                refusals.append((sent, error.code()))
                return
            acknowledged[user] += answer.accepted

    def watch(channel):
        try:
            for answer in health_pb2_grpc.HealthStub(channel).Watch(
                health_pb2.HealthCheckRequest()
            ):
                health.append((time.monotonic() - began, answer.status))
        except grpc.RpcError:
            pass

    with grpc.insecure_channel(
        gateway.target, [("grpc.enable_retries", 0)]
    ) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        threads = [
            threading.Thread(target=submit, args=(user, stub))
            for user in range(NUM_USERS)
        ]
        threads.append(threading.Thread(target=watch, args=(channel,)))
        for thread in threads:
            thread.start()
        while min(acknowledged) < 2:
            time.sleep(0.01)
        told = time.monotonic() - began
        gateway.process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(20)
        assert gateway.process.wait(20) == 0
    assert [status for _, status in health] == [SERVING, NOT_SERVING]
    # Whoever was refused came after the gateway had been told to end.
    assert len(refusals) == NUM_USERS
    for sent, code in refusals:
        assert sent >= told - 0.01
        # CANCELLED is what gRPC makes of a call that comes in the very moment
        # in which a server closes; it was not begun either.
        assert code in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.CANCELLED,
        )
    with LmdbStore(tmp_path / "store") as store:
        for user, count in enumerate(acknowledged):
            record = store.get(UserKey("adaptower", f"u{user}"))
            assert record.support_count == count
