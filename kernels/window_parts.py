"""Groups of the device as the parts of a checkpoint, in the host's columns and order, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from omnistream.kernels.window_program import TEXT, Program

_SIGN64 = np.uint64(2**63)


def groups_part(
    program: Program, words: np.ndarray, home: Callable[[str], pa.Array], schema: pa.Schema
) -> pa.RecordBatch:
    """Return groups as columns.

    Parameters
    ----------
    words : array of uint64, shape (groups, program.stride)
    home : callable
        Returns the strings of a column, by code.
    schema : Schema
        Of the part.
    """
    columns: list[Any] = [starts_of(words), words[:, program.key_words].astype(np.int32)]
    for each in program.fields:
        bits = (words[:, each.word] >> np.uint64(each.shift)) & each.mask
        valid = bits != 0
        if each.type in TEXT:
            columns.append(home(each.column).take(pa.array(bits.astype(np.int64) - 1, mask=~valid)))
            continue
        if each.value_word:
            lanes = (words[:, each.value_word] ^ _SIGN64).view(np.int64)
        else:
            lanes = (bits - np.uint64(1)).view(np.int64)
            if each.type == "int32":
                lanes = lanes - 2**31
        columns.append(_lanes_to_arrow(lanes, valid, schema.field(len(columns)).type))
    columns += [np.ascontiguousarray(words[:, word]).view(np.int64) for word in program.sums]
    return batch_of(columns, schema)


def words_of(
    program: Program, groups: pa.RecordBatch, codes_of: Callable[[str, pa.Array], np.ndarray]
) -> np.ndarray:
    """Return the words of the groups of a part; `codes_of` gives the codes of a column's strings."""
    words = np.zeros((groups.num_rows, program.stride), np.uint64)
    words[:, 0] = int64_of(groups.column(0)).view(np.uint64)
    words[:, program.key_words] = int64_of(groups.column(1)).view(np.uint64)
    for number, each in enumerate(program.fields):
        column = groups.column(2 + number)
        valid = np.asarray(column.is_valid())
        if each.type in TEXT:
            bits = codes_of(each.column, column).astype(np.uint64) + np.uint64(1)
        elif each.value_word:
            words[:, each.value_word] = np.where(valid, int64_of(column).view(np.uint64) ^ _SIGN64, 0)
            bits = np.ones(groups.num_rows, np.uint64)
        else:
            shift = 2**31 if each.type == "int32" else 0
            bits = (int64_of(column) + shift + 1).astype(np.uint64)
        words[:, each.word] |= np.where(valid, bits, np.uint64(0)) << np.uint64(each.shift)
    for number, word in enumerate(program.sums):
        words[:, word] = int64_of(groups.column(2 + len(program.fields) + number)).view(np.uint64)
    return words


def distinct_part(
    distinct: Sequence[tuple[str, str, str, np.ndarray]],
    starts: np.ndarray,
    order: np.ndarray,
    home: Callable[[str], pa.Array],
    schema: pa.Schema,
) -> pa.RecordBatch:
    """Return distinct values window by window, then column by column, then as they came.

    Parameters
    ----------
    distinct : sequence of tuple
        By accumulator its name, column and type, and (group, value) pairs: uint64, shape (pairs, 2).
    starts : array of int64
        Of the windows of the groups.
    order : array of int64
        In which the groups are written.
    """
    if not distinct:
        return pa.RecordBatch.from_pylist([], schema)
    row_of = np.empty(order.size, np.int64)
    row_of[order] = np.arange(order.size)
    names, rows, numbers, texts, keys = [], [], [], [], []
    for number, (name, column, kind, pairs) in enumerate(distinct):
        count = len(pairs)
        group, value = pairs[:, 0].astype(np.int64), pairs[:, 1].view(np.int64)
        text = kind in TEXT
        names.append(pa.array([name] * count, pa.utf8()))
        rows.append(row_of[group])
        numbers.append(pa.nulls(count, pa.int64()) if text else pa.array(value))
        texts.append(home(column).take(pa.array(value)) if text else pa.nulls(count, pa.utf8()))
        keys.append(np.stack([starts[group], np.full(count, number)]))
    start, accumulator = np.concatenate(keys, axis=1)
    by_window = pa.array(np.lexsort((accumulator, start)))
    return pa.record_batch(
        [
            pa.concat_arrays(names).take(by_window),
            pa.array(np.concatenate(rows)).take(by_window),
            pa.concat_arrays(numbers).take(by_window),
            pa.concat_arrays(texts).take(by_window),
            pa.array(np.zeros(len(by_window), np.int64)),  # distinct values have no weights
        ],
        schema=schema,
    )


def pairs_of(
    name: str, column: str, kind: str, part: pa.RecordBatch, codes_of: Callable[[str, pa.Array], np.ndarray]
) -> np.ndarray:
    """Return the (group, value) pairs of an accumulator: uint64, shape (pairs, 2)."""
    names = np.asarray(part.column("accumulator").to_pylist(), dtype=object)
    own = part.filter(pa.array(names == name, pa.bool_()))
    pairs = np.empty((own.num_rows, 2), np.uint64)
    pairs[:, 0] = int64_of(own.column("group")).astype(np.uint64)
    if kind in TEXT:
        lanes = codes_of(column, own.column("text")).astype(np.int64)
    else:
        lanes = int64_of(own.column("number"))
    pairs[:, 1] = lanes.view(np.uint64)
    return pairs


def starts_of(words: np.ndarray) -> np.ndarray:
    """Return the starts of the windows of groups."""
    return np.ascontiguousarray(words[:, 0]).view(np.int64)


def int64_of(column: pa.Array) -> np.ndarray:
    """Return the lanes of a column of a snapshot; anything for null."""
    if pa.types.is_decimal(column.type):
        return np.frombuffer(column.buffers()[1], np.int64)[::2][
            column.offset : column.offset + len(column)
        ].copy()
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    return np.asarray(column.fill_null(0)).astype(np.int64)


def _lanes_to_arrow(lanes: np.ndarray, valid: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        wide = np.stack([lanes, lanes >> 63], axis=1).reshape(-1)
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
        return pa.Array.from_buffers(kind, lanes.size, [bitmap, pa.py_buffer(np.ascontiguousarray(wide))])
    if pa.types.is_boolean(kind):
        return pa.array(lanes != 0, kind, mask=~valid)
    if pa.types.is_int32(kind):
        return pa.array(np.where(valid, lanes, 0).astype(np.int32), kind, mask=~valid)
    return pa.array(lanes, pa.int64(), mask=~valid).cast(kind)


def batch_of(columns: Iterable[Any], schema: pa.Schema) -> pa.RecordBatch:
    """Return columns, or what makes a column, as a part."""
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, kind)
        for column, kind in zip(columns, schema.types, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)
