"""Results as Arrow IPC: a message holds many rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa

# Brokers take messages of 1 MiB, unless they are set up otherwise.
MESSAGE_BYTES = 512 << 10


def arrow_messages(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
    """Return IPC streams, and for each the row that it begins with: its key is the message's."""
    rows = _plain(rows)
    values, firsts = [], []
    step = max(1, rows.num_rows * MESSAGE_BYTES // max(rows.nbytes, 1))
    for start, stop in _runs(rows):
        for at in range(start, stop, step):
            values.append(_stream(rows.slice(at, min(step, stop - at))))
            firsts.append(at)
    return pa.array(values, pa.binary()), rows.take(pa.array(firsts, pa.int64()))


def _plain(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Write texts out: each message would bring the whole dictionary."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in rows.columns
    ]
    return pa.RecordBatch.from_arrays(columns, rows.schema.names)


def _runs(rows: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """Yield the ranges of rows of one revision, which is a header of the message."""
    edges = [0, rows.num_rows]
    if "revision" in rows.schema.names:
        revisions = rows.column("revision").to_numpy(zero_copy_only=False)
        edges[1:1] = (np.flatnonzero(revisions[1:] != revisions[:-1]) + 1).tolist()
    yield from pairwise(edges)


def _stream(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue())
