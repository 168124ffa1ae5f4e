"""Results as Arrow IPC: a message holds the rows of one window, or a part of them."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

# Brokers take messages of 1 MiB, unless they are set up otherwise.
MESSAGE_BYTES = 512 << 10
# What tells messages of one output apart; `part` counts those of one window.
INTERVAL_COLUMNS = ("window_start", "day", "revision")
PART = "part"


def arrow_messages(rows: pa.RecordBatch) -> tuple[pa.Array, pa.RecordBatch]:
    """Return IPC streams, and for each the row that it begins with and its ``part``."""
    values, firsts, parts = [], [], []
    for start, stop in _runs(rows):
        piece = rows.slice(start, stop - start)
        step = max(1, len(piece) * MESSAGE_BYTES // max(piece.nbytes, 1))
        for part, at in enumerate(range(0, len(piece), step)):
            values.append(_stream(piece.slice(at, step)))
            firsts.append(start + at)
            parts.append(part)
    heads = rows.take(pa.array(firsts, pa.int64()))
    return pa.array(values, pa.binary()), heads.append_column(PART, pa.array(parts, pa.int64()))


def _runs(rows: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """Yield the ranges of rows with equal intervals."""
    names = [name for name in INTERVAL_COLUMNS if name in rows.schema.names]
    if not names:
        yield 0, len(rows)
        return
    values = list(zip(*(rows.column(name).to_pylist() for name in names), strict=True))
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            yield start, at
            start = at


def _stream(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue())
