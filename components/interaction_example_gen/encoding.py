"""Encodes rows as tf.Examples: each distinct value once, always alike.

A serialized tf.Example is, after a tag and a length, its features one after
the other, in any order. So the features of a user, of an item, a timestamp
or a label are encoded once, by tfx_bsl, and the Example of a row is put
together from them: several times as fast as encoding every row, and, unlike
tfx_bsl with more than one feature (protobuf maps have no order), the same
bytes in every run.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders.example_coder import RecordBatchToExamplesEncoder

# A column in which values repeat: distinct values [m], and for each of the n
# rows which of them it has.
Repeated = tuple[pa.Array, pa.Array]

_ROWS_AT_ONCE = 1 << 14
# Protobuf: field 1, a message, in which the length of the message follows.
_TAG = b"\x0a"


def encode_features(columns: dict[str, pa.Array]) -> pa.Array:
    """Encodes features.

    Args:
        columns: Arrays of text, numbers or lists of text by name, all [m]; a
            null is a feature without a value.

    Returns:
        For each row the bytes of its features, binary, [m].
    """
    encoder = RecordBatchToExamplesEncoder()
    encoded = []
    for name, values in columns.items():
        lists = _as_feature_lists(values)
        batch = pa.RecordBatch.from_arrays([lists], [name])
        examples = encoder.encode(batch) if len(batch) else []
        bare = [example[_prefix_size(len(example)) :] for example in examples]
        encoded.append(pa.array(bare, pa.binary()))
    return pc.binary_join_element_wise(*encoded, b"")


def repeated(name: str, values: pa.Array) -> Repeated:
    """Returns the encoded features of a column whose values repeat."""
    column = values.dictionary_encode()
    return encode_features({name: column.dictionary}), column.indices


def to_examples(parts: Sequence[Repeated]) -> Iterator[bytes]:
    """Puts tf.Examples together.

    Args:
        parts: Encoded features; all for the same n rows.

    Yields:
        n serialized tf.Examples.
    """
    for start in range(0, len(parts[0][1]), _ROWS_AT_ONCE):
        features = pc.binary_join_element_wise(
            *[
                encoded.take(rows.slice(start, _ROWS_AT_ONCE))
                for encoded, rows in parts
            ],
            b"",
        )
        lengths = pc.binary_length(features).dictionary_encode()
        prefixes = [_TAG + _varint(n) for n in lengths.dictionary.to_pylist()]
        prefix = pa.array(prefixes, pa.binary()).take(lengths.indices)
        yield from pc.binary_join_element_wise(
            prefix, features, b""
        ).to_pylist()


def _varint(number: int) -> bytes:
    """Protobuf's variable-length whole number."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _prefix_size(example_size: int) -> int:
    """How many bytes of an Example come before its features."""
    size = len(_TAG) + 1
    while example_size - size >= 1 << 7 * (size - len(_TAG)):
        size += 1
    return size


def _as_feature_lists(values: pa.Array) -> pa.Array:
    """The types that tfx_bsl encodes: lists of bytes, float32 or int64."""
    if pa.types.is_list(values.type):
        return values.cast(pa.list_(pa.binary()))
    if pa.types.is_string(values.type):
        values = values.cast(pa.binary())
    valid = pc.is_valid(values)
    ends = np.cumsum(valid.to_numpy(zero_copy_only=False), dtype=np.int32)
    offsets = pa.array(np.concatenate([np.zeros(1, np.int32), ends]))
    # A null must stay a null list: an empty one is a present feature.
    return pa.Array.from_buffers(
        pa.list_(values.type),
        len(values),
        [valid.buffers()[1], offsets.buffers()[1]],
        children=[values.drop_null()],
    )
