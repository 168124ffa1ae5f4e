"""Columns on the device, and how those of a host batch get there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.errors import SchemaError
from omnistream.kernels.launch import Launcher

NO_DICTIONARIES: Mapping[str, _core.Dictionary] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Lane:
    """Lanes of one column.

    Attributes
    ----------
    values : device array
        int64 (int64, decimal in 1/10000, timestamp in ms), float64, int32 (int32, codes), uint8 (bool), or
        the bytes of text.
    validity : device array of uint8, or None
        An Arrow bitmap; None: nothing is null.
    offsets : device array of int32, or None
        Of text.
    dictionary : _core.Dictionary, pyarrow.Array or None
        What the codes stand for.
    """

    values: Any
    validity: Any = None
    offsets: Any = None
    dictionary: Any = None


@dataclass(frozen=True, slots=True)
class CleanRows:
    """Rows on the device, after clean.

    Attributes
    ----------
    columns : mapping of str to Lane
    table_rows : int
        How many rows the columns have.
    count : int
        How many of them survived.
    rows : device array of uint32, or None
        Which ones, ascending; None: all.
    watermarks_ms : device array of int64
        By survivor, the watermark that it met.
    owner : int
        The partition that new keys belong to.
    """

    columns: Mapping[str, Lane]
    table_rows: int
    count: int
    rows: Any
    watermarks_ms: Any
    owner: int = 0


def upload(
    launcher: Launcher,
    clean: _core.CleanBatch,
    names: Iterable[str],
    types: Mapping[str, str],
    dictionaries: Mapping[str, _core.Dictionary] = NO_DICTIONARIES,
) -> CleanRows:
    """Copy the columns that are named, and the survivors, to the device.

    Columns in the codes of one of the `dictionaries` name it, so that its strings are not looked at again.
    """
    table = pa.record_batch(clean.batch)
    survivors = pa.record_batch(clean.survivors())
    count, everything = survivors.num_rows, survivors.num_rows == table.num_rows
    columns = {}
    for name in names:
        index = table.schema.get_field_index(name)
        if index < 0:
            raise SchemaError(f"the batch has no column '{name}'")
        lane = upload_column(launcher, table.column(index), types[name])
        columns[name] = replace(lane, dictionary=dictionaries[name]) if name in dictionaries else lane
    return CleanRows(
        columns,
        table.num_rows,
        count,
        None if everything else launcher.to_device(np.asarray(survivors.column("row")).view(np.uint32)),
        launcher.to_device(np.asarray(survivors.column("watermark_ms"))),
        clean.owner,
    )


def upload_column(launcher: Launcher, column: pa.Array, kind: str) -> Lane:
    """Copy an Arrow column, whose type in a schema is `kind`, to the device."""
    dictionary = None
    if pa.types.is_dictionary(column.type):
        dictionary, column = column.dictionary, column.indices
    buffers = column.buffers()
    length = len(column)
    validity = None
    if column.null_count:
        validity = launcher.to_device(np.frombuffer(buffers[0], np.uint8)[: (length + 7) // 8])
    if kind == "string":
        offsets = np.frombuffer(buffers[1], np.int32)[: length + 1] if length else np.zeros(1, np.int32)
        size = int(offsets[-1])
        texts = np.frombuffer(buffers[2], np.uint8)[:size] if size else np.zeros(0, np.uint8)
        return Lane(launcher.to_device(texts), validity, launcher.to_device(offsets))
    lanes: np.ndarray[Any, Any]
    if kind == "bool":
        lanes = np.unpackbits(np.frombuffer(buffers[1], np.uint8), count=length, bitorder="little")
    elif kind == "decimal":
        lanes = np.frombuffer(buffers[1], np.int64)[: 2 * length : 2]
    else:
        lane = {"int32": np.int32, "dictionary": np.int32, "float64": np.float64}.get(kind, np.int64)
        lanes = np.frombuffer(buffers[1], lane)[:length]
    return Lane(launcher.to_device(np.ascontiguousarray(lanes)), validity, None, dictionary)
