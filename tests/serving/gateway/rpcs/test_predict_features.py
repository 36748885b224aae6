import numpy as np
import pytest

from serving.gateway.rpcs.predict_features import told_features
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import encode_tensor, string_tensor


def test_rows_of_inputs_are_what_rank_takes():
    inputs = {
        "tags": string_tensor(["war", "", "drama", "war"], (2, 2)),
        "age": encode_tensor(np.array([30.0], np.float32)),
        "item_id": string_tensor(["000"], (1, 1)),
    }
    first, second = told_features(inputs, ["tags", "age", "segment"], 2)
    assert first.keys() == second.keys() == {"tags", "age"}
    assert list(first["tags"].strings.values) == ["war"]
    assert list(second["tags"].strings.values) == ["drama", "war"]
    assert list(second["age"].numbers.values) == [30.0]


@pytest.mark.parametrize(
    "tensor",
    [
        encode_tensor(np.zeros(2, np.float32)),
        pb.TensorProto(),
        pb.TensorProto(dtype=pb.DT_FLOAT, tensor_content=b"abc"),
    ],
    ids=["other number of rows", "other type", "torn"],
)
def test_feature_that_fits_no_rows_is_left_out_and_breaks_nothing(tensor):
    """It was left out for the model that answered, which so let it pass."""
    assert told_features({"age": tensor}, ["age"], 3) == [{}, {}, {}]
