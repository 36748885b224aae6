"""TF Serving's own client stubs against the gateway."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.client import FeedbackEvent
from serving.protos import recommender_pb2
from tests.helpers.refusals import refused
from tests.helpers.toy_model import ITEM_IDS, NUM_ADAPTIVE

ITEMS = ["000", "005", "nowhere"]
USERS = ["drop-in", "nobody", ""]
FEATURES = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}


@pytest.fixture(scope="module")
def channel(gateway, client):
    events = [
        FeedbackEvent(str(n), ITEM_IDS[n], float(n % 2)) for n in range(4)
    ]
    client.submit_feedback("drop-in", events, FEATURES)
    with grpc.insecure_channel(gateway.target) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def straight(model_server):
    with grpc.insecure_channel(model_server.target) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def learned(oracles):
    """The weights of the user that learned."""
    weights, _, _ = oracles[0].adapt(
        FEATURES, ITEM_IDS[:4], [0.0, 1.0, 0.0, 1.0]
    )
    return weights


def predict_request(batch, signature="rank", version=None, **more):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "adaptower"
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    inputs = {
        "segment": np.array([FEATURES["segment"]] * batch),
        "tags": np.array([FEATURES["tags"]] * batch),
        "age": np.full(batch, FEATURES["age"], np.float32),
        **more,
    }
    if signature != "recommend":
        inputs.setdefault("item_id", np.array([ITEMS] * batch))
    for name, value in inputs.items():
        if value is not None:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def scores(response):
    return tf.make_ndarray(response.outputs["score"])


@pytest.mark.parametrize("signature", ["rank", "serving_default", ""])
def test_user_ids_become_each_users_own_weights(
    stub, oracles, learned, signature
):
    response = stub.Predict(
        predict_request(3, signature, user_id=np.array(USERS))
    )
    own = oracles[0].rank(FEATURES, ITEMS, learned)
    cold = oracles[0].rank(FEATURES, ITEMS)
    np.testing.assert_allclose(scores(response), [own, cold, cold], atol=1e-5)
    assert response.model_spec.version.value == 1


@pytest.mark.parametrize("user_id", ["drop-in", np.array(["drop-in"])])
def test_one_user_id_counts_for_the_whole_batch(
    stub, oracles, learned, user_id
):
    request = predict_request(2, user_id=user_id)
    request.inputs["item_id"].CopyFrom(
        tf.make_tensor_proto([["000", "001"], ["002", "003"]])
    )
    expected = oracles[0].rank(FEATURES, ITEM_IDS[:4], learned)
    np.testing.assert_allclose(
        scores(stub.Predict(request)).ravel(), expected, atol=1e-5
    )


def test_recommend_takes_user_ids_too(stub, oracles, learned):
    request = predict_request(
        1,
        "recommend",
        user_id="drop-in",
        k=np.int32(2),
        exclude_item_id=np.array([["000"]]),
    )
    response = stub.Predict(request)
    found = tf.make_ndarray(response.outputs["item_id"])[0].tolist()
    expected = oracles[0].rank(FEATURES, ITEM_IDS[1:], learned)
    order = np.argsort(-expected)[:2]
    assert found == [ITEM_IDS[1 + index].encode() for index in order]


def test_trailing_metadata_explain_the_answer(stub):
    request = predict_request(1, user_id="drop-in")
    _, call = stub.Predict.with_call(request)
    told = recommender_pb2.Provenance.FromString(
        dict(call.trailing_metadata())["adaptower-provenance-bin"]
    )
    assert (told.model, told.version) == ("adaptower", 1)
    assert told.support_count == 4
    assert told.rung == recommender_pb2.RUNG_ADAPTED
    assert not told.missing_features


def same_answers(request, stub, straight):
    """Answers through the gateway and straight, as comparable values."""
    answers = (each.Predict(request) for each in (stub, straight))
    return [answer.SerializeToString(deterministic=True) for answer in answers]


def own_weights_request(**more):
    weights = np.full((1, NUM_ADAPTIVE), 0.25, np.float32)
    return predict_request(1, adaptive_weights=weights, **more)


def test_own_weights_pass_as_they_are(stub, straight, oracles):
    through, direct = same_answers(own_weights_request(), stub, straight)
    assert through == direct
    answer = predict_pb2.PredictResponse.FromString(through)
    expected = oracles[0].rank(FEATURES, ITEMS, np.full(NUM_ADAPTIVE, 0.25))
    np.testing.assert_allclose(scores(answer)[0], expected, atol=1e-5)


def test_own_weights_count_more_than_a_user_id(stub, straight):
    through = stub.Predict(own_weights_request(user_id="drop-in"))
    direct = straight.Predict(own_weights_request())
    np.testing.assert_array_equal(scores(through), scores(direct))


def test_other_signatures_pass_as_they_are(stub, straight):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "adaptower"
    request.model_spec.signature_name = "score_examples"
    features = {"item_id": b"001", "segment": b"artist"}
    example = tf.train.Example(
        features=tf.train.Features(
            feature={
                name: tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[value])
                )
                for name, value in features.items()
            }
        )
    )
    request.inputs["examples"].CopyFrom(
        tf.make_tensor_proto([example.SerializeToString()])
    )
    through, direct = same_answers(request, stub, straight)
    assert through == direct


def test_metadata_and_status_are_the_model_servers(stub, straight, channel):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    request.model_spec.name = "adaptower"
    through, direct = (
        each.GetModelMetadata(request).metadata["signature_def"].value
        for each in (stub, straight)
    )
    parse = get_model_metadata_pb2.SignatureDefMap.FromString
    assert parse(through) == parse(direct)
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "joint"
    answer = model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(
        status
    )
    assert [s.version for s in answer.model_version_status] == [1]


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        ({"user_id": np.array([1.0])}, "INVALID_ARGUMENT", "of type string"),
        (
            {"user_id": np.array(["a", "b"])},
            "INVALID_ARGUMENT",
            "the shape [2]; send one id for all rows, or one per row, [3]",
        ),
        (
            {"user_id": np.array([b"\xff"])},
            "INVALID_ARGUMENT",
            "is not UTF-8",
        ),
        ({"user_id": "u" * 300}, "INVALID_ARGUMENT", "at most 256"),
        (
            {"user_id": "u", "item_id": None},
            "INVALID_ARGUMENT",
            "'item_id' is missing",
        ),
        (
            {"user_id": "u", "item_id": np.array(ITEMS)},
            "INVALID_ARGUMENT",
            "the shape [B, N], B from 1 to 1024; got [3]",
        ),
        (
            {"user_id": "u", "item_id": np.zeros((0, 3), "S1")},
            "INVALID_ARGUMENT",
            "got [0, 3]",
        ),
        ({"user_id": "u", "version": 77}, "NOT_FOUND", "Version 77"),
        # The model server's own words.
        (
            {"user_id": "u", "age": np.array(["x"] * 3)},
            "INVALID_ARGUMENT",
            "age",
        ),
        ({}, "INVALID_ARGUMENT", "adaptive_weights"),
    ],
)
def test_bad_predict_is_refused_with_help(stub, more, code, words):
    answer = refused(lambda: stub.Predict(predict_request(3, **more)))
    assert answer[0] == code
    assert words in answer[1]


@pytest.mark.parametrize("name", ["item_id", "user_id"])
def test_shape_without_values_costs_no_memory(stub, name):
    request = predict_request(1, user_id=np.array(["u"]))
    request.inputs[name].tensor_shape.dim[0].size = 10**12
    code, words = refused(lambda: stub.Predict(request))
    assert code == "INVALID_ARGUMENT"
    assert "1000000000000" in words


def test_version_label_with_a_user_is_refused(stub):
    request = predict_request(1, user_id="u")
    request.model_spec.version_label = "stable"
    code, words = refused(lambda: stub.Predict(request))
    assert code == "INVALID_ARGUMENT"
    assert "not the label 'stable'" in words


def test_unknown_model_is_the_model_servers_not_found(stub):
    request = predict_request(1, user_id="u")
    request.model_spec.name = "nobody"
    assert refused(lambda: stub.Predict(request))[0] == "NOT_FOUND"
