"""What a program made of a file, as checksums that do not depend on how it holds its columns.

Per column: the nulls, the CRC-32 of the values and, for strings, the CRC-32 of the lengths. Rows are order
lines, with the fields of their message repeated; integers, decimals times 10**4 and times in ms since 1970
are int64; a null is 0 or "".
"""

from __future__ import annotations

import zlib
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from shape import place_of

from omnistream.schema import Field, Schema, parse_path

Answer = dict[str, Any]


class Digest:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._rows = 0
        self._columns: dict[str, list[int]] = {}

    def add(self, table: pa.Table) -> None:
        """Add rows that have exactly the schema's columns."""
        self._rows += table.num_rows
        for field in self._schema.fields:
            for chunk in table[field.name].chunks:
                self._add_column(field, chunk)

    def answer(self) -> Answer:
        return {"rows": self._rows, "columns": self._columns}

    def _add_column(self, field: Field, values: pa.Array) -> None:
        strings = field.type in ("string", "dictionary")
        sums = self._columns.setdefault(field.name, [0, 0, 0] if strings else [0, 0])
        sums[0] += values.null_count
        if strings:
            values = pc.fill_null(pc.cast(values, pa.large_string()), "")
            lengths = pc.cast(pc.binary_length(values), pa.int32()).to_numpy()
            sums[1] = zlib.crc32(_bytes(values), sums[1])
            sums[2] = zlib.crc32(np.ascontiguousarray(lengths), sums[2])
        else:
            sums[1] = zlib.crc32(np.ascontiguousarray(_lanes(field, values), np.int64), sums[1])


def _bytes(values: pa.Array) -> memoryview:
    if len(values) == 0:
        return memoryview(b"")
    offsets = np.frombuffer(values.buffers()[1], np.int64)[values.offset : values.offset + len(values) + 1]
    if offsets[-1] == offsets[0]:
        return memoryview(b"")
    return memoryview(values.buffers()[2])[offsets[0] : offsets[-1]]


def _lanes(field: Field, values: pa.Array) -> np.ndarray:
    if field.type == "timestamp":
        values = pc.cast(pc.cast(values, pa.timestamp("ms", values.type.tz), safe=False), pa.int64())
    elif field.type == "decimal" and pa.types.is_decimal(values.type):
        values = pc.fill_null(values, Decimal(0))  # scale 4, and the low words of its lanes hold all of it
        return np.frombuffer(values.buffers()[1], np.int64)[2 * values.offset :: 2][: len(values)]
    elif field.type == "decimal":
        return np.rint(pc.fill_null(values, 0.0).to_numpy() * 10_000)
    return pc.fill_null(values, 0).to_numpy()


def explode(table: pa.Table, schema: Schema) -> pa.Table:
    """Turn a table whose columns nest as the JSON does into rows as above."""
    columns, parents, lines = {}, None, None
    if schema.explode:
        lists = _descend(table, parse_path(schema.explode)[0])
        parents, lines = pc.list_parent_indices(lists), pc.list_flatten(lists)
    for field in schema.fields:
        in_line, keys = place_of(field)
        if in_line:
            columns[field.name] = _members(lines, keys)
        else:
            values = _descend(table, keys)
            columns[field.name] = values if parents is None else values.take(parents)
    return pa.table(columns)


def _descend(table: pa.Table, keys: tuple[str, ...]) -> pa.Array:
    column = table[keys[0]]
    return _members(column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column, keys[1:])


def _members(values: pa.Array, keys: tuple[str, ...]) -> pa.Array:
    for key in keys:
        values = pc.struct_field(values, key)
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
