"""Encoded Examples against TensorFlow's own protos."""

import pyarrow as pa
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from components.interaction_example_gen import encoding

# Lengths around 128 and 16,384 take one, two and three bytes to write down.
TEXT = st.text(max_size=3) | st.sampled_from(["x" * 100, "x" * 16_360])
ROW = st.tuples(
    st.none() | TEXT,
    st.none() | st.floats(width=32, allow_nan=False),
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.lists(TEXT, min_size=1, max_size=3),
)


def expected_example(text, number, whole, texts):
    example = tf.train.Example()
    feature = example.features.feature
    for name in ("text", "number", "whole", "texts"):
        feature[name].SetInParent()
    if text is not None:
        feature["text"].bytes_list.value.append(text.encode())
    if number is not None:
        feature["number"].float_list.value.append(number)
    feature["whole"].int64_list.value.append(whole)
    if texts is not None:
        encoded = [value.encode() for value in texts]
        feature["texts"].bytes_list.value.extend(encoded)
    return example


@given(st.lists(ROW, min_size=1, max_size=8))
def test_examples_parse_to_the_rows_they_were_made_of(rows):
    text, number, whole, texts = zip(*rows, strict=True)
    entity = encoding.encode_features(
        {
            "text": pa.array(text, pa.string()),
            "number": pa.array(number, pa.float32()),
            "texts": pa.array(texts, pa.list_(pa.string())),
        }
    )
    parts = [
        (entity, pa.array(range(len(rows)))),
        encoding.repeated("whole", pa.array(whole, pa.int64())),
    ]
    records = list(encoding.to_examples(parts))
    assert [tf.train.Example.FromString(record) for record in records] == [
        expected_example(*row) for row in rows
    ]
    # Canonical lengths: parsing and writing changes no size.
    assert [len(record) for record in records] == [
        expected_example(*row).ByteSize() for row in rows
    ]


def test_no_rows_give_no_examples():
    part = encoding.repeated("whole", pa.array([], pa.int64()))
    assert list(encoding.to_examples([part])) == []
