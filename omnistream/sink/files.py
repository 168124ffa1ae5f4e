"""One file per output, NDJSON or Arrow IPC stream. What follows a flush goes to a numbered file beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from io import BufferedWriter
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from omnistream.errors import SinkError
from omnistream.sink.json_text import json_lines, reject_lines
from omnistream.sink.staging import Prepared, Staging, as_sink_error, conform, hidden, numbered


class Writer(Protocol):
    """Turns batches into bytes of a file."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""

    def close(self) -> None:
        """Append what ends the file."""


class _LineWriter:
    def __init__(self, file: BufferedWriter, lines: Callable[[pa.RecordBatch], Iterable[Any]]) -> None:
        self._file = file
        self._lines = lines

    def write(self, batch: pa.RecordBatch) -> None:
        self._file.writelines(self._lines(batch))

    def close(self) -> None:
        pass


def json_writer(file: BufferedWriter, schema: pa.Schema) -> Writer:
    """Write rows as JSON objects, one a line."""
    return _LineWriter(file, json_lines)


def reject_writer(file: BufferedWriter, schema: pa.Schema) -> Writer:
    """Write reject records as JSON objects, one a line."""
    return _LineWriter(file, reject_lines)


def arrow_writer(file: BufferedWriter, schema: pa.Schema) -> Writer:
    """Write an Arrow IPC stream. Dictionaries only grow, so a batch carries what is new in them."""
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    writer: Writer = pa.ipc.new_stream(pa.PythonFile(file), schema, options=options)
    return writer


class FileSink:
    """A file that appears at `close`; a flush in between makes it appear early, and starts the next one."""

    def __init__(
        self,
        path: str,
        schema: pa.Schema,
        mode: str,
        open_writer: Callable[[BufferedWriter, pa.Schema], Writer],
    ) -> None:
        self._path = Path(path)
        self._schema = schema
        self._open_writer = open_writer
        with as_sink_error(self._path):
            if self._path.is_dir():
                raise SinkError(f"{self._path}: is a folder: name a file in it")
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not os.access(self._path.parent, os.W_OK):
                raise SinkError(f"{self._path.parent}: permission denied: make the folder writable")
            stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
            names = rf"{stem}(?:-(\d{{5}}))?{suffix}"
            existing = numbered(self._path.parent, re.compile(names))
            self._staging = Staging(self._path, list(existing), mode)
            for leftover in numbered(self._path.parent, re.compile(rf"\.{names}\.tmp")):
                leftover.unlink()
        # Appending goes on behind the files that are there; a file at number 0 has the plain name.
        self._number = max(existing.values(), default=-1) + 1 if mode == "append" else 0
        self._file: BufferedWriter | None = None
        self._writer: Writer | None = None

    @property
    def paths(self) -> list[str]:
        """The files that are visible now."""
        return self._staging.paths

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch to the hidden file."""
        rows = conform(batch, self._schema, self._path)
        with as_sink_error(self._path):
            self._begin().write(rows)

    def hold(self) -> None:
        """Let files wait for `commit`."""
        self._staging.held = True

    def prepare(self) -> Prepared:
        """Make whole what was written, and hidden still if files are held."""
        with as_sink_error(self._path):
            if self._writer is not None and self._file is not None:
                self._writer.close()
                self._file.close()
                self._staging.finish(self._current())
                self._writer = self._file = None
                self._number += 1
            return self._staging.prepared()

    def commit(self) -> None:
        """Let what was prepared appear."""
        with as_sink_error(self._path):
            self._staging.commit()

    def flush(self) -> None:
        """Make what was written visible."""
        self.prepare().sync()
        self.commit()

    def close(self) -> None:
        """Flush; an output without rows is a file without rows."""
        if self._number == 0:
            with as_sink_error(self._path):
                self._begin()
        self.flush()

    def abort(self) -> None:
        """Remove the hidden file."""
        if self._file is not None:
            self._file.close()
            hidden(self._current()).unlink(missing_ok=True)
        self._writer = self._file = None

    def _begin(self) -> Writer:
        if self._writer is None:
            self._file = self._staging.create(self._current())
            self._writer = self._open_writer(self._file, self._schema)
        return self._writer

    def _current(self) -> Path:
        if self._number == 0:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{self._number:05d}{self._path.suffix}")
