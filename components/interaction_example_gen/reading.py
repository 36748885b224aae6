"""Reads tables in record batches, never a whole file at a time.

A CSV column is read as text, whatever it looks like: that keeps leading
zeros of ids, and leaves it to `parsing` to say which values are wrong.
"""

import csv
import dataclasses
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from components.dataset_spec import TableSpec
from components.errors import InputDataError
from components.interaction_example_gen.dead_letters import DeadLetter
from components.interaction_example_gen.dead_letters import shorten
from components.interaction_example_gen.files import open_file
from components.spec_section import closest

_BLOCK_BYTES = 4 << 20
_BATCH_ROWS = 1 << 16
# Stands in for a delimiter of several characters while Arrow parses the file;
# "unit separator" is a control character that no text has a use for.
_UNIT_SEPARATOR = b"\x1f"


@dataclasses.dataclass(frozen=True)
class RawBatch:
    """Some consecutive rows of a file, not yet validated.

    Attributes:
        rows: 1-based numbers of the rows in their file, [n]; a header line is
            row 1, and empty lines don't count.
        columns: The wanted columns, n rows.
        unreadable: Rows that never became columns.
    """

    rows: NDArray[np.int64]
    columns: pa.RecordBatch
    unreadable: list[DeadLetter]


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
        "csv": _read_csv,
        "parquet": _read_parquet,
        "tfrecord": _read_tfrecord,
    }[table.format]
    try:
        with open_file(path, folder) as file:
            yield from reader(file, path, table, wanted, name)
    except (OSError, pa.ArrowException, UnicodeError) as error:
        raise InputDataError(
            f"{path}: can't be read as {table.format}: {error}. Check "
            f"`{name}` in the dataset spec (format, delimiter, quoting, "
            f"encoding: {table.encoding})."
        ) from error


def _require(
    wanted: list[str], present: list[str], path: str, name: str
) -> None:
    for column in wanted:
        if present.count(column) != 1:
            problem = (
                f"has the column {column!r} {present.count(column)} times"
                if column in present
                else f"has no column {column!r}"
            )
            raise InputDataError(
                f"{path} {problem}, which `{name}` in the dataset spec names; "
                f"it has {', '.join(present)}." + closest(column, present)
            )


class _OneByteDelimiter(io.RawIOBase):
    """A file in which each long delimiter reads as one control character."""

    def __init__(self, file: pa.NativeFile, delimiter: bytes) -> None:
        super().__init__()
        self._file = file
        self._delimiter = delimiter
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        chunk = self._file.read(size if size > 0 else None)
        data = self._rest + chunk
        self._rest = b""
        if chunk:
            # A delimiter may straddle two reads: keep back its beginning.
            for length in range(len(self._delimiter) - 1, 0, -1):
                if data.endswith(self._delimiter[:length]):
                    data, self._rest = data[:-length], data[-length:]
                    break
            if not data:
                return self.read(size)
        return data.replace(self._delimiter, _UNIT_SEPARATOR)


def _csv_header(
    file: pa.NativeFile, path: str, table: TableSpec
) -> list[str]:
    head = file.read(_BLOCK_BYTES).decode(table.encoding, errors="replace")
    file.seek(0)
    lines = io.StringIO(head.removeprefix("\ufeff"), newline="")
    if len(table.delimiter) > 1:
        lines = io.StringIO(
            lines.read().replace(table.delimiter, _UNIT_SEPARATOR.decode()),
            newline="",
        )
    quoting = csv.QUOTE_MINIMAL if table.quoting else csv.QUOTE_NONE
    delimiter = (
        table.delimiter
        if len(table.delimiter) == 1
        else _UNIT_SEPARATOR.decode()
    )
    for record in csv.reader(lines, delimiter=delimiter, quoting=quoting):
        if record:
            return record
    raise InputDataError(f"{path} is empty; expected a header line.")


def _read_csv(
    file: pa.NativeFile,
    path: str,
    table: TableSpec,
    wanted: list[str],
    name: str,
) -> Iterator[RawBatch]:
    if file.size() == 0:
        raise InputDataError(f"{path} is empty.")
    header = list(table.columns) or _csv_header(file, path, table)
    _require(wanted, header, path, name)
    unreadable: list[DeadLetter] = []
    skipped: list[int] = []

    def skip(row: pyarrow.csv.InvalidRow) -> str:
        skipped.append(row.number)
        unreadable.append(
            DeadLetter(
                "wrong_column_count", name, path, row.number, shorten(row.text)
            )
        )
        return "skip"

    source: pa.NativeFile = file
    delimiter = table.delimiter
    if len(delimiter.encode(table.encoding)) > 1:
        long_delimiter = delimiter.encode(table.encoding)
        source = pa.PythonFile(_OneByteDelimiter(file, long_delimiter), "r")
        delimiter = _UNIT_SEPARATOR.decode()
    reader = pyarrow.csv.open_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(
            # Row numbers are only known when one thread parses.
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=list(table.columns) or None,
            encoding="utf8" if _is_utf8(table.encoding) else table.encoding,
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            quote_char='"' if table.quoting else False,
            newlines_in_values=table.quoting,
            invalid_row_handler=skip,
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            # Text that is not UTF-8 is a dead letter, not the end of the run.
            check_utf8=False,
            column_types={column: pa.string() for column in wanted},
            include_columns=wanted,
            strings_can_be_null=False,
        ),
    )
    first = 1 if table.columns else 2
    seen = 0
    for batch in reader:
        # The i-th good row comes after every bad row whose number, less the
        # bad rows before it, is not above the i-th number.
        good = np.arange(seen, seen + batch.num_rows) + first
        bad = np.array(skipped, np.int64) - np.arange(len(skipped))
        rows = good + np.searchsorted(bad, good, side="right")
        seen += batch.num_rows
        yield RawBatch(rows, batch, unreadable.copy())
        unreadable.clear()
    if unreadable:
        yield RawBatch(
            np.empty(0, np.int64),
            reader.schema.empty_table().to_batches()[0]
            if reader.schema.empty_table().to_batches()
            else pa.RecordBatch.from_arrays(
                [pa.array([], pa.string()) for _ in wanted], wanted
            ),
            unreadable,
        )


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in (
        "utf8",
        "utf8sig",
        "ascii",
        "usascii",
    )


def _read_parquet(
    file: pa.NativeFile,
    path: str,
    table: TableSpec,
    wanted: list[str],
    name: str,
) -> Iterator[RawBatch]:
    del table
    parquet = pyarrow.parquet.ParquetFile(file)
    _require(wanted, parquet.schema_arrow.names, path, name)
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
    """tf.Examples; a feature with several values becomes a list column."""
    del file, table
    import tensorflow as tf
    from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder

    decoder = ExamplesToRecordBatchDecoder()
    compression = "GZIP" if path.endswith(".gz") else ""
    records = tf.data.TFRecordDataset(path, compression).batch(_BATCH_ROWS)
    row = 1
    for serialized in records.as_numpy_iterator():
        batch = decoder.DecodeBatch(list(serialized))
        _require(wanted, batch.schema.names, path, name)
        columns = [
            _unwrap(batch.column(batch.schema.get_field_index(column)))
            for column in wanted
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
    lengths = pa.compute.fill_null(pa.compute.list_value_length(column), 0)
    if pa.compute.max(lengths).as_py() > 1:
        return column
    first = pa.compute.cumulative_sum(lengths)
    index = pa.compute.subtract(first, 1)
    empty = pa.compute.equal(lengths, 0)
    index = pa.compute.if_else(empty, pa.scalar(None, index.type), index)
    return column.flatten().take(index)
