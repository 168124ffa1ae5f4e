"""A Parquet dataset: folders by partition value, files that appear when they are whole."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from omnistream.errors import SinkError
from omnistream.sink.staging import Prepared, Staging, as_sink_error, conform, hidden, numbered

ROW_GROUP_ROWS = 1 << 17
ROTATE_ROWS = 32 * ROW_GROUP_ROWS
ROTATE_BYTES = 512 << 20
# Rows wait in memory until they fill a row group, over all folders at most so many bytes.
BUFFER_BYTES = 128 << 20
# A thousand batches of a few rows weigh more than their rows.
MAX_WAITING_BATCHES = 256
MAX_OPEN_FILES = 128

PART_NAME = re.compile(r"part-(\d{5,})\.parquet")
HIDDEN_PART_NAME = re.compile(r"\.part-(\d{5,})\.parquet\.tmp")
# What Hive, Spark, DuckDB, Polars and pyarrow read as null.
NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"


@dataclass(slots=True)
class _Part:
    """A file being written."""

    path: Path
    file: BufferedWriter
    writer: pq.ParquetWriter
    rows: int = 0


@dataclass(slots=True)
class _Folder:
    """One folder of the dataset: rows that wait, the open file, and the number of the next one."""

    path: Path
    number: int
    waiting: list[pa.RecordBatch] = field(default_factory=list)
    waiting_rows: int = 0
    part: _Part | None = None


class ParquetSink:
    """Rows cut into row groups by count, so the files do not depend on how the rows were batched.

    Parameters
    ----------
    path : str
        Folder of the dataset.
    schema : pyarrow.Schema
        Of the batches. Dictionary columns are stored as their values (Parquet has its own dictionaries).
    mode : str
        ``error``, ``overwrite`` or ``append``.
    partition_by : sequence of str
        Columns whose values name the folders. They are not in the files, except that a timestamp stays there
        and its folder is named by the UTC date: ``window_start_date=2024-03-01``.
    rotate_rows, rotate_bytes : int
        A file that has reached one of them is closed, and the next one begun.
    """

    def __init__(
        self,
        path: str,
        schema: pa.Schema,
        mode: str,
        partition_by: Sequence[str] = (),
        rotate_rows: int = ROTATE_ROWS,
        rotate_bytes: int = ROTATE_BYTES,
    ) -> None:
        self._path = Path(path)
        self._schema = schema
        self._labels = [_label_name(schema, column) for column in partition_by]
        self._partition_by = list(partition_by)
        self._rotate_rows = rotate_rows
        self._rotate_bytes = rotate_bytes
        self._stored = _stored_schema(schema, partition_by)
        self._resume = mode == "append"
        with as_sink_error(self._path):
            self._existing = self._claim(mode)
        self._folders: dict[tuple[str, ...], _Folder] = {}
        self._open: dict[tuple[str, ...], None] = {}  # folders with an open file, least recently used first
        self._waiting_bytes = 0

    @property
    def paths(self) -> list[str]:
        """The files that are visible now."""
        return self._staging.paths

    def write(self, batch: pa.RecordBatch) -> None:
        """Sort rows into folders; full row groups go to hidden files."""
        with as_sink_error(self._path):
            for key, rows in self._split(conform(batch, self._schema, self._path)):
                folder = self._folder(key)
                folder.waiting.append(rows)
                folder.waiting_rows += rows.num_rows
                self._waiting_bytes += rows.nbytes
                if folder.waiting_rows >= ROW_GROUP_ROWS:
                    self._write_groups(key, whole_groups_only=True)
                elif len(folder.waiting) > MAX_WAITING_BATCHES:
                    folder.waiting = pa.Table.from_batches(folder.waiting).combine_chunks().to_batches()
            if self._waiting_bytes > BUFFER_BYTES:
                for key in self._folders:
                    self._write_groups(key, whole_groups_only=False)

    def hold(self) -> None:
        """Let files wait for `commit`, also those that are full before it."""
        self._staging.held = True

    def prepare(self) -> Prepared:
        """Make whole what was written, and hidden still if files are held."""
        with as_sink_error(self._path):
            for key in self._folders:
                self._write_groups(key, whole_groups_only=False)
                self._finish(key)
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
        """Flush; an output without rows and folders is one file without rows."""
        self.flush()
        with as_sink_error(self._path):
            if not self.paths and not self._partition_by and not (self._resume and self._existing):
                self._begin(())
                self._finish(())
                self._staging.flush()
            self._staging.drop_stale()

    def abort(self) -> None:
        """Remove the hidden files and forget the rows that wait."""
        for key in list(self._open):
            part = self._folders[key].part
            if part is not None:
                part.file.close()
                hidden(part.path).unlink(missing_ok=True)
        self._folders.clear()
        self._open.clear()

    def _claim(self, mode: str) -> list[Path]:
        if self._path.exists() and not self._path.is_dir():
            raise SinkError(f"{self._path}: is a file: a Parquet sink needs a folder")
        self._path.mkdir(parents=True, exist_ok=True)
        if not os.access(self._path, os.W_OK):
            raise SinkError(f"{self._path}: permission denied: make the folder writable")
        existing = sorted(p for p in self._path.rglob("*.parquet") if PART_NAME.fullmatch(p.name))
        # Other people's files are never removed, but they are a reason not to mix ours in.
        strangers = [
            p for p in sorted(self._path.iterdir()) if not p.name.startswith(".") and not _is_left_behind(p)
        ]
        self._staging = Staging(self._path, existing or (strangers if mode == "error" else []), mode)
        for leftover in self._path.rglob(".*.tmp"):
            if HIDDEN_PART_NAME.fullmatch(leftover.name):
                leftover.unlink()
        return existing

    def _split(self, batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, ...], pa.RecordBatch]]:
        """Yield the rows of each folder, in their order."""
        stored = pa.RecordBatch.from_arrays(
            [_values(batch.column(name)) for name in self._stored.names], schema=self._stored
        )
        if not self._partition_by or not batch.num_rows:
            if batch.num_rows:
                yield (), stored
            return
        labels = [_labels(batch.column(name)).dictionary_encode() for name in self._partition_by]
        codes = np.zeros(batch.num_rows, np.int64)
        for column in labels:
            codes = codes * len(column.dictionary) + column.indices.to_numpy()
            # Dense again after each column, so that the product cannot overflow.
            codes = np.unique(codes, return_inverse=True)[1]
        order = np.argsort(codes, kind="stable")
        starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
        for rows in np.split(order, starts[1:]):
            key = tuple(column[int(rows[0])].as_py() for column in labels)
            # Copied: a slice that waits in a quiet folder would keep the whole batch alive.
            yield key, stored.take(rows) if len(starts) > 1 else stored

    def _folder(self, key: tuple[str, ...]) -> _Folder:
        if key not in self._folders:
            names = [f"{label}={value}" for label, value in zip(self._labels, key, strict=True)]
            path = self._path.joinpath(*names)
            taken = numbered(path, PART_NAME).values() if self._resume and path.is_dir() else []
            self._folders[key] = _Folder(path, max(taken, default=-1) + 1)
        return self._folders[key]

    def _write_groups(self, key: tuple[str, ...], *, whole_groups_only: bool) -> None:
        folder = self._folders[key]
        if not folder.waiting:
            return
        rows = pa.Table.from_batches(folder.waiting, self._stored).combine_chunks()
        self._waiting_bytes -= sum(batch.nbytes for batch in folder.waiting)
        end = rows.num_rows - (rows.num_rows % ROW_GROUP_ROWS if whole_groups_only else 0)
        for start in range(0, end, ROW_GROUP_ROWS):
            part = self._begin(key)
            group = rows.slice(start, min(ROW_GROUP_ROWS, end - start))
            part.writer.write_table(group, ROW_GROUP_ROWS)
            part.rows += group.num_rows
            if part.rows >= self._rotate_rows or part.file.tell() >= self._rotate_bytes:
                self._finish(key)
        folder.waiting = rows.take(np.arange(end, rows.num_rows)).to_batches()
        folder.waiting_rows = rows.num_rows - end
        self._waiting_bytes += sum(batch.nbytes for batch in folder.waiting)

    def _begin(self, key: tuple[str, ...]) -> _Part:
        folder = self._folder(key)
        self._open.pop(key, None)
        self._open[key] = None
        if folder.part is None:
            if len(self._open) > MAX_OPEN_FILES:
                self._finish(next(iter(self._open)))
            path = folder.path / f"part-{folder.number:05d}.parquet"
            file = self._staging.create(path)
            folder.part = _Part(path, file, pq.ParquetWriter(file, self._stored, compression="zstd"))
        return folder.part

    def _finish(self, key: tuple[str, ...]) -> None:
        folder = self._folders[key]
        if folder.part is not None:
            folder.part.writer.close()
            folder.part.file.close()
            self._staging.finish(folder.part.path)
            folder.part = None
            folder.number += 1
            del self._open[key]


def _is_left_behind(path: Path) -> bool:
    """Whether it is a folder in which a job that was killed had begun files, and finished none."""
    if not path.is_dir():
        return False
    return all(each.is_dir() or HIDDEN_PART_NAME.fullmatch(each.name) for each in path.rglob("*"))


def _label_name(schema: pa.Schema, column: str) -> str:
    """Check a partition column, and name its folders."""
    if column not in schema.names:
        raise SinkError(f"sink.partition_by: no column {column!r}: use one of {', '.join(schema.names)}")
    kind = schema.field(column).type
    if pa.types.is_timestamp(kind):
        label = f"{column}_date"
        if label in schema.names:
            raise SinkError(
                f"sink.partition_by: {column} names its folders {label}, but that is a column, too"
            )
        return label
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    checks = (pa.types.is_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_date)
    if not any(check(value) for check in checks):
        raise SinkError(
            f"sink.partition_by: {column} is {kind}: use strings, integers, bools, dates or timestamps"
        )
    return column


def _stored_schema(schema: pa.Schema, partition_by: Sequence[str]) -> pa.Schema:
    fields = [
        f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f
        for f in schema
        if f.name not in partition_by or pa.types.is_timestamp(f.type)
    ]
    if not fields:
        raise SinkError("sink.partition_by names every column: leave at least one for the files")
    return pa.schema(fields).with_metadata(schema.metadata)


def _values(column: Any) -> Any:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _labels(column: Any) -> Any:
    """Give every row the value part of its folder's name."""
    values = _values(column)
    if pa.types.is_timestamp(values.type):
        values = values.cast(pa.date32())
    encoded: Any = values.cast(pa.utf8()).dictionary_encode()
    # An empty name would be read as null by some.
    quoted = [quote(value, safe="") or NULL_FOLDER for value in encoded.dictionary.to_pylist()]
    labels: Any = pa.array(quoted, pa.utf8()).take(encoded.indices)
    return labels.fill_null(NULL_FOLDER)
