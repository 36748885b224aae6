"""Ten times more calls than can be answered: some are, the rest know at once.

How many can be answered is set by a model server that takes its time, not by
how quick the machine is.
"""

import threading
import time

import grpc
import pytest

from serving.client import RecommenderClient, retry_after_seconds
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from tests.helpers.oracle_model_server import KEEP_NOTHING

pytestmark = pytest.mark.fault

DELAY = 0.5
MAX_IN_FLIGHT = 10
CAPACITY = MAX_IN_FLIGHT / DELAY
SECONDS = 5.0
REQUEST = pb.RankRequest(user_id="u", item_ids=["000", "003"])


@pytest.mark.slow
def test_overload_is_shed_and_goodput_stays(run_gateway, model_server):
    gateway = run_gateway(KEEP_NOTHING, f"--max-in-flight={MAX_IN_FLIGHT}")
    model_server.delay = DELAY
    outcomes = []
    lock = threading.Lock()
    with grpc.insecure_channel(
        gateway.target, [("grpc.enable_retries", 0)]
    ) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        futures = []
        start = time.monotonic()
        # Open loop: calls come when they come, whatever became of others.
        for number in range(int(10 * CAPACITY * SECONDS)):
            time.sleep(
                max(0.0, start + number / (10 * CAPACITY) - time.monotonic())
            )
            sent = time.monotonic()
            future = stub.Rank.future(REQUEST, timeout=5)

            def note(done, sent=sent):
                with lock:
                    outcomes.append((done, time.monotonic() - sent))

            future.add_done_callback(note)
            futures.append(future)
        for future in futures:
            future.exception()
        took = time.monotonic() - start
    codes = [done.code() for done, _ in outcomes]
    assert set(codes) == {
        grpc.StatusCode.OK,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    # Little's law: the places were taken for most of the time, by calls that
    # were answered, however long this machine made each of them take.
    taken = sum(
        seconds
        for done, seconds in outcomes
        if done.code() == grpc.StatusCode.OK
    )
    assert taken >= 0.8 * MAX_IN_FLIGHT * (took - DELAY)
    assert model_server.most_running <= MAX_IN_FLIGHT
    refused = next(
        done
        for done, _ in outcomes
        if done.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    )
    assert retry_after_seconds(refused.exception()) > 0
    model_server.delay = 0.0
    with RecommenderClient(gateway.target, timeout_seconds=2) as client:
        for _ in range(5):
            client.rank("u", ["000"])


@pytest.mark.slow
def test_idle_clients_that_ping_are_not_hung_up_on(gateway):
    """Half a minute of what happens to them in ten."""
    options = [
        ("grpc.keepalive_time_ms", 6_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.enable_retries", 0),
    ]
    states = []
    with grpc.insecure_channel(gateway.target, options) as channel:
        stub = pb_grpc.RecommenderStub(channel)
        stub.Rank(REQUEST, timeout=5)
        channel.subscribe(states.append)
        time.sleep(27)
        stub.Rank(REQUEST, timeout=5)
    assert set(states) == {grpc.ChannelConnectivity.READY}
