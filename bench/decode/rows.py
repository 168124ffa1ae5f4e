"""Objects of a Python JSON library to Arrow columns: the loop that a careful user writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from shape import place_of

from omnistream.schema import Field, Schema, parse_path

Getter = Callable[[Any], Any]
# Makes a function from an object to a tuple of the values at these paths.
MakeGetter = Callable[[list[tuple[str, ...]]], Getter]

TYPES = {"int64": pa.int64(), "decimal": pa.float64()}


def to_table(events: Iterable[Any], schema: Schema, make_getter: MakeGetter) -> pa.Table:
    """One row per line, with the values of its message repeated."""
    message_fields = [field for field in schema.fields if not place_of(field)[0]]
    line_fields = [field for field in schema.fields if place_of(field)[0]]
    message = make_getter([place_of(field)[1] for field in message_fields])
    if schema.explode:
        line = make_getter([place_of(field)[1] for field in line_fields])
        lines_of = make_getter([parse_path(schema.explode)[0]])
        rows: list[tuple[Any, ...]] = []
        for event in events:
            head = message(event)
            rows.extend([head + line(each) for each in lines_of(event)[0]])
    else:
        rows = [message(event) for event in events]
    columns = zip(message_fields + line_fields, zip(*rows, strict=True), strict=True)
    return pa.table({field.name: _array(field, values) for field, values in columns})


def _array(field: Field, values: tuple[Any, ...]) -> pa.Array:
    if field.type == "decimal" and field.coerce:
        values = tuple(map(float, values))
    array = pa.array(values, TYPES.get(field.type, pa.string()))
    return pc.cast(array, pa.timestamp("ms", "UTC")) if field.type == "timestamp" else array
