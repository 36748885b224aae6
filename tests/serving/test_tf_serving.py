"""Our private messages against TensorFlow's own."""

import subprocess
import sys

import numpy as np
import pytest

from serving.errors import InvalidRequestError
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import (
    MAX_FILLED,
    decode_tensor,
    encode_tensor,
    shape_proto,
    string_tensor,
)

ARRAYS = [
    np.array([[0.5, -1.25], [np.nan, np.inf]], np.float32),
    np.array([1e300, -0.0]),
    np.array([[1], [-(2**31)]], np.int32),
    np.array(-(2**63), np.int64),
    np.array([[True, False]]),
    np.array([[b"007", b""], [b"\xff\x00", "ä".encode()]], object),
    np.zeros((0, 3), np.float32),
]
IDS = [str(array.dtype) for array in ARRAYS]


def assert_same(actual, expected):
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("array", ARRAYS, ids=IDS)
def test_tensorflow_reads_our_tensors(array):
    import tensorflow as tf
    from tensorflow.core.framework import tensor_pb2

    data = encode_tensor(array).SerializeToString()
    assert_same(tf.make_ndarray(tensor_pb2.TensorProto.FromString(data)), array)


@pytest.mark.parametrize("array", ARRAYS, ids=IDS)
def test_we_read_tensorflows_tensors(array):
    import tensorflow as tf

    data = tf.make_tensor_proto(array).SerializeToString()
    assert_same(decode_tensor(pb.TensorProto.FromString(data)), array)


def test_we_read_single_values_as_tensorflow_does():
    import tensorflow as tf

    theirs = tf.make_tensor_proto(0.5, tf.float32, shape=[2, 3])
    ours = pb.TensorProto.FromString(theirs.SerializeToString())
    assert_same(decode_tensor(ours), np.full((2, 3), 0.5, np.float32))


def test_string_tensor_is_the_array_of_its_texts():
    tensor = string_tensor(["a", "ä"], (1, 2))
    expected = np.array([[b"a", "ä".encode()]], object)
    assert_same(decode_tensor(tensor), expected)


def test_predict_request_has_tf_servings_bytes():
    from tensorflow_serving.apis import predict_pb2

    ours = pb.PredictRequest(output_filter=["score"])
    ours.model_spec.name = "adaptower"
    ours.model_spec.version.value = 7
    ours.model_spec.signature_name = "rank"
    ours.inputs["age"].CopyFrom(encode_tensor(np.array([3.0], np.float32)))
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert theirs.model_spec.name == "adaptower"
    assert theirs.model_spec.version.value == 7
    assert theirs.model_spec.signature_name == "rank"
    assert list(theirs.output_filter) == ["score"]
    assert theirs.SerializeToString(deterministic=True) == (
        ours.SerializeToString(deterministic=True)
    )


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("predict_pb2", "PredictRequest"),
        ("predict_pb2", "PredictResponse"),
        ("model_pb2", "ModelSpec"),
        ("get_model_status_pb2", "GetModelStatusRequest"),
        ("get_model_status_pb2", "GetModelStatusResponse"),
        ("get_model_status_pb2", "ModelVersionStatus"),
        ("get_model_metadata_pb2", "GetModelMetadataRequest"),
        ("get_model_metadata_pb2", "GetModelMetadataResponse"),
        ("get_model_metadata_pb2", "SignatureDefMap"),
        ("prediction_log_pb2", "PredictionLog"),
        ("prediction_log_pb2", "PredictLog"),
    ],
)
def test_our_fields_are_tf_servings(module, message):
    import importlib

    apis = importlib.import_module(f"tensorflow_serving.apis.{module}")
    differences = []

    def compare(ours, theirs, seen):
        if ours.full_name in seen:
            return
        seen.add(ours.full_name)
        for field in ours.fields:
            their_field = theirs.fields_by_number.get(field.number)
            if their_field is None or field.name != their_field.name:
                differences.append(field.full_name)
            elif field.message_type is not None:
                compare(field.message_type, their_field.message_type, seen)
            elif field.label != their_field.label or (
                # An enum of a file that we don't copy is an int32 to us.
                field.type != their_field.type
                and field.full_name.rpartition(".")[2] != "error_code"
            ):
                differences.append(field.full_name)

    theirs = getattr(apis, message).DESCRIPTOR
    compare(pb.DESCRIPTOR.message_types_by_name[message], theirs, set())
    assert not differences


@pytest.mark.parametrize("ours_first", [True, False])
def test_both_kinds_of_messages_live_in_one_process(ours_first):
    imports = [
        "from serving.protos import tf_serving_pb2, recommender_pb2",
        "from tensorflow_serving.apis import predict_pb2",
    ]
    program = "\n".join(imports if ours_first else reversed(imports))
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (pb.TensorProto(dtype=99), "DataType 99"),
        (
            pb.TensorProto(dtype=pb.DT_FLOAT, tensor_content=b"1234567"),
            "4 bytes",
        ),
        (string_tensor(["a", "b"], (3, 0)), "needs 0 values"),
        (string_tensor(["a"], (-1,)), "negative"),
        (string_tensor([], (2,)), "needs 2 values"),
        (string_tensor(["a"], (10**9,)), "must all be sent"),
        (
            pb.TensorProto(
                dtype=pb.DT_FLOAT,
                tensor_shape=shape_proto((MAX_FILLED + 1,)),
                float_val=[1.0],
            ),
            "1 values of 1048577",
        ),
        (string_tensor([], (0, 2**40)), "no more than"),
        (string_tensor(["a"], (1,) * 33), "33 dimensions"),
    ],
)
def test_tensor_that_does_not_fill_its_shape_is_refused(tensor, words):
    with pytest.raises(InvalidRequestError, match=words):
        decode_tensor(tensor)


def test_array_of_another_dtype_is_refused():
    with pytest.raises(InvalidRequestError, match="complex"):
        encode_tensor(np.zeros(1, complex))
