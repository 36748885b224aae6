"""Reads tables in record batches, never a whole file at a time."""

import csv
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from components.dataset_tables import TableSpec
from components.errors import InputDataError
from components.interaction_example_gen.csv_files import read_csv
from components.interaction_example_gen.files import open_file
from components.interaction_example_gen.raw_batch import (
    RawBatch,
    require_columns,
)

_BATCH_ROWS = 1 << 16


def read_batches(
    path: str, folder: str, table: TableSpec, wanted: list[str], name: str
) -> Iterator[RawBatch]:
    """Reads the wanted columns of a file.

    Args:
        path: The file.
        folder: Folder of the dataset, which says what file system it is on.
        table: How to read it.
        wanted: Names of the columns.
        name: Name of the table, for errors and dead letters.

    Yields:
        The file's rows in order.

    Raises:
        InputDataError: The file can't be read or lacks a column.
    """
    reader = {
        "csv": read_csv,
        "parquet": _read_parquet,
        "tfrecord": _read_tfrecord,
    }[table.format]
    try:
        with open_file(path, folder) as file:
            yield from reader(file, path, table, wanted, name)
    except (OSError, pa.ArrowException, UnicodeError, csv.Error) as error:
        raise InputDataError(
            f"{path}: can't be read as {table.format}: {error}. Check "
            f"`{name}` in the dataset spec (format, delimiter, quoting, "
            f"encoding: {table.encoding})."
        ) from error


def _read_parquet(
    file: pa.NativeFile,
    path: str,
    table: TableSpec,
    wanted: list[str],
    name: str,
) -> Iterator[RawBatch]:
    del table
    parquet = pyarrow.parquet.ParquetFile(file)
    require_columns(wanted, parquet.schema_arrow.names, path, name)
    row = 1
    for batch in parquet.iter_batches(_BATCH_ROWS, columns=wanted):
        # Columns come in the order of the file: put them in ours.
        columns = pa.RecordBatch.from_arrays(
            [batch.column(batch.schema.get_field_index(c)) for c in wanted],
            wanted,
        )
        yield RawBatch(np.arange(row, row + len(batch)), columns, [])
        row += len(batch)


def _read_tfrecord(
    file: pa.NativeFile,
    path: str,
    table: TableSpec,
    wanted: list[str],
    name: str,
) -> Iterator[RawBatch]:
    """tf.Examples; a feature with several values becomes a list column.

    One that no Example of a later batch has is missing there.
    """
    del file, table
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder = ExamplesToRecordBatchDecoder()
    compression = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression).batch(_BATCH_ROWS)
    row = 1
    for serialized in records.as_numpy_iterator():
        batch = decoder.DecodeBatch(list(serialized))
        if row == 1:
            require_columns(wanted, batch.schema.names, path, name)
        columns = [
            _unwrap(batch.column(index)) if index >= 0 else pa.nulls(len(batch))
            for index in map(batch.schema.get_field_index, wanted)
        ]
        yield RawBatch(
            np.arange(row, row + len(batch)),
            pa.RecordBatch.from_arrays(columns, wanted),
            [],
        )
        row += len(batch)


def _unwrap(column: pa.Array) -> pa.Array:
    """Turns lists of at most one value into values; others stay lists."""
    if pa.types.is_null(column.type):
        return column.cast(pa.string())
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    if pc.max(lengths).as_py() > 1:
        return column
    first = pc.cumulative_sum(lengths)
    index = pc.subtract(first, 1)
    empty = pc.equal(lengths, 0)
    index = pc.if_else(empty, pa.scalar(None, index.type), index)
    return column.flatten().take(index)
