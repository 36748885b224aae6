"""Feedback that says nothing sensible is refused, and not a byte changes."""

import math
import time

import grpc
import pytest

from serving.protos import recommender_pb2 as pb
from serving.store import LmdbStore
from tests.helpers.oracle_backend import OracleBackend
from tests.helpers.oracle_gateway import OracleGateway
from tests.helpers.toy_model import ToyOracle, ToyParameters

pytestmark = pytest.mark.fault

GOOD = {"event_id": "good", "item_id": "003", "label": 1.0}
BAD = [
    *({"label": value} for value in (math.nan, math.inf, -math.inf)),
    *({"label": value} for value in (-1e-6, 1.0001, 3.4e38)),
    *({"timestamp": value} for value in (-1, 1 << 62)),
    {"timestamp": int(time.time()) + 86_400},
    *({name: ""} for name in ("event_id", "item_id")),
    *({name: "x" * 100_000} for name in ("event_id", "item_id")),
]
FEATURES = [("age", math.inf), ("age", -math.inf), ("nobody", 1.0)]


@pytest.fixture
def store(tmp_path):
    with LmdbStore(tmp_path / "store", 1 << 24) as store:
        yield store


@pytest.fixture
def gateway(store, tmp_path):
    backend = OracleBackend({1: ToyOracle(ToyParameters.from_seed(1))})
    with OracleGateway(backend, store, tmp_path) as gateway:
        yield gateway


def submit(gateway, *events, **features):
    request = pb.SubmitFeedbackRequest(
        user_id="u", events=[pb.FeedbackEvent(**event) for event in events]
    )
    for name, number in features.items():
        request.features[name].numbers.values.append(number)
    return gateway.stub.SubmitFeedback(request)


def held(gateway):
    """All bytes of the store, and all events of the log."""
    return list(gateway.store._entries(b"")), list(gateway.log.entries())


def test_values_out_of_range_change_no_byte_of_store_and_log(gateway):
    submit(gateway, GOOD)
    before = held(gateway)
    assert [len(part) for part in before] == [1, 1]
    bad = [({**GOOD, "event_id": "e", **change}, {}) for change in BAD]
    bad += [({**GOOD, "event_id": "e"}, {name: v}) for name, v in FEATURES]
    for event, features in bad:
        # A good one in its company is not taken in either.
        for events in ([event], [{**GOOD, "event_id": "other"}, event]):
            with pytest.raises(grpc.RpcError) as refused:
                submit(gateway, *events, **features)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details()
    assert held(gateway) == before
    assert submit(gateway, {**GOOD, "event_id": "other"}).accepted == 1
