"""Experiments as clients of TF Serving's API meet them."""

import numpy as np
import pytest

from serving.experiments.config import Arm, Experiment, ExperimentsConfig
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
    lines,
    submit,
    users_of,
)


@pytest.fixture
def run(start, tmp_path):
    """Starts a gateway with one experiment; returns both."""

    def run(*arms, shadows=(), models=1, versions=(1,)):
        experiment = Experiment("x", arms, shadows, salt="s")
        log = tmp_path / "exposures"
        config = ExperimentsConfig((experiment,), log, log / "key")
        gateway = start(versions=versions, models=models, experiments=config)
        return gateway, experiment

    return run


def predict(
    gateway,
    *users,
    signature="rank",
    model="model0",
    version=None,
    outputs=(),
    shared=(),
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
