"""Small helpers around Arrow tables."""

from collections.abc import Iterable

import pyarrow as pa


def flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Returns a column, chunked or not, as one array."""
    if isinstance(values, pa.ChunkedArray):
        chunks = values.chunks or [pa.array([], values.type)]
        return chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    return values


def to_bytes(table: pa.Table | pa.RecordBatch) -> bytes:
    """Serializes a table in Arrow's IPC stream format."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """Reads what `to_bytes` wrote, without copying it."""
    return pa.ipc.open_stream(data).read_all()


def concat(parts: Iterable[bytes]) -> pa.Table | None:
    """Reads and puts together what `to_bytes` wrote; None if no parts."""
    tables = [from_bytes(part) for part in parts]
    return pa.concat_tables(tables) if tables else None
