"""A gateway told to end under load: it says so, finishes, and loses nothing."""

import contextlib
import signal
import threading
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import RecommenderClient
from serving.launch import start_gateway
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.store import LmdbStore, UserKey
from tests.helpers.oracle_backend import hold_adapt
from tests.helpers.patience import PATIENT_SECONDS, wait_until

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
            try:
                answer = stub.SubmitFeedback(
                    pb.SubmitFeedbackRequest(
                        user_id=f"u{user}", events=[event]
                    ),
                    timeout=PATIENT_SECONDS,
                )
            except grpc.RpcError as error:
                refusals.append((time.monotonic() - began, error.code()))
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
        wait_until(lambda: min(acknowledged) >= 2 and health)
        learning, go_on = hold_adapt(model_server.backend)
        assert learning.wait(PATIENT_SECONDS)
        told = time.monotonic() - began
        gateway.process.send_signal(signal.SIGTERM)
        wait_until(lambda: len(health) == 2)
        before = sum(acknowledged)
        go_on.set()
        for thread in threads:
            thread.join(PATIENT_SECONDS)
        assert gateway.process.wait(PATIENT_SECONDS) == 0
    assert [status for _, status in health] == [SERVING, NOT_SERVING]
    # What was under way is answered.
    assert sum(acknowledged) > before
    # Nobody was refused before the gateway had been told to end.
    assert len(refusals) == NUM_USERS
    for refused, code in refusals:
        assert refused >= told
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


def test_calls_and_learning_that_hang_share_one_grace(
    model_server, run_gateway
):
    grace = 6.0
    gateway = run_gateway(f"--grace-seconds={grace}")
    with grpc.insecure_channel(gateway.target) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        model_server.delay = 60.0
        before = model_server.calls
        event = pb.FeedbackEvent(event_id="1", item_id="003")
        answer = stub.SubmitFeedback.future(
            pb.SubmitFeedbackRequest(user_id="u", events=[event])
        )
        wait_until(lambda: model_server.calls > before)
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(PATIENT_SECONDS) == 0
        took = time.monotonic() - began
        assert answer.exception() is not None
    assert 0.8 * grace < took < 1.7 * grace


def test_clients_of_two_gateways_notice_nothing_when_one_drains(
    model_server, run_gateway, tmp_path
):
    """What a rolling update does, for callers with our client."""
    failures = []
    answers = [0] * NUM_USERS
    stopped = threading.Event()
    going = run_gateway()
    with contextlib.ExitStack() as stack:
        staying = stack.enter_context(
            start_gateway(
                model_server.target,
                {"adaptower": tmp_path / "models"},
                log_path=tmp_path / "staying.log",
                flags=[f"--backend-timeout-seconds={PATIENT_SECONDS}"],
            )
        )

        def rank(user, client):
            while not stopped.is_set():
                try:
                    client.rank(f"u{user}", ["003"])
                except grpc.RpcError as error:
                    failures.append(error)
                answers[user] += 1

        threads = []
        for user in range(NUM_USERS):
            client = stack.enter_context(
                RecommenderClient(
                    f"ipv4:{going.target},{staying.target}",
                    timeout_seconds=PATIENT_SECONDS,
                )
            )
            threads.append(threading.Thread(target=rank, args=(user, client)))
        for thread in threads:
            thread.start()
        wait_for_more(answers, 10)
        going.process.send_signal(signal.SIGTERM)
        assert going.process.wait(PATIENT_SECONDS) == 0
        wait_for_more(answers, 10)
        stopped.set()
        for thread in threads:
            thread.join()
    assert not failures


def wait_for_more(answers, count):
    """Waits until each counter has grown by so much."""
    enough = [answer + count for answer in answers]
    wait_until(
        lambda: all(a >= e for a, e in zip(answers, enough, strict=True))
    )
