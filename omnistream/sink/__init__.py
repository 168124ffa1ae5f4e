"""sink: results and rejects go out. A file is written aside, and appears under its name when it is whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import pyarrow as pa

from omnistream.errors import SinkError
from omnistream.sink.files import FileSink, arrow_writer, json_writer, reject_writer
from omnistream.sink.json_text import check_json_types
from omnistream.sink.parquet import ParquetSink
from omnistream.sink.staging import Prepared
from omnistream.sink.stdout import StdoutSink

__all__ = ["REJECT_SCHEMA", "SINKS", "Mode", "Sink", "SinkSpec", "open_dead_letter", "open_sink"]

Mode = Literal["error", "overwrite", "append"]

# What is known of a message or row that is not used; docs/rejects.md explains the reasons.
_REJECT_FIELDS: list[Any] = [
    ("source", pa.utf8()),
    ("partition", pa.int32()),
    ("position", pa.int64()),
    ("line", pa.int32()),
    ("stage", pa.utf8()),
    ("reason", pa.utf8()),
    ("field", pa.utf8()),
    ("byte_offset", pa.int64()),
    ("size_bytes", pa.int64()),
    ("key", pa.binary()),
    ("bytes", pa.binary()),
]
REJECT_SCHEMA = pa.schema(_REJECT_FIELDS)


class Sink(Protocol):
    """Takes the batches of one output. Any failure is a `SinkError`."""

    @property
    def paths(self) -> list[str]:
        """The files that are visible now, in the order in which they appeared."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch with the sink's schema. It may stay in memory or in a hidden file for now."""

    def hold(self) -> None:
        """From now on nothing that can be held back becomes visible before `commit`, `flush` or `close`."""

    def prepare(self) -> Prepared:
        """Make whole all that was written: `Prepared.sync` makes it durable.

        A checkpoint is taken after the one, and written after the other.
        """

    def commit(self) -> None:
        """Make visible what was prepared: once the checkpoint is durable. What came later stays as it is."""

    def flush(self) -> None:
        """Prepare and commit."""

    def close(self) -> None:
        """Flush, and end the output. An output without rows leaves a file without rows."""

    def abort(self) -> None:
        """Throw away what is not visible yet."""


class SinkSpec(Protocol):
    """A ``[[sink]]`` table of a job."""

    @property
    def type(self) -> str:
        """A key of `SINKS`."""

    @property
    def path(self) -> str:
        """A file, or the folder of a Parquet dataset."""

    @property
    def partition_by(self) -> Sequence[str]:
        """Columns whose values name the folders of a Parquet dataset."""

    @property
    def mode(self) -> Mode:
        """What to do when there is output at the path."""


class DeadLetterSpec(Protocol):
    """The ``[dead_letter]`` table of a job."""

    @property
    def type(self) -> str:
        """``ndjson`` or ``parquet``."""

    @property
    def path(self) -> str:
        """A file, or the folder of a Parquet dataset."""

    @property
    def mode(self) -> Mode:
        """What to do when there is output at the path."""


def open_sink(spec: SinkSpec, schema: pa.Schema, job_name: str, mode: Mode | None = None) -> Sink:
    """Open the sink of one output; nothing is visible before the first `Sink.flush` or `Sink.close`.

    Parameters
    ----------
    spec : SinkSpec
        A ``[[sink]]`` table of a job.
    schema : pyarrow.Schema
        Of every batch that will be written.
    job_name : str
        Goes into the metadata of Parquet and Arrow files.
    mode : {"error", "overwrite", "append"}, optional
        When there is output at the path already: refuse; replace it, once the first new file is whole; or add
        files to it, which a job that goes on from a checkpoint must do. The default is `spec.mode`.

    Raises
    ------
    SinkError
        For a path, a mode or a schema that this sink cannot take.
    """
    if spec.type not in SINKS:
        raise SinkError(f"sink.type = {spec.type!r} is unknown: use one of {', '.join(SINKS)}")
    if spec.partition_by and spec.type != "parquet":
        raise SinkError(f"sink.partition_by is for Parquet only: remove it from the {spec.type} sink")
    return SINKS[spec.type](spec, schema.with_metadata({"omnistream.job": job_name}), mode or spec.mode)


def open_dead_letter(spec: DeadLetterSpec, mode: Mode | None = None) -> Sink:
    """Open the sink of reject records, which have `REJECT_SCHEMA`. `mode` is that of `open_sink`."""
    if spec.type == "ndjson":
        return FileSink(spec.path, REJECT_SCHEMA, mode or spec.mode, reject_writer)
    if spec.type == "parquet":
        return ParquetSink(spec.path, REJECT_SCHEMA, mode or spec.mode)
    raise SinkError(f"dead_letter.type = {spec.type!r} is unknown: use ndjson or parquet")


def _open_parquet(spec: SinkSpec, schema: pa.Schema, mode: Mode) -> Sink:
    return ParquetSink(spec.path, schema, mode, spec.partition_by)


def _open_ndjson(spec: SinkSpec, schema: pa.Schema, mode: Mode) -> Sink:
    check_json_types(schema)
    return FileSink(spec.path, schema, mode, json_writer)


def _open_arrow(spec: SinkSpec, schema: pa.Schema, mode: Mode) -> Sink:
    return FileSink(spec.path, schema, mode, arrow_writer)


def _open_stdout(spec: SinkSpec, schema: pa.Schema, mode: Mode) -> Sink:
    check_json_types(schema)
    return StdoutSink(schema)


# A sink is opened by a function of its spec, the schema of its batches and the mode. Kafka's will stand here.
SINKS: dict[str, Callable[[SinkSpec, pa.Schema, Mode], Sink]] = {
    "parquet": _open_parquet,
    "ndjson": _open_ndjson,
    "arrow": _open_arrow,
    "stdout": _open_stdout,
}
