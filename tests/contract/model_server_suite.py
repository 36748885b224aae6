"""What every model server must do; subclass it per implementation.

Subclasses say how to start one. It serves the toy of seed 0 as version 1 of
`adaptower`, and looks for new versions every second or more often.
"""

import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from serving.protos import tf_serving_pb2 as pb
from serving.server_process import ServerProcess
from serving.tf_serving import (
    GET_MODEL_METADATA,
    GET_MODEL_STATUS,
    PREDICT,
    decode_tensor,
    encode_tensor,
    shape_proto,
    string_tensor,
)
from tests.serving.conftest import push

AVAILABLE = pb.ModelVersionStatus.AVAILABLE
END = pb.ModelVersionStatus.END
ITEMS = ["000", "003", "nowhere"]
FEATURES = {"segment": "artist", "tags": ["drama", "war"], "age": 30.0}


class Caller:
    """Calls TF Serving's API over one channel."""

    def __init__(self, target):
        self.channel = grpc.insecure_channel(target)
        self.predict = self._method(PREDICT, pb.PredictResponse)
        self.status = self._method(GET_MODEL_STATUS, pb.GetModelStatusResponse)
        self.metadata = self._method(
            GET_MODEL_METADATA, pb.GetModelMetadataResponse
        )

    def _method(self, path, response_type):
        call = self.channel.unary_unary(
            path,
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=response_type.FromString,
        )
        return lambda request: call(request, timeout=60)

    def states(self, model="adaptower"):
        request = pb.GetModelStatusRequest()
        request.model_spec.name = model
        answer = self.status(request)
        return {s.version: s.state for s in answer.model_version_status}

    def wait_for(self, version, state, seconds=20):
        deadline = time.monotonic() + seconds
        while self.states().get(version) != state:
            assert time.monotonic() < deadline, self.states()
            time.sleep(0.05)


def rank_request(version=None, signature="rank", weights=None):
    request = pb.PredictRequest()
    request.model_spec.name = "adaptower"
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    inputs = {
        "segment": string_tensor([FEATURES["segment"]], (1,)),
        "tags": string_tensor(FEATURES["tags"], (1, 2)),
        "age": encode_tensor(np.array([FEATURES["age"]], np.float32)),
        "item_id": string_tensor(ITEMS, (1, 3)),
        "adaptive_weights": encode_tensor(
            np.zeros((1, 5), np.float32) if weights is None else weights
        ),
    }
    for name, tensor in inputs.items():
        request.inputs[name].CopyFrom(tensor)
    return request


def assert_refused(call, request, codes, words):
    with pytest.raises(grpc.RpcError) as refused:
        call(request)
    assert refused.value.code() in codes
    assert words in refused.value.details()


