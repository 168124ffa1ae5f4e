"""JSON text from Arrow columns, a column at a time: no Python object is made for a row."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omnistream.errors import SinkError

Array = Any  # pyarrow ships no types of its own

# Columns of this many rows stay in the cache between one step and the next.
ROWS_PER_CHUNK = 1 << 14
# 64-bit offsets: escaping can make six bytes of one.
TEXT = pa.large_utf8()

NEEDS_ESCAPE = r'[\x00-\x1f"\\]'
CONTROL = r"[\x00-\x1f]"


def check_json_types(schema: pa.Schema) -> None:
    """Refuse columns that have no JSON form."""
    for field in schema:
        if not _has_json_form(field.type):
            raise SinkError(
                f"column {field.name} of type {field.type} has no JSON form: use Parquet or Arrow"
            )


def _has_json_form(kind: Any) -> bool:
    is_a = pa.types
    if is_a.is_dictionary(kind) or _is_list(kind):
        return _has_json_form(kind.value_type)
    if is_a.is_struct(kind):
        return all(_has_json_form(kind.field(i).type) for i in range(kind.num_fields))
    plain = (
        is_a.is_string, is_a.is_large_string, is_a.is_boolean, is_a.is_integer, is_a.is_floating,
        is_a.is_decimal, is_a.is_timestamp, is_a.is_date, is_a.is_null,
    )  # fmt: skip
    return any(check(kind) for check in plain)


def _is_list(kind: Any) -> bool:
    is_a = pa.types
    return bool(is_a.is_list(kind) or is_a.is_large_list(kind) or is_a.is_fixed_size_list(kind))


def json_objects(batch: pa.RecordBatch) -> Array:
    """Render rows as an array of JSON objects."""
    return join_text([*_members(batch.schema.names, batch.columns), "}"])


def json_lines(batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
    """Render rows as JSON objects, one a line."""
    for start in range(0, batch.num_rows, ROWS_PER_CHUNK):
        chunk = batch.slice(start, ROWS_PER_CHUNK)
        yield _text_bytes(join_text([*_members(chunk.schema.names, chunk.columns), "}\n"]))


def reject_lines(batch: pa.RecordBatch) -> Iterator[pa.Buffer]:
    """Render reject records: the message under ``text`` when it is UTF-8, else under ``base64``.

    Its key, if it has one, is likewise under ``key`` or ``key_base64``.
    """
    for start in range(0, batch.num_rows, ROWS_PER_CHUNK):
        chunk = batch.slice(start, ROWS_PER_CHUNK)
        known = chunk.drop_columns(["key", "bytes"])
        key = _bytes_member(chunk.column("key"), "key", "key_base64")
        message = _bytes_member(chunk.column("bytes"), "text", "base64")
        yield _text_bytes(join_text([*_members(known.schema.names, known.columns), key, message, "}\n"]))


def _members(names: Sequence[str], columns: Sequence[Array]) -> Iterator[Any]:
    opening = "{"
    for name, column in zip(names, columns, strict=True):
        yield f"{opening}{json.dumps(name, ensure_ascii=False)}:"
        yield json_text(column)
        opening = ","


def _bytes_member(column: Array, text: str, base64: str) -> Array | str:
    """Render one more member for each value, with the comma before it; null has none."""
    if column.null_count == len(column):
        return ""
    try:
        members = join_text([f',"{text}":', json_text(column.cast(TEXT))])
    except pa.ArrowInvalid:  # some value is not UTF-8: one by one
        members = pa.array([_one_member(value, text, base64) for value in column.to_pylist()], TEXT)
    return pc.if_else(column.is_valid(), members, "") if column.null_count else members


def _one_member(value: bytes | None, text: str, base64: str) -> str:
    if value is None:
        return ""
    try:
        return f',"{text}":{json.dumps(value.decode(), ensure_ascii=False)}'
    except UnicodeDecodeError:
        return f',"{base64}":"{b64encode(value).decode()}"'


def json_text(column: Array) -> Array:
    """Give every value its JSON text; null becomes ``null``. The type must pass `check_json_types`."""
    kind, is_a = column.type, pa.types
    if is_a.is_dictionary(kind):
        if len(column.dictionary) > len(column):
            return json_text(column.dictionary_decode())
        text = json_text(column.dictionary).take(column.indices)
    elif is_a.is_string(kind) or is_a.is_large_string(kind):
        text = join_text(['"', _escaped(column.cast(TEXT)), '"'])
    elif is_a.is_timestamp(kind):
        # "2024-03-01 08:00:00.000" in UTC. As text without a time zone: with one it takes 30 times as long.
        plain = column.cast(pa.timestamp(kind.unit)).cast(TEXT)
        text = join_text(['"', pc.utf8_replace_slice(plain, 10, 11, "T"), 'Z"' if kind.tz else '"'])
    elif is_a.is_date(kind):
        text = join_text(['"', column.cast(TEXT), '"'])
    elif is_a.is_floating(kind):
        # JSON has no NaN and no infinity.
        text = pc.if_else(pc.is_finite(column), column.cast(TEXT), pa.scalar(None, TEXT))
    elif is_a.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        text = pc.if_else(column.is_valid(), _struct_text(names, column), pa.scalar(None, TEXT))
    elif _is_list(kind):
        text = _list_text(column)
    else:
        text = column.cast(TEXT)
    return text.fill_null("null")


def _struct_text(names: list[str], column: Array) -> Array | str:
    return join_text([*_members(names, column.flatten()), "}"]) if names else "{}"


def _list_text(column: Array) -> Array:
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    values = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), json_text(column.flatten()))
    joined = join_text(["[", pc.binary_join(values, pa.scalar(",", TEXT)), "]"])
    return pc.if_else(column.is_valid(), joined, pa.scalar(None, TEXT))


def _escaped(text: Array) -> Array:
    if not pc.any(pc.match_substring_regex(text, NEEDS_ESCAPE)).as_py():
        return text
    text = pc.replace_substring(pc.replace_substring(text, "\\", "\\\\"), '"', '\\"')
    if pc.any(pc.match_substring_regex(text, CONTROL)).as_py():
        for control in map(chr, range(0x20)):
            text = pc.replace_substring(text, control, json.dumps(control)[1:-1])
    return text


def join_text(pieces: Sequence[Any]) -> Array:
    """Concatenate arrays and constants, value by value."""
    scalars = [pa.scalar(piece, TEXT) if isinstance(piece, str) else piece for piece in pieces]
    return pc.binary_join_element_wise(*scalars, pa.scalar("", TEXT))


def _text_bytes(text: Array) -> pa.Buffer:
    """All values, one after the other, without a copy."""
    offsets, data = text.buffers()[1:]
    ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    whole: pa.Buffer = data.slice(int(ends[0]), int(ends[-1] - ends[0]))
    return whole
