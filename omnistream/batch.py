"""Batches at the door: whatever speaks Arrow, as messages or as rows of the schema's types."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omnistream.errors import SchemaError
from omnistream.schema import DECIMAL_SCALE, Schema

# Of magnitudes below this many units of 0.0001, a float64 is the nearest one to at most one decimal.
EXACT_FLOAT_UNITS = 2.0**49


def arrow_pieces(data: Any) -> Iterator[pa.RecordBatch | pa.Array]:
    """Cut an Arrow object into contiguous pieces: arrays of messages, or record batches of rows.

    Parameters
    ----------
    data : object
        Anything with ``__arrow_c_array__`` or ``__arrow_c_stream__``: pyarrow, Polars, DuckDB, pandas, ...

    Raises
    ------
    SchemaError
        When it is neither rows nor messages.
    """
    if hasattr(data, "__arrow_c_stream__"):
        for piece in _chunks(data):
            yield _as_messages_or_rows(piece)
    elif hasattr(data, "__arrow_c_array__"):
        yield _as_messages_or_rows(pa.array(data) if not isinstance(data, pa.RecordBatch) else data)
    else:
        raise SchemaError(
            f"cannot read a {type(data).__name__}; push bytes of NDJSON, a list of bytes, "
            "or an Arrow table, batch or array"
        )


def _chunks(data: Any) -> Iterator[pa.RecordBatch | pa.Array]:
    try:
        reader = pa.RecordBatchReader.from_stream(data)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # a stream of plain arrays, such as a Series
        yield from pa.chunked_array(data).chunks
    else:
        yield from reader


def _as_messages_or_rows(piece: pa.RecordBatch | pa.Array) -> pa.RecordBatch | pa.Array:
    if isinstance(piece, pa.RecordBatch):
        # One column of bytes is what a topic looks like in a file; rows of the schema have more.
        single = piece.num_columns == 1 and _holds_messages(piece.schema.field(0).type)
        return _plain(piece.column(0)) if single else piece
    if pa.types.is_struct(piece.type):
        return pa.RecordBatch.from_struct_array(piece)
    if _holds_messages(piece.type):
        return _plain(piece)
    raise SchemaError(f"an Arrow array of {piece.type} holds neither messages (binary or string) nor rows")


def _holds_messages(kind: pa.DataType) -> bool:
    views = (pa.types.is_binary_view(kind), pa.types.is_string_view(kind))
    plain = (pa.types.is_binary(kind), pa.types.is_large_binary(kind))
    text = (pa.types.is_string(kind), pa.types.is_large_string(kind))
    return any((*views, *plain, *text))


def _plain(array: pa.Array) -> pa.Array:
    if pa.types.is_binary_view(array.type) or pa.types.is_string_view(array.type):
        return array.cast(pa.large_binary())
    return array


def conform(rows: pa.RecordBatch, schema: Schema) -> pa.RecordBatch:
    """Cast rows to exactly the Arrow types of a schema; columns that it lacks are dropped.

    Parameters
    ----------
    rows : pyarrow.RecordBatch
        At least the schema's required columns. Defaults stand in for nulls and for optional columns that are
        missing.

    Raises
    ------
    SchemaError
        Names the column that is missing or whose values do not fit.
    """
    # A topic's table of keys and values, for one: every optional column would come out null.
    if not any(field.name in rows.schema.names for field in schema.fields):
        raise SchemaError(
            f"the rows have the columns {', '.join(rows.schema.names) or 'none'}, and none of the schema's; "
            "to push messages, give their column alone"
        )
    columns = []
    target = schema.arrow_schema()
    for field in schema.fields:
        kind = target.field(field.name).type
        index = rows.schema.get_field_index(field.name)
        if index < 0 and field.required:
            raise SchemaError(f"the rows lack the required column {field.name!r}")
        given = pa.nulls(rows.num_rows, kind) if index < 0 else rows.column(index)
        try:
            column = cast_column(given, kind)
        except pa.ArrowException as error:
            raise SchemaError(
                f"column {field.name!r} is {given.type} and does not cast to {kind}: {error}"
            ) from None
        if field.default is not None and column.null_count:
            plain = kind.value_type if pa.types.is_dictionary(kind) else kind
            column = column.fill_null(pa.scalar(field.default, plain))
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=target)


def cast_column(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Cast a column to a type of a schema, where no value changes its meaning; else pyarrow raises."""
    is_a = pa.types
    if is_a.is_dictionary(kind):
        return _encoded(column)
    if column.type == kind:
        return column
    if is_a.is_dictionary(column.type):
        return cast_column(column.dictionary_decode(), kind)
    if is_a.is_timestamp(kind) and is_a.is_timestamp(column.type):
        # As decode does: fractions beyond ms are cut off toward the past. Without a time zone it is UTC.
        return pc.floor_temporal(column, unit="millisecond").cast(kind)
    if is_a.is_decimal(kind) and is_a.is_float64(column.type):
        _check_exact(column)
    if is_a.is_decimal(kind) and (is_a.is_float64(column.type) or is_a.is_integer(column.type)):
        # Arrow wants room for every value of the type that comes in, and then for those that are there.
        return column.cast(pa.decimal128(38, DECIMAL_SCALE)).cast(kind)
    return column.cast(kind)


def _encoded(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type) and column.dictionary.null_count == 0:
        codes, values = column.indices.cast(pa.int32()), column.dictionary.cast(pa.utf8())
        return pa.DictionaryArray.from_arrays(codes, values)
    return column.cast(pa.utf8()).dictionary_encode()


def _check_exact(column: pa.Array) -> None:
    """Refuse what decode refuses in JSON: numbers that have more than the places of a decimal."""
    values = column.drop_null().to_numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        units = np.rint(values * 10**DECIMAL_SCALE)
        exact = (np.abs(units) < EXACT_FLOAT_UNITS) & (units / 10**DECIMAL_SCALE == values)
    if not exact.all():
        raise pa.ArrowInvalid(f"{values[~exact][0]} is no decimal of {DECIMAL_SCALE} places; round it first")