class ModelServerSuite:
    """Tests; subclasses give `start`."""

    def start(self, models: dict[str, Path], log_path: Path) -> ServerProcess:
        raise NotImplementedError

    @pytest.fixture(scope="class")
    def base_path(self, tmp_path_factory, toys):
        path = tmp_path_factory.mktemp("serving") / "adaptower"
        path.mkdir()
        push(toys[0], path, 1)
        return path

    @pytest.fixture(scope="class")
    def server(self, base_path, tmp_path_factory):
        log_path = tmp_path_factory.mktemp("logs") / "server.log"
        with self.start({"adaptower": base_path}, log_path) as server:
            yield server

    @pytest.fixture(scope="class")
    def caller(self, server):
        caller = Caller(server.target)
        yield caller
        caller.channel.close()

    def test_rank_equals_the_oracle(self, caller, oracles):
        weights = np.array([[0.3, -0.2, 0.5, 0.1, -1.0]], np.float32)
        response = caller.predict(rank_request(weights=weights))
        np.testing.assert_allclose(
            decode_tensor(response.outputs["score"])[0],
            oracles[0].rank(FEATURES, ITEMS, weights[0]),
            atol=1e-5,
        )
        assert response.model_spec.name == "adaptower"
        assert response.model_spec.version.value == 1
        assert response.model_spec.signature_name == "rank"

    def test_default_signature_is_rank(self, caller):
        default = caller.predict(rank_request(signature=""))
        named = caller.predict(rank_request())
        np.testing.assert_array_equal(
            decode_tensor(default.outputs["score"]),
            decode_tensor(named.outputs["score"]),
        )

    def test_adapt_equals_the_oracle(self, caller, oracles):
        request = rank_request(signature="adapt")
        labels, weights = [1.0, 0.0, 1.0], [1.0, 2.0, 0.5]
        request.inputs["label"].CopyFrom(
            encode_tensor(np.array([labels], np.float32))
        )
        request.inputs["weight"].CopyFrom(
            encode_tensor(np.array([weights], np.float32))
        )
        for name, value in oracles[0].parameters.meta_state.inputs().items():
            request.inputs[name].CopyFrom(encode_tensor(value))
        outputs = caller.predict(request).outputs
        adapted, before, after = oracles[0].adapt(
            FEATURES, ITEMS, labels, weights, np.zeros(5)
        )
        got = decode_tensor(outputs["adaptive_weights"])[0]
        np.testing.assert_allclose(got, adapted, atol=1e-5)
        assert decode_tensor(outputs["loss_before"])[0] == pytest.approx(
            before, abs=1e-5
        )
        assert decode_tensor(outputs["loss_after"])[0] == pytest.approx(
            after, abs=1e-5
        )

    def test_meta_gradient_equals_the_oracle(self, caller, oracles):
        request = rank_request(signature="meta_gradient")
        for name in ("item_id", "adaptive_weights"):
            del request.inputs[name]
        labels, weights = [1.0, 0.0, 1.0], [1.0, 2.0, 0.5]
        state = oracles[0].parameters.meta_state
        inputs = dict(state.inputs())
        for half in ("support", "query"):
            request.inputs[f"{half}_item_id"].CopyFrom(
                string_tensor(ITEMS, (1, 3))
            )
            inputs[f"{half}_label"] = np.array([labels], np.float32)
            inputs[f"{half}_weight"] = np.array([weights], np.float32)
            labels, weights = [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(encode_tensor(value))
        outputs = caller.predict(request).outputs
        by_init, by_steps, loss = oracles[0].meta_gradient(
            FEATURES,
            (ITEMS, [1.0, 0.0, 1.0], [1.0, 2.0, 0.5]),
            (ITEMS, [0.0, 1.0, 0.0], [1.0, 1.0, 0.0]),
            state,
        )
        for name, expected in (
            ("meta_init_gradient", by_init),
            ("log_inner_lr_gradient", by_steps),
            ("loss", [loss]),
        ):
            np.testing.assert_allclose(
                decode_tensor(outputs[name]), expected, atol=1e-5
            )

    def test_recommend_leaves_out_excluded_items(self, caller, oracles):
        request = rank_request(signature="recommend")
        del request.inputs["item_id"]
        scores = oracles[0].rank(
            FEATURES, [f"{i:03d}" for i in range(8)], np.zeros(5)
        )
        order = [f"{i:03d}" for i in np.argsort(-scores)]
        request.inputs["exclude_item_id"].CopyFrom(
            string_tensor(order[:1], (1, 1))
        )
        request.inputs["k"].CopyFrom(encode_tensor(np.array(3, np.int32)))
        outputs = caller.predict(request).outputs
        found = decode_tensor(outputs["item_id"])[0]
        assert [item.decode() for item in found] == order[1:4]

    def test_output_filter_is_followed(self, caller):
        request = rank_request()
        request.output_filter.append("score")
        assert list(caller.predict(request).outputs) == ["score"]

    def test_metadata_names_inputs_and_outputs(self, caller):
        request = pb.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "adaptower"
        packed = caller.metadata(request).metadata["signature_def"]
        assert packed.type_url.endswith("tensorflow.serving.SignatureDefMap")
        signatures = pb.SignatureDefMap.FromString(packed.value).signature_def
        assert set(signatures["rank"].inputs) == set(rank_request().inputs)
        assert set(signatures["rank"].outputs) == {"score", "item_known"}

    def test_unknown_model_is_not_found(self, caller):
        request = rank_request()
        request.model_spec.name = "nobody"
        assert_refused(
            caller.predict, request, {grpc.StatusCode.NOT_FOUND}, "nobody"
        )

    def test_unknown_version_is_not_found(self, caller):
        assert_refused(
            caller.predict,
            rank_request(version=77),
            {grpc.StatusCode.NOT_FOUND},
            "77",
        )

    def test_unknown_signature_is_a_failed_precondition(self, caller):
        assert_refused(
            caller.predict,
            rank_request(signature="rnak"),
            {grpc.StatusCode.FAILED_PRECONDITION},
            "rnak",
        )

    def test_missing_input_is_named(self, caller):
        request = rank_request()
        del request.inputs["adaptive_weights"]
        assert_refused(
            caller.predict,
            request,
            {grpc.StatusCode.INVALID_ARGUMENT},
            "adaptive_weights",
        )

    def test_wrong_dtype_is_an_invalid_argument(self, caller):
        request = rank_request()
        request.inputs["age"].CopyFrom(encode_tensor(np.array([30], np.int64)))
        assert_refused(
            caller.predict, request, {grpc.StatusCode.INVALID_ARGUMENT}, ""
        )

    def test_wrong_number_of_weights_is_an_invalid_argument(self, caller):
        assert_refused(
            caller.predict,
            rank_request(weights=np.zeros((1, 6), np.float32)),
            {grpc.StatusCode.INVALID_ARGUMENT},
            "",
        )

    @pytest.mark.parametrize(
        ("values", "shape"),
        [
            ({"tensor_content": bytes(20)}, (-1, -5)),
            ({"float_val": [0.0]}, (2**40, 5)),
            ({}, (2**31, 2**31, 2**31, 0)),
        ],
    )
    def test_forged_shape_ends_no_server(self, caller, values, shape):
        request = rank_request()
        request.inputs["adaptive_weights"].CopyFrom(
            pb.TensorProto(
                dtype=pb.DT_FLOAT, tensor_shape=shape_proto(shape), **values
            )
        )
        with pytest.raises(grpc.RpcError) as refused:
            caller.predict(request)
        assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caller.predict(rank_request()).outputs

    # The following change what is served, in this order.

    def test_bad_version_does_not_unseat_the_old(self, caller, base_path):
        (base_path / "2").mkdir()
        caller.wait_for(2, END)
        assert caller.states()[1] == AVAILABLE
        assert caller.predict(rank_request()).model_spec.version.value == 1

    def test_bad_version_is_taken_once_mended(self, caller, base_path, toys):
        (base_path / "2").rmdir()
        push(toys[1], base_path, 2)
        caller.wait_for(2, AVAILABLE)

    def test_swap_answers_with_the_new_version(self, caller, oracles):
        response = caller.predict(rank_request())
        assert response.model_spec.version.value == 2
        np.testing.assert_allclose(
            decode_tensor(response.outputs["score"])[0],
            oracles[1].rank(FEATURES, ITEMS, np.zeros(5)),
            atol=1e-5,
        )

    def test_pinned_old_version_still_answers(self, caller):
        response = caller.predict(rank_request(version=1))
        assert response.model_spec.version.value == 1

    def test_third_version_drops_the_first(self, caller, base_path, toys):
        push(toys[0], base_path, 3)
        caller.wait_for(3, AVAILABLE)
        caller.wait_for(1, END)
        assert caller.states()[2] == AVAILABLE
        assert_refused(
            caller.predict,
            rank_request(version=1),
            {grpc.StatusCode.NOT_FOUND},
            "1",
        )
