"""Rows as JSON lines on standard output."""

from __future__ import annotations

import sys

import pyarrow as pa

from omnistream.sink.json_text import json_lines
from omnistream.sink.staging import AtOnce, as_sink_error, conform


class StdoutSink(AtOnce):
    """Every batch goes out at once; there is no file, and nothing to take back."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.paths: list[str] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Print a batch."""
        with as_sink_error("stdout"):
            sys.stdout.buffer.writelines(json_lines(conform(batch, self._schema, "stdout")))

    def flush(self) -> None:
        """Hand over what Python holds back."""
        with as_sink_error("stdout"):
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """Flush. Standard output itself stays open."""
        self.flush()

    def abort(self) -> None:
        """Leave what is printed."""
