"""A model server that is slow, hangs or is gone: nobody waits for it long."""

import threading
import time

import grpc
import pytest

from serving.client import FeedbackEvent, RecommenderClient
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from tests.helpers.oracle_model_server import (
    KEEP_NOTHING,
    OracleModelServer,
)
from tests.helpers.patience import PATIENT_SECONDS, wait_until

pytestmark = pytest.mark.fault

ITEMS = ["000", "003"]
THREADS = 12


@pytest.fixture
def gateway(run_gateway):
    return run_gateway(KEEP_NOTHING)


def rank_from_many_threads(client, seconds):
    """Ranks as fast as answers come; returns (status or None, seconds)."""
    outcomes = []
    end = time.monotonic() + seconds

    def call():
        while time.monotonic() < end:
            start = time.monotonic()
            code = None
            try:
                client.rank("u", ITEMS)
            except grpc.RpcError as error:
                code = error.code()
            outcomes.append((code, time.monotonic() - start))
            if code is not None:
                # As real callers: not in a tight loop.
                time.sleep(0.02)

    threads = [threading.Thread(target=call) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_callers_deadline_is_kept_when_the_model_server_hangs(
    gateway, model_server
):
    model_server.delay = 2 * PATIENT_SECONDS
    start = time.monotonic()
    with RecommenderClient(gateway.target, timeout_seconds=0.3) as client:
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as late:
                client.rank("u", ITEMS)
            assert late.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    # Three deadlines take less than one second; the rest is for busy machines.
    assert time.monotonic() - start < 20
    # What its callers don't wait for, the model server is not kept at, long
    # before its own deadline.
    wait_until(lambda: not model_server.running)
    assert time.monotonic() - start < PATIENT_SECONDS


def test_hanging_model_server_is_spared_by_callers_who_wait_less_than_we(
    run_gateway, model_server
):
    gateway = run_gateway(KEEP_NOTHING, "--backend-timeout-seconds=2")
    request = pb.RankRequest(user_id="u", item_ids=ITEMS)
    late = grpc.StatusCode.DEADLINE_EXCEEDED
    codes = [late]
    with grpc.insecure_channel(
        gateway.target, [("grpc.enable_retries", 0)]
    ) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        stub.Rank(request, PATIENT_SECONDS, wait_for_ready=True)
        model_server.delay = 2 * PATIENT_SECONDS
        while codes[-1] is late:
            with pytest.raises(grpc.RpcError) as refused:
                stub.Rank(request, 0.5)
            codes.append(refused.value.code())
            assert len(codes) < 30
    assert codes[-1] is grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
def test_hanging_model_server_gets_few_calls_and_callers_quick_answers(
    run_gateway, model_server
):
    gateway = run_gateway(KEEP_NOTHING, "--backend-timeout-seconds=0.3")
    with RecommenderClient(gateway.target, timeout_seconds=2) as client:
        client.rank("u", ITEMS)
        model_server.delay = 60.0
        before = model_server.calls
        outcomes = rank_from_many_threads(client, 2.0)
        codes = {code for code, _ in outcomes}
        assert codes <= {
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        }
        assert model_server.most_running <= THREADS
        # The first dozen, and a trial every half second or so.
        assert model_server.calls - before <= THREADS + 10
        model_server.delay = 0.0
        back = time.monotonic()
        while True:
            try:
                client.with_options(timeout_seconds=0.5).rank("u", ITEMS)
                break
            except grpc.RpcError:
                assert time.monotonic() - back < 60
        assert gateway.process.poll() is None


def test_gateway_outlives_its_model_server_and_finds_the_next(
    client, gateway, model_server
):
    client.submit_feedback("u", [FeedbackEvent("e1", "003", 1.0)])
    port = model_server.port
    model_server.stop()
    with pytest.raises(grpc.RpcError) as refused:
        client.with_options(timeout_seconds=3).rank("u", ITEMS)
    assert refused.value.code() in (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    )
    with OracleModelServer(port=port):
        back = time.monotonic()
        while True:
            try:
                answer = client.with_options(timeout_seconds=1).rank("u", ITEMS)
                break
            except grpc.RpcError:
                assert time.monotonic() - back < 60
        assert answer.support_count == 1
        assert gateway.process.poll() is None


def test_failing_model_server_gets_no_more_calls_than_callers_make(
    client, model_server
):
    client.rank("u", ITEMS)
    model_server.status = grpc.StatusCode.UNAVAILABLE
    before = model_server.calls
    outcomes = rank_from_many_threads(client, 1.0)
    failed = sum(code is not None for code, _ in outcomes)
    assert model_server.calls - before <= 1.1 * failed + 10


@pytest.mark.parametrize("trouble", ["hangs", "refuses", "is gone"])
def test_ranks_whose_vectors_are_kept_need_no_model_server(
    run_gateway, model_server, trouble
):
    gateway = run_gateway("--backend-timeout-seconds=0.5")
    with RecommenderClient(gateway.target, PATIENT_SECONDS) as client:
        client.submit_feedback("u", [FeedbackEvent("e1", "003", 1.0)])
        before = client.rank("u", ITEMS)
        if trouble == "hangs":
            model_server.delay = 2 * PATIENT_SECONDS
        elif trouble == "refuses":
            model_server.status = grpc.StatusCode.INTERNAL
        else:
            model_server.stop()
        for _ in range(20):
            answer = client.rank("u", ITEMS)
            assert answer.scores.tolist() == before.scores.tolist()
            assert (answer.support_count, answer.degraded) == (1, False)
