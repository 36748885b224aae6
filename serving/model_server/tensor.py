"""Tensors between the wire and the C API: bytes, never parsed into numbers.

A number's bytes on the wire are the bytes in TensorFlow's memory, so one copy
each way is all it takes; batches are joined and split as bytes too.
"""

import array
import ctypes
import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from serving.errors import GraphError
from serving.model_server.c_api import tensorflow
from serving.protos import tf_serving_pb2 as pb
from serving.tf_serving import (
    decode_tensor,
    item_bytes,
    shape_proto,
    tensor_shape,
)

Data: TypeAlias = bytes | Sequence[bytes]

# TF_TString, see tensorflow/core/platform/ctstring_internal.h: 24 bytes of
# which the lowest two bits say how the rest is read.
_STRING_BYTES = 24
_SMALL, _VIEW, _TYPE_BITS = 0, 3, 2


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor in memory of ours.

    Attributes:
        dtype: TensorFlow's DataType.
        shape: Sizes of the dimensions.
        data: The values in row-major order: little-endian bytes, or one
            `bytes` for each string.
    """

    dtype: int
    shape: tuple[int, ...]
    data: Data

    @classmethod
    def from_proto(cls, proto: pb.TensorProto) -> "Tensor":
        """Reads a tensor of a request.

        Raises:
            InvalidRequestError: The type is not supported, the shape can't
                be, or the values don't fill it.
        """
        dtype = proto.dtype
        # TensorFlow ends the process at a shape that can't be.
        shape = tensor_shape(proto)
        size = math.prod(shape)
        if dtype == pb.DT_STRING:
            if len(proto.string_val) == size:
                return cls(dtype, shape, list(proto.string_val))
            return cls(dtype, shape, decode_tensor(proto).ravel().tolist())
        content = proto.tensor_content
        if content and len(content) == size * item_bytes(dtype):
            return cls(dtype, shape, content)
        return cls(dtype, shape, decode_tensor(proto).tobytes())

    def write(self, proto: pb.TensorProto) -> None:
        """Fills an empty message."""
        proto.dtype = self.dtype  # type: ignore[assignment]
        proto.tensor_shape.CopyFrom(shape_proto(self.shape))
        if isinstance(self.data, bytes):
            proto.tensor_content = self.data
        else:
            proto.string_val.extend(self.data)

    @classmethod
    def from_library(cls, handle: int) -> "Tensor":
        """Copies the values of a TF_Tensor."""
        tf = tensorflow()
        dtype = tf.TF_TensorType(handle)
        shape = tuple(
            [tf.TF_Dim(handle, i) for i in range(tf.TF_NumDims(handle))]
        )
        address = tf.TF_TensorData(handle)
        if dtype != pb.DT_STRING:
            size = tf.TF_TensorByteSize(handle)
            return cls(dtype, shape, ctypes.string_at(address, size))
        # Not the byte size: see `_allocate`.
        size = math.prod(shape) * _STRING_BYTES
        raw = ctypes.string_at(address, size)
        return cls(
            dtype,
            shape,
            [
                _read_string(raw, at, address)
                for at in range(0, size, _STRING_BYTES)
            ],
        )


class LibraryTensors:
    """TF_Tensors with the values of some tensors; a context manager.

    Attributes:
        handles: Array of the TF_Tensor pointers, for TF_SessionRun.
    """

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.handles: Any = (ctypes.c_void_p * len(tensors))()
        self._tensors = tensors

    def __enter__(self) -> "LibraryTensors":
        for index, tensor in enumerate(self._tensors):
            self.handles[index] = _allocate(tensor)
        return self

    def __exit__(self, *unused: object) -> None:
        delete = tensorflow().TF_DeleteTensor
        for handle in self.handles:
            if handle:
                delete(handle)


def _allocate(tensor: Tensor) -> int:
    """Returns a new TF_Tensor.

    Of strings it holds the characters too, behind what points to them: so
    they live as long as it does, and it frees them with itself.
    """
    tf = tensorflow()
    data = tensor.data
    rank = len(tensor.shape)
    shape = (ctypes.c_int64 * rank)(*tensor.shape)
    if isinstance(data, bytes):
        handle: int = tf.TF_AllocateTensor(tensor.dtype, shape, rank, len(data))
        ctypes.memmove(tf.TF_TensorData(handle), data, len(data))
        return handle
    head = _STRING_BYTES * len(data)
    characters = b"".join(data)
    size = head + len(characters)
    handle = tf.TF_AllocateTensor(tensor.dtype, shape, rank, size)
    address = tf.TF_TensorData(handle)
    views = string_views([*map(len, data)], address + head)
    ctypes.memmove(address, views + characters, size)
    return handle


def string_views(sizes: Sequence[int], address: int) -> bytes:
    """Returns TF_TStrings that point to characters one after the other.

    Args:
        sizes: Size of each string in bytes.
        address: Where the characters of the first one are.
    """
    words = array.array("Q", bytes(_STRING_BYTES * len(sizes)))
    words[::3] = array.array(
        "Q", [size << _TYPE_BITS | _VIEW for size in sizes]
    )
    ends = itertools.accumulate(sizes, initial=address)
    words[1::3] = array.array("Q", itertools.islice(ends, len(sizes)))
    return words.tobytes()


def _read_string(raw: bytes, at: int, address: int) -> bytes:
    kind = raw[at] & ((1 << _TYPE_BITS) - 1)
    if kind == _SMALL:
        return raw[at + 1 : at + 1 + (raw[at] >> _TYPE_BITS)]
    tf = tensorflow()
    return ctypes.string_at(
        tf.TF_StringGetDataPointer(address + at),
        tf.TF_StringGetSize(address + at),
    )


def concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Joins tensors along their first dimension; the others must be equal."""
    first = parts[0]
    shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
    # All of one type, hence all bytes or all lists.
    pieces: Any = [part.data for part in parts]
    data: Data
    if isinstance(first.data, bytes):
        data = b"".join(pieces)
    else:
        data = list(itertools.chain.from_iterable(pieces))
    return Tensor(first.dtype, shape, data)


def split(tensor: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Undoes `concatenate`.

    Args:
        tensor: The joined tensors.
        sizes: The first dimension of each.

    Raises:
        GraphError: They don't add up to the tensor's.
    """
    rows = tensor.shape[0]
    if rows != sum(sizes):
        raise GraphError(
            f"{sum(sizes)} rows went into the graph and {rows} came out."
        )
    per_row = len(tensor.data) // rows if rows else 0
    parts, start = [], 0
    for size in sizes:
        end = start + size * per_row
        parts.append(
            Tensor(
                tensor.dtype,
                (size, *tensor.shape[1:]),
                tensor.data[start:end],
            )
        )
        start = end
    return parts
