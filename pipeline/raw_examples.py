"""Examples as InteractionExampleGen wrote them, decoded column by column."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from tfx_bsl.coders import example_coder

_BATCH_RECORDS = 4096


def record_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Decodes a TFRecord file of tf.Examples.

    Args:
        path: The file, compressed by gzip.

    Yields:
        Some thousand examples at a time: one list column per feature.
    """
    # TensorFlow takes seconds to import; `adaptower --help` must not pay it.
    import tensorflow as tf

    decoder = example_coder.ExamplesToRecordBatchDecoder()
    records = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    for serialized in records.batch(_BATCH_RECORDS).as_numpy_iterator():
        yield decoder.DecodeBatch(list(serialized))


def list_column(batch: pa.RecordBatch, name: str) -> list[list[object]]:
    """A column as Python lists; empty ones where it or a value is absent."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return [[]] * batch.num_rows
    return [values or [] for values in batch.column(index).to_pylist()]


def as_text(value: object) -> str:
    """An id or another text, which an example holds as bytes."""
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
