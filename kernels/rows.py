"""Rows between the stages of a device, and their way to the host and back.

A row knows its message: what a later stage refuses becomes a reject with the message's own bytes, which the
host still has. So only the numbers of refused rows come back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.kernels.columns import CleanRows, Lane, upload_column
from omnistream.kernels.launch import Launcher, blocks_for

# By fault: reason, and the column at fault or "".
Faults = Sequence[tuple[str, str]]
THREADS = 256
_DECIMAL = pa.decimal128(19, 4)
_ARROW = {
    "int32": pa.int32(),
    "int64": pa.int64(),
    "decimal": _DECIMAL,
    "float64": pa.float64(),
    "timestamp": pa.timestamp("ms", "UTC"),
    "dictionary": pa.int32(),
}


class Origin(Protocol):
    """Where rows come from."""

    @property
    def source(self) -> str:
        """As rejects name it."""

    @property
    def partition(self) -> int:
        """Whose watermark the rows move."""

    def refuse(self, rows: Any, faults: np.ndarray, stage: str, known: Faults) -> _core.Batch:
        """Return reject records of rows (a device array, ascending); ``faults`` (int32) index ``known``."""

    def to_host(self, rows: DeviceRows) -> _core.Batch:
        """Copy the rows to the host, with all that their rejects need there."""


@dataclass(slots=True)
class DeviceRows:
    """Rows on a device.

    Attributes
    ----------
    columns : dict of str to Lane
    types : dict of str to str
        Types of the columns, as a schema names them.
    rows : int
    origin : Origin
    """

    launcher: Launcher
    columns: dict[str, Lane]
    types: dict[str, str]
    rows: int
    origin: Origin
    _host: _core.Batch | None = field(default=None, repr=False)

    def refuse(self, rows: Any, faults: np.ndarray, stage: str, known: Faults) -> _core.Batch:
        """Return reject records of some rows: see `Origin.refuse`."""
        return self.origin.refuse(rows, faults, stage, known)

    def to_host(self) -> _core.Batch:
        """Copy the rows to the host; once, however often it is asked."""
        if self._host is None:
            self._host = self.origin.to_host(self)
        return self._host

    def add(self, name: str, kind: str, lane: Lane) -> None:
        """Add a column."""
        self.columns[name], self.types[name] = lane, kind
        self._host = None

    @classmethod
    def upload(
        cls,
        launcher: Launcher,
        batch: _core.Batch,
        types: Mapping[str, str],
        dictionaries: Mapping[str, _core.Dictionary],
    ) -> DeviceRows:
        """Copy rows of the host to the device, where columns are in the codes of the dictionaries."""
        table = pa.record_batch(batch)
        columns = {}
        for name in table.schema.names:
            lane = upload_column(launcher, table.column(name), types[name])
            columns[name] = replace(lane, dictionary=dictionaries[name]) if name in dictionaries else lane
        kinds = {name: types[name] for name in columns}
        return cls(launcher, columns, kinds, table.num_rows, HostOrigin(launcher, batch), batch)


@dataclass(slots=True)
class HostOrigin:
    """Rows that came from a batch of the host, which is still there."""

    launcher: Launcher
    batch: _core.Batch

    @property
    def source(self) -> str:
        """As `Origin.source`."""
        return self.batch.source

    @property
    def partition(self) -> int:
        """As `Origin.partition`."""
        return self.batch.partition

    def refuse(self, rows: Any, faults: np.ndarray, stage: str, known: Faults) -> _core.Batch:
        """As `Origin.refuse`."""
        at = np.ascontiguousarray(self.launcher.to_host(rows), np.int32)
        return _core.refuse_rows(self.batch, at, np.ascontiguousarray(faults, np.int32), stage, list(known))

    def to_host(self, rows: DeviceRows) -> _core.Batch:
        """Return the batch."""
        return self.batch


@dataclass(slots=True)
class MessageOrigin:
    """Rows that were decoded on the device.

    Attributes
    ----------
    message : device array of int64
        By row, ascending: its message.
    pieces : callable
        Returns messages by their numbers (int64, on the host).
    schema : dict
        As decode had it: names, types and levels of the columns.
    dictionaries : dict
        Of the dictionary columns.
    exploded : bool
        Rows are lines of their messages.
    """

    launcher: Launcher
    source: str
    partition: int
    message: Any
    pieces: Callable[[np.ndarray], _core.Messages]
    schema: dict[str, Any]
    dictionaries: dict[str, _core.Dictionary]
    exploded: bool

    def refuse(self, rows: Any, faults: np.ndarray, stage: str, known: Faults) -> _core.Batch:
        """As `Origin.refuse`."""
        to_host = self.launcher.to_host
        message = self.message[rows]
        lines = np.full(int(rows.size), -1, np.int32)
        if self.exploded:
            firsts = self.launcher.xp.searchsorted(self.message, message)
            lines = (to_host(rows).astype(np.int64) - to_host(firsts)).astype(np.int32)
        pieces = self.pieces(np.ascontiguousarray(to_host(message)))
        return pieces.refuse(lines, np.ascontiguousarray(faults, np.int32), stage, list(known))

    def to_host(self, rows: DeviceRows) -> _core.Batch:
        """As `Origin.to_host`."""
        message = self.launcher.to_host(self.message)
        numbers, places = np.unique(message, return_inverse=True)
        table = pa.record_batch([_to_arrow(rows, name) for name in rows.columns], names=list(rows.columns))
        known = {each["name"]: each for each in self.schema["fields"]}
        blank = {**self.schema["fields"][0], "required": False, "path": []}
        fields = [{**known.get(name, blank), "name": name, "type": rows.types[name]} for name in rows.columns]
        return self.pieces(np.ascontiguousarray(numbers, np.int64)).rows(
            table,
            {**self.schema, "fields": fields},
            self.dictionaries,
            np.ascontiguousarray(places, np.int32),
            self.exploded,
        )


def _to_arrow(rows: DeviceRows, name: str) -> pa.Array:
    """Copy a column to the host; codes come as int32."""
    lane, kind, to_host = rows.columns[name], rows.types[name], rows.launcher.to_host
    validity = None if lane.validity is None else pa.py_buffer(to_host(lane.validity))
    values = np.ascontiguousarray(to_host(lane.values))
    if kind == "string":
        buffers = [validity, pa.py_buffer(to_host(lane.offsets)), pa.py_buffer(values)]
        return pa.Array.from_buffers(pa.utf8(), rows.rows, buffers)
    if kind == "bool":
        bits = np.packbits(values, bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), rows.rows, [validity, pa.py_buffer(bits)])
    if kind == "decimal":
        values = np.stack([values, values >> 63], axis=1)
    return pa.Array.from_buffers(_ARROW[kind], rows.rows, [validity, pa.py_buffer(values)])


def picked(batch: DeviceRows, names: Sequence[str], rows: Any) -> DeviceRows:
    """Return some columns of some rows, ascending, that were decoded on the device."""
    origin = batch.origin
    assert isinstance(origin, MessageOrigin), "rows that came from the host are still there"
    columns = {name: _picked(batch, name, rows) for name in names}
    types = {name: batch.types[name] for name in names}
    own = replace(origin, message=origin.message[rows])
    return DeviceRows(batch.launcher, columns, types, int(rows.size), own)


def _picked(batch: DeviceRows, name: str, rows: Any) -> Lane:
    lane, launcher, xp = batch.columns[name], batch.launcher, batch.launcher.xp
    count = int(rows.size)
    grid = blocks_for(count, THREADS)
    validity = None
    if lane.validity is not None:
        flags = (lane.validity[rows >> 3] >> (rows & 7).astype(np.uint8)) & 1
        validity = xp.empty((count + 7) // 8, np.uint8)
        launcher.launch("decode", "pack_bits", grid, THREADS, flags, np.uint32(count), validity)
    if lane.offsets is None:
        return replace(lane, values=lane.values[rows], validity=validity)
    begins = lane.offsets[rows]
    sizes = lane.offsets[rows + 1] - begins
    offsets = xp.zeros(count + 1, np.int32)
    xp.cumsum(sizes, dtype=np.int32, out=offsets[1:])
    texts = xp.empty(int(offsets[-1]), np.uint8)
    given = (lane.values, begins.astype(np.int64), sizes, np.uint32(count), offsets, texts)
    launcher.launch("decode", "gather_texts", grid, THREADS, *given)
    return Lane(texts, validity, offsets)


def flags_of(launcher: Launcher, rows: Sequence[int], count: int) -> Any:
    """Return flags (uint8) of some rows, or None where there are none."""
    if not rows:
        return None
    flags = np.zeros(count, np.uint8)
    flags[np.asarray(rows)] = 1
    return launcher.to_device(flags)


@dataclass(slots=True)
class DeviceClean:
    """Rows on a device after clean: what `_core.CleanBatch` is on the host.

    Attributes
    ----------
    batch : DeviceRows
    survivors : device array of uint32, or None
        Which rows live on, ascending; None: all.
    watermarks_ms : device array of int64
        By survivor, the watermark that it met.
    owner : int
        The partition that new keys belong to.
    """

    batch: DeviceRows
    survivors: Any
    watermarks_ms: Any
    owner: int
    _host: _core.CleanBatch | None = field(default=None, repr=False)

    @property
    def rows(self) -> int:
        """How many rows live on."""
        return int(self.watermarks_ms.size)

    def lanes(self) -> CleanRows:
        """Return what a window takes."""
        batch = self.batch
        given = (self.rows, self.survivors, self.watermarks_ms, self.owner)
        return CleanRows(batch.columns, batch.rows, *given)

    def refuse(self, rows: Sequence[int], stage: str, reason: str, column: str) -> _core.Batch:
        """Return reject records of some rows of the batch, ascending, that have one fault."""
        at = self.batch.launcher.to_device(np.asarray(rows, np.int64))
        return self.batch.refuse(at, np.zeros(len(rows), np.int32), stage, [(reason, column)])

    def to_host(self) -> _core.CleanBatch:
        """Copy the rows to the host; once, however often it is asked."""
        if self._host is None:
            to_host = self.batch.launcher.to_host
            rows = np.arange(self.rows) if self.survivors is None else to_host(self.survivors)
            watermarks_ms = np.ascontiguousarray(to_host(self.watermarks_ms), np.int64)
            batch = self.batch.to_host()
            self._host = _core.CleanBatch(batch, rows.astype(np.int32), watermarks_ms, self.owner)
        return self._host
