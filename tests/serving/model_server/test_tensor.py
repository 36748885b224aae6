"""That the wire format is TensorFlow's is tested with serving.tf_serving."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import GraphError, InvalidRequestError
from serving.model_server.tensor import (
    LibraryTensors,
    Tensor,
    concatenate,
    split,
)
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import decode_tensor, encode_tensor, shape_proto

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
# Up to 22 bytes are stored inside a TF_TString, more outside.
STRINGS = st.binary(max_size=60)


@st.composite
def tensors(draw, shapes=SHAPES):
    shape = draw(shapes)
    size = math.prod(shape)
    if draw(st.booleans()):
        strings = draw(st.lists(STRINGS, min_size=size, max_size=size))
        return Tensor(pb.DT_STRING, shape, strings)
    content = draw(st.binary(min_size=4 * size, max_size=4 * size))
    return Tensor(pb.DT_FLOAT, shape, content)


def same(one, other):
    return (one.dtype, one.shape, list(one.data)) == (
        other.dtype,
        other.shape,
        list(other.data),
    )


@given(tensors())
def test_what_goes_into_the_library_comes_out(tensor):
    with LibraryTensors([tensor]) as library:
        assert same(Tensor.from_library(library.handles[0]), tensor)


@given(tensors())
def test_what_is_written_on_the_wire_is_read(tensor):
    proto = pb.TensorProto()
    tensor.write(proto)
    assert same(Tensor.from_proto(proto), tensor)


@given(st.lists(tensors(st.just((2, 3))), min_size=1, max_size=4))
def test_split_undoes_concatenate(parts):
    parts = [part for part in parts if part.dtype == parts[0].dtype]
    joined = concatenate(parts)
    assert joined.shape == (2 * len(parts), 3)
    pieces = split(joined, [2] * len(parts))
    assert all(map(same, pieces, parts))


def test_rows_that_got_lost_are_noticed():
    tensor = Tensor(pb.DT_FLOAT, (2,), bytes(8))
    with pytest.raises(GraphError, match="3 rows went in"):
        split(tensor, [2, 1])


def test_values_one_by_one_are_read_as_well():
    proto = pb.TensorProto(
        dtype=pb.DT_INT64, tensor_shape=shape_proto((3,)), int64_val=[7, 8]
    )
    assert Tensor.from_proto(proto).data == np.array([7, 8, 8]).tobytes()
    assert same(
        Tensor.from_proto(proto),
        Tensor.from_proto(encode_tensor(decode_tensor(proto))),
    )


@pytest.mark.parametrize(
    ("values", "shape"),
    [
        ({"float_val": [1.0]}, (10**9,)),
        ({"tensor_content": b"abcd"}, (10**9,)),
        # TensorFlow would end the process at these.
        ({"tensor_content": bytes(20)}, (-1, -5)),
        ({}, (2**31, 2**31, 2**31, 0)),
        ({"float_val": [1.0]}, (1,) * 255),
    ],
)
def test_forged_shape_is_refused(values, shape):
    proto = pb.TensorProto(
        dtype=pb.DT_FLOAT, tensor_shape=shape_proto(shape), **values
    )
    with pytest.raises(InvalidRequestError):
        Tensor.from_proto(proto)
