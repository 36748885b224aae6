"""Sizes that a Predict claims: none gets past what a Rank may ask for."""

import grpc
import numpy as np
import pytest

from serving.limits import Limits
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import (
    PREDICT,
    decode_tensor,
    encode_tensor,
    shape_proto,
    string_tensor,
)
from tests.helpers.toy_model import NUM_ADAPTIVE

LIMITS = Limits(candidates=50, filled_values=1000)
OWN = {"adaptive_weights": encode_tensor(np.zeros((1, NUM_ADAPTIVE), "f4"))}
USER = {"user_id": string_tensor(["u"], ())}


@pytest.fixture
def gateway(start):
    return start(limits=LIMITS)


def filled(*shape, value="003"):
    """A few bytes that stand for as many values as the shape says."""
    return pb.TensorProto(
        dtype=pb.DT_STRING,
        tensor_shape=shape_proto(shape),
        string_val=[value.encode()],
    )


def whole(*shape):
    return string_tensor(["003"] * int(np.prod(shape)), shape)


def request(signature="rank", model="model0", **inputs):
    rows = 1
    if "item_id" in inputs:
        rows = inputs["item_id"].tensor_shape.dim[0].size
    made = pb.PredictRequest()
    made.model_spec.name = model
    made.model_spec.signature_name = signature
    made.model_spec.version.value = 1
    inputs = {
        "segment": string_tensor([""] * rows, (rows,)),
        "tags": string_tensor([""] * rows, (rows, 1)),
        "age": encode_tensor(np.full(rows, np.nan, np.float32)),
        **inputs,
    }
    for name, tensor in inputs.items():
        made.inputs[name].CopyFrom(tensor)
    return made


def recommend(k, excluded, **inputs):
    return request(
        "recommend",
        k=encode_tensor(np.array(k, np.int32)),
        exclude_item_id=excluded,
        **inputs,
    )


def send(gateway, request):
    return gateway.channel.unary_unary(
        PREDICT,
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    )(request)


def refusal(gateway, request):
    """Words of a refusal that has cost the model server nothing."""
    before = [*gateway.backend.calls]
    with pytest.raises(grpc.RpcError) as refused:
        send(gateway, request)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert gateway.backend.calls == before
    return refused.value.details()


@pytest.mark.parametrize("whose", [USER, OWN], ids=["user", "own weights"])
@pytest.mark.parametrize("signature", ["", "serving_default", "rank"])
def test_more_candidates_than_a_rank_may_have_are_refused(
    gateway, signature, whose
):
    words = refusal(gateway, request(signature, item_id=whole(1, 51), **whose))
    assert "the shape [1, 51]; at most 50 items" in words


@pytest.mark.parametrize("whose", [USER, OWN], ids=["user", "own weights"])
def test_candidates_of_all_rows_count_together(gateway, whose):
    words = refusal(gateway, request(item_id=whole(3, 17), **whose))
    assert "the shape [3, 17]; at most 50 items" in words
    assert "all 3 rows together" in words


def test_candidates_that_rows_would_share_count_for_each(gateway):
    weights = encode_tensor(np.zeros((3, NUM_ADAPTIVE), np.float32))
    shared = request(item_id=whole(1, 17), adaptive_weights=weights)
    assert "all 3 rows together" in refusal(gateway, shared)


@pytest.mark.parametrize("model", ["model0", "another"])
@pytest.mark.parametrize("name", ["item_id", "tags", "anything"])
@pytest.mark.parametrize("whose", [USER, OWN], ids=["user", "own weights"])
def test_a_few_bytes_do_not_become_a_million_values(
    gateway, name, model, whose
):
    tiny = filled(1024, 1000)
    assert tiny.ByteSize() < 24
    inputs = {"item_id": whole(1, 3), name: tiny, **whose}
    words = refusal(gateway, request(model=model, **inputs))
    assert "no more than 1000 may be left to be filled in" in words


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (0, "k is 0; ask for at least 1 item and at most 50"),
        (51, "k is 51; ask for at least 1 item and at most 50"),
        (26, "26 items for each of 2 rows are more than the 50 allowed"),
    ],
)
@pytest.mark.parametrize("whose", [USER, OWN], ids=["user", "own weights"])
def test_more_results_than_a_recommend_may_ask_for_are_refused(
    gateway, k, words, whose
):
    assert words in refusal(gateway, recommend(k, whole(2, 1), **whose))


def test_more_excluded_items_than_a_recommend_may_name_are_refused(gateway):
    words = refusal(gateway, recommend(1, whole(1, 51), **USER))
    assert "'exclude_item_id' has the shape [1, 51]; at most 50" in words


def test_as_many_as_are_allowed_are_answered(gateway):
    for item_id in (whole(1, 50), filled(5, 10)):
        response = send(gateway, request(item_id=item_id, **USER))
        scores = decode_tensor(response.outputs["score"])
        shape = [dim.size for dim in item_id.tensor_shape.dim]
        assert scores.shape == tuple(shape)
        np.testing.assert_allclose(scores, scores[0, 0])
    response = send(gateway, recommend(50, whole(1, 50), **USER))
    assert "item_id" in response.outputs


def test_what_is_sent_whole_passes_however_large(gateway):
    weights = np.zeros((1, NUM_ADAPTIVE), np.float32)
    large = request(
        item_id=whole(1, 3),
        adaptive_weights=encode_tensor(weights),
        tags=whole(1, 5000),
    )
    assert "score" in send(gateway, large).outputs
