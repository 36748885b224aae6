"""Requests made to hurt: refused, forgotten, and the gateway goes on."""

import os
import random
from pathlib import Path

import grpc
import pytest

from serving.client import RecommenderClient
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.protos import tf_serving_pb2 as tf_pb
from serving.tf_serving import PREDICT, string_tensor
from tests.helpers.patience import wait_until

pytestmark = pytest.mark.fault

ITEMS = ["000", "003"]
RANK = "/adaptower.v1.Recommender/Rank"
REFUSED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
MIB = 1 << 20


def resident_bytes(process):
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def nested(depth):
    """A length-delimited field 3 (a map entry) inside itself, many times."""
    data = b""
    for _ in range(depth):
        size = len(data)
        varint = b""
        while size > 127:
            varint += bytes([size & 127 | 128])
            size >>= 7
        data = b"\x1a" + varint + bytes([size]) + data
        if len(data) > 3 * MIB:
            break
    return data


def attacks():
    random.seed(7)
    many = pb.RankRequest(user_id="u", item_ids=["1"] * 1_000_000)
    yield RANK, many.SerializeToString()
    yield RANK, pb.RankRequest(user_id="u" * 5 * MIB).SerializeToString()
    yield (
        RANK,
        pb.RankRequest(user_id="u", item_ids=["x" * MIB]).SerializeToString(),
    )
    wide = pb.RankRequest(user_id="u", item_ids=ITEMS)
    wide.features["tags"].strings.values.extend(["t"] * 100_000)
    yield RANK, wide.SerializeToString()
    long = pb.RankRequest(user_id="u", item_ids=ITEMS)
    long.features["segment"].strings.values.append("s" * MIB)
    yield RANK, long.SerializeToString()
    names = pb.RankRequest(user_id="u", item_ids=ITEMS)
    for number in range(50_000):
        names.features[f"f{number}"].numbers.values.append(1.0)
    yield RANK, names.SerializeToString()
    yield PREDICT, nested(100_000)
    for method in (RANK, PREDICT):
        for size in (1, 10, 1000, MIB):
            yield method, b"\xff" + random.randbytes(size)


def test_abuse_is_refused_without_a_trace(gateway, client):
    expected = client.rank("u", ITEMS).scores
    pid = gateway.process.pid
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(gateway.target, options) as channel:
        before = resident_bytes(gateway.process)
        requests = list(attacks())
        for _ in range(2):
            for method, data in requests:
                assert attack(channel, method, data) in REFUSED
    wait_until(lambda: resident_bytes(gateway.process) < before + 50 * MIB)
    assert gateway.process.poll() is None
    assert gateway.process.pid == pid
    assert client.rank("u", ITEMS).scores.tolist() == expected.tolist()


def test_predict_of_a_million_candidates_leaves_no_memory_behind(
    gateway, client
):
    client.rank("u", ITEMS)
    request = tf_pb.PredictRequest()
    request.model_spec.name = "adaptower"
    request.inputs["item_id"].CopyFrom(
        string_tensor(["1"] * 1_000_000, (1, 1_000_000))
    )
    data = request.SerializeToString()
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(gateway.target, options) as channel:
        before = resident_bytes(gateway.process)
        for _ in range(2):
            assert attack(channel, PREDICT, data) in REFUSED
        wait_until(lambda: resident_bytes(gateway.process) < before + 50 * MIB)


def attack(channel, method, data):
    """Returns the status that a request is answered with."""
    try:
        channel.unary_unary(method)(data, timeout=60)
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def test_flood_of_one_users_events_is_held_back(run_gateway):
    gateway = run_gateway("--feedback-per-second=0.1", "--feedback-burst=20")
    with (
        grpc.insecure_channel(gateway.target) as channel,
        RecommenderClient(gateway.target) as client,
    ):
        stub = pb_grpc.RecommenderStub(channel)

        def submit(user, number):
            event = pb.FeedbackEvent(event_id=str(number), item_id="003")
            return stub.SubmitFeedback(
                pb.SubmitFeedbackRequest(user_id=user, events=[event])
            )

        assert submit("other", 0).accepted == 1
        before = client.rank("other", ITEMS).scores
        refusals = []
        for number in range(200):
            try:
                submit("flood", number)
            except grpc.RpcError as error:
                refusals.append(error)
        kept = client.rank("other", ITEMS).scores
        refused = len(refusals)
        assert refused > 100
        for error in refusals:
            assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "room for these 1" in error.details()
        assert submit("other", 1).accepted == 1
        assert client.rank("flood", ITEMS).support_count == 200 - refused
        # To the bit: what others get is none of the flood's business.
        assert kept.tolist() == before.tolist()
