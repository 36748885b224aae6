"""Experiments as clients of TF Serving's API meet them."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from serving.experiments.config import Arm
from serving.experiments.joining import join
from serving.protos import recommender_pb2
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import (
    PREDICT,
    decode_tensor,
    encode_tensor,
    string_tensor,
)
from tests.helpers.patience import wait_until
from tests.serving.gateway.rpcs.test_trials import (
    ITEMS,
    hold,
    lines,
    submit,
    users_of,
)


def predict(
    gateway,
    *users,
    signature="rank",
    model="model0",
    version=None,
    outputs=(),
    shared=(),
    left_out=(),
):
    """Returns the response, and what explains it.

    Of the inputs in `shared` one row is sent, for all.
    """
    rows = len(users)
    request = pb.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.output_filter.extend(outputs)
    if version is not None:
        request.model_spec.version.value = version
    inputs = {
        "segment": string_tensor(["artist"] * rows, (rows,)),
        "tags": string_tensor(["drama", "war"] * rows, (rows, 2)),
        "age": encode_tensor(np.full(rows, 30.0, np.float32)),
        "user_id": string_tensor(users, (rows,)),
    }
    if signature == "recommend":
        inputs["k"] = encode_tensor(np.int32(8))
        inputs["exclude_item_id"] = string_tensor(ITEMS * rows, (rows, 3))
    else:
        inputs["item_id"] = string_tensor([*ITEMS, ""] * rows, (rows, 4))
    for name in left_out:
        del inputs[name]
    for name, tensor in inputs.items():
        if name in shared:
            tensor = encode_tensor(decode_tensor(tensor)[:1])
        request.inputs[name].CopyFrom(tensor)
    response, call = gateway.channel.unary_unary(
        PREDICT,
        request_serializer=pb.PredictRequest.SerializeToString,
        response_deserializer=pb.PredictResponse.FromString,
    ).with_call(request)
    told = dict(call.trailing_metadata())["adaptower-provenance-bin"]
    return response, recommender_pb2.Provenance.FromString(told)


def test_arm_without_adaptation_serves_the_meta_initialization(run, oracle):
    gateway, experiment = run(Arm("on"), Arm("off", max_support=0))
    features = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}
    cold = oracle.rank(features, ITEMS)
    for arm, adapted in (("on", True), ("off", False)):
        (user,) = users_of(experiment, arm, 1)
        submit(gateway, user, range(4), model="model0")
        response, told = predict(gateway, user)
        assert (told.arm, told.store_hit) == (f"x/{arm}", adapted)
        scores = decode_tensor(response.outputs["score"])[0, :3]
        assert np.allclose(scores, cold, atol=1e-5) != adapted


def test_arms_ask_their_model_and_version_and_the_answer_tells(run):
    gateway, experiment = run(
        *(Arm("old", version=1), Arm("other", model="model1"), Arm("now")),
        models=2,
        versions=(1, 2),
    )
    for arm, expected in (
        ("old", ("model0", 1)),
        ("other", ("model1", 2)),
        ("now", ("model0", 2)),
    ):
        (user,) = users_of(experiment, arm, 1)
        _, told = predict(gateway, user)
        assert (told.model, told.version, told.arm) == (*expected, f"x/{arm}")


def test_what_is_shown_is_joined_with_what_comes_of_it(run):
    gateway, experiment = run(Arm("a"), Arm("b"))
    (user,) = users_of(experiment, "b", 1)
    response, _ = predict(gateway, user)
    submit(gateway, user, [1])
    (shown,) = lines(gateway, "exposure")
    assert (shown["arm"], shown["model"], shown["version"]) == (
        "b",
        "model0",
        1,
    )
    scores = decode_tensor(response.outputs["score"])[0]
    # Without the one that only fills the row up.
    assert dict(zip(shown["items"], shown["scores"], strict=True)) == {
        item: pytest.approx(score, abs=1e-5)
        for item, score in zip(ITEMS, scores[:3], strict=True)
    }
    (exposure,) = join(gateway.exposure_log(), 60.0)["x", "b"]
    assert exposure.labels == {"003": 1.0}


def test_recommended_items_are_exposures_and_padding_is_none(run):
    gateway, experiment = run(Arm("a"))
    (user,) = users_of(experiment, "a", 1)
    response, _ = predict(gateway, user, signature="recommend")
    found = decode_tensor(response.outputs["item_id"])[0].tolist()
    (shown,) = lines(gateway, "exposure")
    assert shown["items"] == [item.decode() for item in found if item]
    assert b"" in found


@pytest.mark.parametrize("output", ["score", "item_id"])
def test_answer_without_items_or_scores_is_no_exposure(run, output):
    gateway, experiment = run(Arm("a"))
    (user,) = users_of(experiment, "a", 1)
    response, told = predict(
        gateway, user, signature="recommend", outputs=[output]
    )
    assert [*response.outputs] == [output]
    assert told.arm == "x/a"
    assert lines(gateway, "exposure") == []


def test_each_row_of_one_user_is_an_exposure(run):
    gateway, experiment = run(Arm("a"))
    (user,) = users_of(experiment, "a", 1)
    predict(gateway, user, user)
    assert len(lines(gateway, "exposure")) == 2


@pytest.mark.parametrize(
    "shared", [("segment", "tags", "age"), ("item_id", "user_id"), ("age",)]
)
def test_rows_that_are_shared_are_shown_in_each(run, oracle, shared):
    gateway, experiment = run(Arm("a"), shadows=(Arm("b"),))
    (user,) = users_of(experiment, "a", 1)
    response, _ = predict(gateway, user, user, user, shared=shared)
    assert decode_tensor(response.outputs["score"]).shape == (3, 4)
    wait_until(lambda: len(lines(gateway, "exposure")) == 6)
    features = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}
    expected = dict(zip(ITEMS, oracle.rank(features, ITEMS), strict=True))
    for shown in lines(gateway, "exposure"):
        scores = dict(zip(shown["items"], shown["scores"], strict=True))
        assert scores == pytest.approx(expected, abs=1e-5)


def test_shadow_scores_what_was_shown_with_the_same_features(run):
    gateway, experiment = run(
        Arm("a"), shadows=(Arm("meta", max_support=0),), models=1
    )
    (user,) = users_of(experiment, "a", 1)
    predict(gateway, user)
    wait_until(lambda: len(lines(gateway, "exposure")) == 2)
    first, second = lines(gateway, "exposure")
    assert {first["arm"], second["arm"]} == {"a", "meta"}
    assert first["scores"] == pytest.approx(second["scores"], abs=1e-5)


def test_requests_that_say_more_are_in_no_experiment(run):
    gateway, experiment = run(Arm("off", max_support=0), models=2)
    one, other = users_of(experiment, "off", 2)
    for users, more in (
        ([one], {"version": 1}),
        ([one], {"model": "model1"}),
        ([one, other], {}),
        ([""], {}),
    ):
        _, told = predict(gateway, *users, **more)
        assert told.arm == ""
    assert lines(gateway, "exposure") == []


@pytest.mark.parametrize("signature", ["rank", "recommend"])
def test_feature_that_an_arms_model_does_not_have_is_left_out(
    run_without_age, signature
):
    gateway, experiment = run_without_age(
        Arm("now"), Arm("next", model="model1")
    )
    (user,) = users_of(experiment, "next", 1)
    _, told = predict(gateway, user, signature=signature)
    assert (told.model, told.version) == ("model1", 3)
    assert list(told.missing_features) == []


@pytest.mark.parametrize("users", [1, 3])
def test_feature_that_only_an_arms_model_has_gets_its_default(
    run_without_age, oracle, users
):
    gateway, experiment = run_without_age(
        Arm("now"), Arm("next", model="model1", version=1), without="model0"
    )
    (user,) = users_of(experiment, "next", 1)
    response, told = predict(gateway, *[user] * users, left_out=["age"])
    assert (told.model, told.version) == ("model1", 1)
    assert list(told.missing_features) == ["age"]
    features = {"segment": "artist", "tags": ["drama", "war"]}
    scores = decode_tensor(response.outputs["score"])[:, :3]
    expected = np.broadcast_to(oracle.rank(features, ITEMS), scores.shape)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_feature_that_the_asked_model_lacks_as_well_is_the_clients_mistake(
    run_without_age,
):
    gateway, experiment = run_without_age(
        Arm("now"), Arm("next", model="model1")
    )
    (user,) = users_of(experiment, "next", 1)
    for outside in ({"left_out": ["segment"]}, {"model": "model1"}):
        with pytest.raises(grpc.RpcError):
            predict(gateway, user, **outside)


def test_shadow_gets_a_feature_that_the_model_shown_does_not_have(
    run_without_age, oracle
):
    gateway, experiment = run_without_age(
        Arm("next", model="model1"), shadows=(Arm("now", version=1),)
    )
    (user,) = users_of(experiment, "next", 1)
    predict(gateway, user)
    wait_until(lambda: len(lines(gateway, "exposure")) == 2)
    (shadow,) = (e for e in lines(gateway, "exposure") if e["arm"] == "now")
    features = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}
    expected = dict(zip(ITEMS, oracle.rank(features, ITEMS), strict=True))
    scores = dict(zip(shadow["items"], shadow["scores"], strict=True))
    assert scores == pytest.approx(expected, abs=1e-5)


def test_predict_under_way_while_its_user_is_deleted_is_no_exposure(run):
    gateway, experiment = run(Arm("a"), shadows=(Arm("b"),))
    (user,) = users_of(experiment, "a", 1)
    asked, go_on = hold(gateway)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(predict, gateway, user)
        assert asked.wait(20)
        gateway.stub.DeleteUser(recommender_pb2.DeleteUserRequest(user_id=user))
        go_on.set()
        answer.result(20)
    gateway.end_shadows()
    assert lines(gateway, "exposure") == []
