"""Messages that are Arrow IPC streams, as producers that batch send them: their rows, or why there are none.

A message is decoded or rejected as a whole. Its rows are at its position, and numbered like lines inside it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from omnistream import _core
from omnistream.batch import cast_column
from omnistream.schema import Field, Schema

Decoded = tuple[_core.Batch, _core.Batch, dict[str, int]]

# A message, unpacked, must not take more than so many times its bytes.
MOST_UNPACKED = 256


class Fault(NamedTuple):
    """Why a message is rejected."""

    reason: str
    field: str = ""


class ArrowDecoder:
    """Decodes messages one by one; made for messages of many rows."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._core_schema = schema.to_core()

    def decode_messages(
        self, messages: Any, source: str, partition: int, first_position: int
    ) -> list[Decoded]:
        """Decode a list of bytes or an Arrow array of binary."""
        return self._decode(_core.Messages(messages, source, partition, first_position))

    def decode_block(self, block: _core.MessageBlock) -> list[Decoded]:
        """Decode the messages of one Kafka partition."""
        return self._decode(_core.Messages.of_block(block))

    def _decode(self, messages: _core.Messages) -> list[Decoded]:
        done: list[Decoded] = []
        faults: list[tuple[int, str, str]] = []
        for index in range(len(messages)):
            read = self._read(messages[index])
            if isinstance(read, Fault):
                faults.append((index, *read))
            else:
                rows, unknown = read
                batch = messages.import_rows(index, rows, self._core_schema)
                counts = {"messages": 1, "decoded": 1, "rows": batch.rows, "empty": int(not batch.rows)}
                done.append((batch, messages.rejects([]), {**counts, "unknown_fields": unknown}))
        if faults:
            nothing = pa.RecordBatch.from_pylist([], schema=self._schema.arrow_schema())
            counts = {"messages": len(faults), "rejected": len(faults)}
            batch = messages.import_rows(faults[0][0], nothing, self._core_schema)
            done.append((batch, messages.rejects(faults), counts))
        return done

    def _read(self, message: bytes) -> tuple[pa.RecordBatch, int] | Fault:
        """Return the rows of a message, and how many columns of it nobody asks for."""
        if len(message) > self._schema.max_message_bytes:
            return Fault("message_too_large")
        try:
            with pa.ipc.open_stream(message) as reader:
                given, pieces, unpacked = reader.schema, [], 0
                for piece in reader:
                    unpacked += piece.nbytes
                    if unpacked > MOST_UNPACKED * len(message):
                        return Fault("message_too_large")
                    piece.validate(full=True)
                    pieces.append(piece)
                names = given.names
        except (pa.ArrowException, OSError, ValueError, MemoryError):
            return Fault("invalid_arrow")  # a name that is no UTF-8 is a ValueError
        if len(set(names)) != len(names):
            return Fault("invalid_arrow")
        columns = []
        for field in self._schema.fields:
            column = self._column(field, given, pieces)
            if isinstance(column, Fault):
                return column
            columns.append(column)
        rows = pa.RecordBatch.from_arrays(columns, schema=self._schema.arrow_schema())
        return rows, len(set(names) - set(rows.schema.names))

    def _column(self, field: Field, given: pa.Schema, pieces: list[pa.RecordBatch]) -> pa.Array | Fault:
        index = given.get_field_index(field.name)
        if index < 0 and field.required:
            return Fault("missing_field", field.name)
        kind = self._schema.arrow_schema().field(field.name).type
        size = sum(piece.num_rows for piece in pieces)
        if index >= 0 and not _is_sound(given.field(index).type):
            return Fault("wrong_type", field.name)
        if index < 0:
            column = pa.nulls(size, kind)
        else:
            try:
                parts = [cast_column(piece.column(index), kind) for piece in pieces]
            except (pa.ArrowNotImplementedError, pa.ArrowTypeError):
                return Fault("wrong_type", field.name)
            except pa.ArrowInvalid:
                return Fault(_reason_of(given.field(index).type, kind), field.name)
            column = _joined(parts, kind)
        if field.required and column.null_count:
            return Fault("null_field", field.name)
        if field.default is not None and column.null_count:
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            column = column.fill_null(pa.scalar(field.default, plain))
        return column


def _is_sound(kind: pa.DataType) -> bool:
    """Whether Arrow can work with a type: it reads decimals of any scale, and then behind its tables."""
    if pa.types.is_dictionary(kind):
        return _is_sound(kind.value_type)
    return not pa.types.is_decimal(kind) or 0 <= kind.scale <= kind.precision


def _reason_of(given: pa.DataType, wanted: pa.DataType) -> str:
    """Return why the values of a column do not fit another type."""
    is_a = pa.types
    if is_a.is_string(given) or is_a.is_large_string(given) or is_a.is_nested(given):
        return "wrong_type"
    if is_a.is_binary(given) or is_a.is_large_binary(given):
        return "invalid_utf8"
    fractional = is_a.is_floating(given) or is_a.is_decimal(given)
    exact = is_a.is_integer(wanted) or is_a.is_decimal(wanted)
    return "inexact_number" if fractional and exact else "out_of_range"


def _joined(parts: list[pa.Array], kind: pa.DataType) -> pa.Array:
    if len(parts) == 1:
        return parts[0]
    column = pa.chunked_array(parts, kind)
    if pa.types.is_dictionary(kind):
        column = column.unify_dictionaries()
    joined = column.combine_chunks()
    return joined.chunk(0) if isinstance(joined, pa.ChunkedArray) else joined
