"""Reads CSV files in record batches, with the number of every row.

Every column is read as text, whatever it looks like: that keeps leading
zeros of ids, and leaves it to `parsing` to say which values are wrong.
"""

import collections
import contextlib
import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv

from components.dataset_tables import TableSpec
from components.errors import InputDataError
from components.interaction_example_gen.dead_letters import DeadLetter, shorten
from components.interaction_example_gen.raw_batch import (
    RawBatch,
    require_columns,
)

_BLOCK_BYTES = 4 << 20
# Stands in for a delimiter of several characters while Arrow parses the file;
# "unit separator" is a control character that no text has a use for.
_UNIT_SEPARATOR = b"\x1f"
# File name extensions, and what Arrow calls the compression.
COMPRESSIONS = {"gz": "gzip", "bz2": "bz2", "zst": "zstd"}


class _Stream(io.RawIOBase):
    """What Arrow reads a table from, in a thread of its own.

    Each delimiter of several characters reads as one control character, and
    the stream can end before the file does.
    """

    def __init__(self, file: pa.NativeFile, delimiter: bytes) -> None:
        """Begins where the file is."""
        super().__init__()
        self._file = file
        self._delimiter = delimiter
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """True: the file can be read."""
        return True

    def end(self) -> None:
        """From now on there is nothing more to read."""
        self._ended = True

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes; none only at the end."""
        while not self._ended:
            wanted = max(size - len(self._rest), 1) if size > 0 else None
            chunk: bytes = self._file.read(wanted)
            if len(self._delimiter) == 1:
                return chunk
            data, self._rest = self._rest + chunk, b""
            if chunk:
                # A delimiter may straddle two reads: keep back its beginning.
                kept = self._length_of_started_delimiter(data)
                data, self._rest = (
                    data[: len(data) - kept],
                    data[len(data) - kept :],
                )
            if data or not chunk:
                return data.replace(self._delimiter, _UNIT_SEPARATOR)
        return b""

    def _length_of_started_delimiter(self, data: bytes) -> int:
        # What ends in a whole delimiter has none that is only begun, except
        # after it; counting from the last whole one keeps "::" + ":" right.
        tail = data.split(self._delimiter)[-1]
        for length in range(len(self._delimiter) - 1, 0, -1):
            if tail.endswith(self._delimiter[:length]):
                return length
        return 0


def _open_text(file: pa.NativeFile, path: str, table: TableSpec) -> _Stream:
    """Decompresses a file as its name says, and shortens delimiters."""
    file.seek(0)
    stream = file
    codec = COMPRESSIONS.get(path.rpartition(".")[2].lower())
    if codec:
        stream = pa.CompressedInputStream(file, codec)
    return _Stream(stream, table.delimiter.encode(table.encoding))


def _header(stream: _Stream, path: str, table: TableSpec) -> list[str]:
    """Returns the first record of a stream of `_open_text`."""
    head = stream.read(_BLOCK_BYTES)
    text = head.decode(table.encoding, errors="replace").removeprefix("\ufeff")
    records = csv.reader(
        io.StringIO(text, newline=""),
        delimiter=_single(table.delimiter),
        quoting=csv.QUOTE_MINIMAL if table.quoting else csv.QUOTE_NONE,
    )
    header = next((record for record in records if record), None)
    if header is None:
        raise InputDataError(f"{path} has only empty lines.")
    return header


def _single(delimiter: str) -> str:
    return delimiter if len(delimiter) == 1 else _UNIT_SEPARATOR.decode()


def read_csv(
    file: pa.NativeFile,
    path: str,
    table: TableSpec,
    wanted: list[str],
    name: str,
) -> Iterator[RawBatch]:
    """Reads the wanted columns of an open CSV file; see `read_batches`."""
    if file.size() == 0:
        raise InputDataError(f"{path} is empty.")
    start = _open_text(file, path, table)
    header = list(table.columns) or _header(start, path, table)
    require_columns(wanted, header, path, name)
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

    stream = _open_text(file, path, table)
    reader = pyarrow.csv.open_csv(
        pa.PythonFile(stream, "r"),
        read_options=pyarrow.csv.ReadOptions(
            # Row numbers are only known when one thread parses.
            use_threads=False,
            block_size=_BLOCK_BYTES,
            column_names=list(table.columns) or None,
            encoding="utf8" if _is_utf8(table.encoding) else table.encoding,
        ),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=_single(table.delimiter),
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
    try:
        for batch in reader:
            # The i-th good row comes after every bad row whose number, less the
            # bad rows before it, is not above the i-th number.
            good = np.arange(seen, seen + batch.num_rows) + first
            bad = np.array(skipped, np.int64) - np.arange(len(skipped))
            rows = good + np.searchsorted(bad, good, side="right")
            seen += batch.num_rows
            yield RawBatch(rows, batch, unreadable.copy())
            unreadable.clear()
    finally:
        # Nobody may read on. To drop the reader would be to wait for Arrow's
        # thread with Python's lock held, which that thread needs to end.
        stream.end()
        with contextlib.suppress(pa.ArrowInvalid):
            collections.deque(reader, maxlen=0)
    if unreadable:
        nothing = pa.RecordBatch.from_arrays(
            [pa.array([], pa.string()) for _ in wanted], wanted
        )
        yield RawBatch(np.empty(0, np.int64), nothing, unreadable)


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("-", "").replace("_", "") in (
        "utf8",
        "utf8sig",
        "ascii",
        "usascii",
    )
