"""What of the drop-in shows only while versions come and go."""

import grpc
import numpy as np
import pytest

from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import (
    PREDICT,
    decode_tensor,
    encode_tensor,
    string_tensor,
)
from tests.helpers.toy_model import ToyOracle, ToyParameters

ITEMS = ["001", "nowhere"]


def predict(gateway, version=None):
    request = pb.PredictRequest()
    request.model_spec.name = "model0"
    request.model_spec.signature_name = "rank"
    if version is not None:
        request.model_spec.version.value = version
    inputs = {
        "segment": string_tensor([""], (1,)),
        "tags": string_tensor([""], (1, 1)),
        "age": encode_tensor(np.array([np.nan], np.float32)),
        "item_id": string_tensor(ITEMS, (1, 2)),
        "user_id": string_tensor(["u"], ()),
    }
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    call = gateway.channel.unary_unary(
        PREDICT,
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    )
    return decode_tensor(call(request).outputs["score"])[0]


def expected(version):
    oracle = ToyOracle(ToyParameters.from_seed(version))
    return pytest.approx(oracle.rank({}, ITEMS), abs=1e-5)


def test_version_that_went_away_is_followed_by_its_successor(start):
    gateway = start(versions=(1, 2))
    assert predict(gateway) == expected(2)
    del gateway.backend.versions[2]
    assert predict(gateway) == expected(1)


def test_version_that_the_caller_names_is_the_one_that_answers(start):
    gateway = start(versions=(1, 2))
    assert predict(gateway, version=1) == expected(1)
    del gateway.backend.versions[1]
    with pytest.raises(grpc.RpcError) as refused:
        predict(gateway, version=1)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_model_that_is_not_ready_is_unavailable(start):
    with pytest.raises(grpc.RpcError) as refused:
        predict(start(versions=()))
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "no version ready" in refused.value.details()


def test_bytes_that_are_no_request_are_refused_with_help(gateway):
    with pytest.raises(grpc.RpcError) as refused:
        gateway.channel.unary_unary(PREDICT)(b"\xff\xff")
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details() == "The bytes sent are no PredictRequest."
