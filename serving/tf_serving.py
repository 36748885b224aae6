"""TF Serving's gRPC API without TensorFlow: method paths and tensors.

Tensors follow `tensorflow.make_tensor_proto` and `tf.make_ndarray`: numbers
travel as little-endian bytes in `tensor_content` or one by one in the `*_val`
field of their type, where the last value stands for all that are left out.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import InvalidRequestError
from serving.protos import tf_serving_pb2 as pb

PREDICTION_SERVICE = "tensorflow.serving.PredictionService"
MODEL_SERVICE = "tensorflow.serving.ModelService"
PREDICT = f"/{PREDICTION_SERVICE}/Predict"
GET_MODEL_METADATA = f"/{PREDICTION_SERVICE}/GetModelMetadata"
GET_MODEL_STATUS = f"/{MODEL_SERVICE}/GetModelStatus"

# What a shape says costs its sender nothing. A value may stand for so many
# equal ones at most; larger tensors are sent whole.
MAX_FILLED = 1 << 20
# What no message is large enough for, but an empty tensor may claim: the
# product of its other sizes. And as many dimensions as NumPy has.
_MAX_VALUES = 1 << 31
_MAX_RANK = 32

_DTYPES: dict[int, Any] = {
    pb.DT_FLOAT: np.dtype("<f4"),
    pb.DT_DOUBLE: np.dtype("<f8"),
    pb.DT_INT32: np.dtype("<i4"),
    pb.DT_INT64: np.dtype("<i8"),
    pb.DT_BOOL: np.dtype(bool),
}
_DTYPE_OF = {dtype: number for number, dtype in _DTYPES.items()}
_VALUE_FIELDS = {
    pb.DT_FLOAT: "float_val",
    pb.DT_DOUBLE: "double_val",
    pb.DT_INT32: "int_val",
    pb.DT_INT64: "int64_val",
    pb.DT_BOOL: "bool_val",
    pb.DT_STRING: "string_val",
}


def shape_proto(shape: Iterable[int]) -> pb.TensorShapeProto:
    """Returns a shape as a message."""
    return pb.TensorShapeProto(
        dim=[pb.TensorShapeProto.Dim(size=size) for size in shape]
    )


def string_tensor(
    values: Sequence[str], shape: tuple[int, ...]
) -> pb.TensorProto:
    """Encodes text in row-major order as a string tensor."""
    return pb.TensorProto(
        dtype=pb.DT_STRING,
        tensor_shape=shape_proto(shape),
        string_val=[value.encode() for value in values],
    )


def encode_tensor(array: NDArray[Any]) -> pb.TensorProto:
    """Encodes an array.

    Args:
        array: Of float32, float64, int32, int64, bool, or of bytes objects.

    Raises:
        InvalidRequestError: The array has another dtype.
    """
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        return pb.TensorProto(
            dtype=pb.DT_STRING,
            tensor_shape=shape_proto(array.shape),
            string_val=array.ravel().tolist(),
        )
    number = _DTYPE_OF.get(array.dtype)
    if number is None:
        raise InvalidRequestError(
            f"A tensor of dtype {array.dtype} can't be sent; use one of "
            f"{', '.join(map(str, _DTYPE_OF))} or bytes."
        )
    return pb.TensorProto(
        dtype=number,  # type: ignore[arg-type]
        tensor_shape=shape_proto(array.shape),
        tensor_content=array.tobytes(),
    )


def tensor_shape(tensor: pb.TensorProto) -> tuple[int, ...]:
    """Returns the shape of a tensor from anybody, which may be forged.

    Raises:
        InvalidRequestError: No tensor has such a shape.
    """
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if len(shape) > _MAX_RANK:
        raise InvalidRequestError(
            f"A tensor has {len(shape)} dimensions; at most {_MAX_RANK} are "
            "allowed."
        )
    if min(shape, default=0) < 0:
        raise InvalidRequestError(
            f"A tensor has the shape {list(shape)}; sizes can't be negative."
        )
    if math.prod([size or 1 for size in shape]) > _MAX_VALUES:
        raise InvalidRequestError(
            f"A tensor has the shape {list(shape)}; no more than "
            f"{_MAX_VALUES} values are allowed."
        )
    return shape


def decode_tensor(tensor: pb.TensorProto) -> NDArray[Any]:
    """Decodes a tensor; strings become an object array of bytes.

    Raises:
        InvalidRequestError: The type is not supported, the shape can't be,
            or the values don't fill it.
    """
    shape = tensor_shape(tensor)
    field = _VALUE_FIELDS.get(tensor.dtype)
    if field is None:
        raise InvalidRequestError(
            f"Tensors of DataType {tensor.dtype} are not supported; use "
            "float, double, int32, int64, bool or string."
        )
    size = math.prod(shape)
    if tensor.dtype == pb.DT_STRING:
        values = np.empty(len(tensor.string_val), dtype=object)
        values[:] = tensor.string_val
    elif tensor.tensor_content:
        dtype = _DTYPES[tensor.dtype]
        if len(tensor.tensor_content) != size * dtype.itemsize:
            raise InvalidRequestError(
                f"A tensor of shape {list(shape)} needs "
                f"{size * dtype.itemsize} bytes of tensor_content, got "
                f"{len(tensor.tensor_content)}."
            )
        values = np.frombuffer(tensor.tensor_content, dtype)
    else:
        values = np.asarray(getattr(tensor, field), _DTYPES[tensor.dtype])
    if len(values) != size:
        if not 0 < len(values) < size:
            raise InvalidRequestError(
                f"A tensor of shape {list(shape)} needs {size} values, got "
                f"{len(values)}."
            )
        if size > MAX_FILLED:
            raise InvalidRequestError(
                f"A tensor of shape {list(shape)} has {len(values)} values "
                f"of {size}; more than {MAX_FILLED} must all be sent."
            )
        values = np.pad(values, (0, size - len(values)), mode="edge")
    return values.reshape(shape)


def item_bytes(dtype: int) -> int:
    """Returns how many bytes a value has in `tensor_content`; 0 if unknown."""
    return _DTYPES[dtype].itemsize if dtype in _DTYPES else 0


def dtype_name(number: int) -> str:
    """Returns a DataType in words, for error messages."""
    if number in pb.DataType.values():
        return pb.DataType.Name(number).removeprefix("DT_").lower()  # type: ignore[arg-type]
    return f"DataType {number}"
