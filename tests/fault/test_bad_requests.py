"""Each kind of bad input, sent to a gateway's process: a status and help.

More of each kind are in `tests/serving/gateway/rpcs`.
"""

import hashlib
import time

import grpc
import numpy as np
import pytest
import yaml

from serving.launch import start_gateway
from serving.protos import recommender_pb2 as pb
from serving.protos import recommender_pb2_grpc as pb_grpc
from serving.protos import tf_serving_pb2
from serving.tf_serving import PREDICT, encode_tensor
from tests.helpers.oracle_model_server import OracleModelServer, save_manifests

pytestmark = pytest.mark.fault

CALLER = "Bearer web.secret"
MIB = 1 << 20


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gateway")
    save_manifests(folder / "models", "adaptower")
    digest = hashlib.sha256(b"secret").hexdigest()
    entry = {"name": "web", "sha256": digest, "scopes": ["admin"]}
    tokens = folder / "tokens.yaml"
    tokens.write_text(yaml.safe_dump({"tokens": [entry]}))
    with (
        OracleModelServer() as server,
        start_gateway(
            server.target,
            {"adaptower": folder / "models"},
            folder / "store",
            log_path=folder / "gateway.log",
            flags=[f"--tokens={tokens}"],
        ) as gateway,
        grpc.insecure_channel(gateway.target) as channel,
    ):
        yield channel


def send(channel, request, caller=CALLER):
    """Sends a request to the method that takes it."""
    metadata = () if caller is None else (("authorization", caller),)
    if isinstance(request, tf_serving_pb2.PredictRequest):
        call = channel.unary_unary(
            PREDICT,
            tf_serving_pb2.PredictRequest.SerializeToString,
            tf_serving_pb2.PredictResponse.FromString,
        )
    else:
        name = type(request).__name__.removesuffix("Request")
        call = getattr(pb_grpc.RecommenderStub(channel), name)
    return call(request, timeout=20, metadata=metadata)


def refused(channel, request, caller=CALLER):
    with pytest.raises(grpc.RpcError) as error:
        send(channel, request, caller)
    return error.value.code().name, error.value.details()


def rank(items=("003",), user="u", **fields):
    return pb.RankRequest(user_id=user, item_ids=items, **fields)


def feedback(**changes):
    event = {"event_id": "e", "item_id": "003", "label": 1.0, **changes}
    return pb.SubmitFeedbackRequest(
        user_id="u", events=[pb.FeedbackEvent(**event)]
    )


def predict(name="adaptower", **inputs):
    request = tf_serving_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = "rank"
    inputs = {"user_id": ["u"], "item_id": [["003"]], **inputs}
    for key, value in inputs.items():
        array = np.array(value)
        if array.dtype.kind == "U":
            array = np.char.encode(array).astype(object)
        request.inputs[key].CopyFrom(encode_tensor(array))
    return request


def told(**features):
    request = rank()
    for name, (kind, values) in features.items():
        getattr(request.features[name], kind).values.extend(values)
    return request


IN_A_DAY = int(time.time()) + 86_400
MODEL, INVALID, LARGE = "NOT_FOUND", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        pytest.param(*case, id=name)
        for name, *case in (
            ("model", rank(model="x"), MODEL, "served are: adaptower"),
            ("model-of-predict", predict("x"), MODEL, ""),
            ("no-candidates", rank([]), INVALID, "at least one"),
            (
                "too-many-candidates",
                rank(["1"] * 20_000),
                INVALID,
                "20000 candidates",
            ),
            ("type", told(age=("strings", ["x"])), INVALID, "as numbers"),
            ("shape", told(age=("numbers", [1, 2])), INVALID, "one value"),
            ("tensor-type", predict(user_id=[1.0]), INVALID, "type string"),
            (
                "tensor-shape",
                predict(item_id=["003"]),
                INVALID,
                "the shape [B, N]",
            ),
            ("message", rank(user="u" * 5 * MIB), LARGE, "larger than max"),
            ("nan", feedback(label=float("nan")), INVALID, "label nan"),
            ("inf", feedback(label=float("inf")), INVALID, "label inf"),
            ("no-item", feedback(item_id=""), INVALID, "item_id is empty"),
            (
                "future",
                feedback(timestamp=IN_A_DAY),
                INVALID,
                "in the future",
            ),
            (
                "milliseconds",
                feedback(timestamp=IN_A_DAY * 1000),
                INVALID,
                "not milliseconds",
            ),
        )
    ],
)
def test_bad_request_is_refused_with_help(channel, request_, code, words):
    found, details = refused(channel, request_)
    assert found == code
    assert words in details


@pytest.mark.parametrize(
    ("caller", "words"),
    [
        (None, "asks for a token"),
        ("", "not of the form"),
        ("web.secret", "not of the form"),
        ("Bearer secret", "not of the form"),
        ("Basic web.secret", "not of the form"),
        ("Bearer web.wrong", "not known"),
        ("Bearer nobody.secret", "not known"),
    ],
)
def test_bad_token_is_unauthenticated_with_help(channel, caller, words):
    code, details = refused(channel, rank(), caller)
    assert code == "UNAUTHENTICATED"
    assert words in details


def test_unknown_items_are_answered_and_named(channel):
    """Neither is an error: the next version of the model may know them."""
    ranked = send(channel, rank(["003", "nowhere"]))
    assert len(ranked.scores) == 2
    assert list(ranked.unknown_item_ids) == ["nowhere"]
    learned = send(channel, feedback(item_id="nowhere"))
    assert learned.accepted == 1
    assert list(learned.unknown_item_ids) == ["nowhere"]
