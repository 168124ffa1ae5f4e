"""encode on the device: the driver of ``encode.cu``.

The host's dictionary stays the one that results and checkpoints are written from. Its copy on the device
takes over what the host has added before a batch is encoded, and hands over what the batch has added after
it, so both give every string the same code, whichever saw it first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.kernels.launch import Launcher
from omnistream.kernels.numbering import Numbering, Stage
from omnistream.schema import Field, Schema

_VALUE = "value"
_TEXTS = Schema("texts", (Field(_VALUE, "string"),)).to_core()


class DeviceDictionary:
    """A dictionary whose strings also lie on the device.

    Parameters
    ----------
    launcher : Launcher
        The device.
    host : _core.Dictionary, optional
        The dictionary to stay consistent with; by default one of its own.
    """

    def __init__(self, launcher: Launcher, host: _core.Dictionary | None = None) -> None:
        self._stage = Stage(launcher, "encode")
        self._xp = launcher.xp
        self.host = _core.Dictionary() if host is None else host
        self._count = 0  # strings that the device knows
        self._bytes = 0  # and their bytes
        self._pool = self._xp.empty(1024, np.uint8)
        self._offsets = self._xp.zeros(128, np.int64)
        self._table = Numbering(self._stage, self._insert_all)

    def __len__(self) -> int:
        return len(self.host)

    @property
    def memory_bytes(self) -> int:
        """Memory on the device."""
        return int(self._pool.nbytes + self._offsets.nbytes + self._table.slots.nbytes)

    def encode(self, texts: Any, begins: Any, sizes: Any) -> Any:
        """Return the codes of strings on the device, new ones numbered in the order of the rows.

        Parameters
        ----------
        texts : device array of uint8
            Bytes in which the strings lie.
        begins, sizes : device arrays of int64 and int32
            Where each row's string is; a negative size is a null, whose code is 0.
        """
        self.catch_up()
        codes = self._xp.empty(int(sizes.size), np.int32)
        if codes.size == 0:
            return codes
        self._table.reserve(self._count + codes.size)
        try:
            self._number(texts, begins, sizes, codes)
        except MemoryError:
            self._table.forget()  # or strings of these rows would stand in it for good
            raise
        return codes

    def _number(self, texts: Any, begins: Any, sizes: Any, codes: Any) -> None:
        stage, rows = self._stage, int(sizes.size)
        slot_of = self._xp.empty(rows, np.uint32)
        stage.each(
            "probe_texts",
            rows,
            texts,
            begins,
            sizes,
            np.uint32(rows),
            self._pool,
            self._offsets,
            self._table.slots,
            self._table.mask,
            slot_of,
        )
        firsts = self._table.firsts(slot_of)
        if firsts.size:
            self._append(firsts, texts, begins, sizes)
            self._table.publish(slot_of, firsts, self._count - firsts.size)
        stage.each("read_codes", rows, self._table.slots, slot_of, np.uint32(rows), codes)

    def encode_text(self, texts: Any, offsets: Any, validity: Any, rows: Any, count: int) -> Any:
        """Return the codes of an Arrow utf8 column on the device.

        Parameters
        ----------
        texts, offsets, validity : device arrays of uint8, int32 and uint8 (a bitmap, or None)
            The column.
        rows : device array of uint32, or None
            The rows to encode, in this order; None: the first `count`.
        """
        stage = self._stage
        begins, sizes = self._xp.empty(count, np.int64), self._xp.empty(count, np.int32)
        if count:
            stage.each(
                "find_texts",
                count,
                offsets,
                validity,
                rows,
                np.uint32(count),
                begins,
                sizes,
            )
        return self.encode(texts, begins, sizes)

    def catch_up(self) -> None:
        """Take over the strings that the host has added."""
        if len(self.host) == self._count:
            return
        added = pa.record_batch(self.host.to_batch(self._count)).column(0)
        _, offsets, texts = added.buffers()
        ends = np.frombuffer(offsets, np.int32)[1 : len(added) + 1].astype(np.int64)
        size = int(ends[-1])
        self._make_room(len(added), size)
        base = self._count
        self._table.reserve(base + len(added))
        if size:
            self._pool[self._bytes : self._bytes + size] = self._stage.launcher.to_device(
                np.frombuffer(texts, np.uint8)[:size]
            )
        self._take_in(ends)
        self._insert(base, self._table.slots, self._table.mask)

    def _append(self, firsts: Any, texts: Any, begins: Any, sizes: Any) -> None:
        """Give the strings of these rows to the pool and to the host."""
        stage, added = self._stage, int(firsts.size)
        new_sizes = self._xp.empty(added, np.int32)
        stage.each("sizes_of", added, firsts, np.uint32(added), sizes, new_sizes)
        ends = np.cumsum(stage.launcher.to_host(new_sizes), dtype=np.int64)
        size = int(ends[-1])
        self._make_room(added, size)
        base, begin = self._count, self._bytes
        self._take_in(ends)
        stage.each(
            "append_texts",
            added,
            firsts,
            np.uint32(added),
            np.uint32(base),
            texts,
            begins,
            sizes,
            self._offsets,
            self._pool,
        )
        offsets = np.concatenate([[0], ends]).astype(np.int32)
        new_bytes = np.ascontiguousarray(stage.launcher.to_host(self._pool[begin : begin + size]))
        add_texts(
            self.host,
            pa.StringArray.from_buffers(added, pa.py_buffer(offsets), pa.py_buffer(new_bytes)),
        )

    def _make_room(self, strings: int, size: int) -> None:
        self._offsets = self._stage.grown(self._offsets, self._count + 1, self._count + strings + 1)
        self._pool = self._stage.grown(self._pool, self._bytes, self._bytes + size)

    def _take_in(self, ends: np.ndarray) -> None:
        """Count strings in that end there, from the end of the pool on."""
        begin = self._count + 1
        self._offsets[begin : begin + ends.size] = self._stage.launcher.to_device(ends + self._bytes)
        self._count += ends.size
        self._bytes += int(ends[-1])

    def _insert_all(self, slots: Any, mask: np.uint64) -> None:
        self._insert(0, slots, mask)

    def _insert(self, base: int, slots: Any, mask: np.uint64) -> None:
        if self._count > base:
            self._stage.each(
                "insert_texts",
                self._count - base,
                self._pool,
                self._offsets,
                np.uint32(base),
                np.uint32(self._count),
                slots,
                mask,
            )


def add_texts(dictionary: _core.Dictionary, texts: pa.Array) -> np.ndarray:
    """Encode an Arrow utf8 array with a dictionary of the host; no Python object is made for a string."""
    batch = _core.import_rows(pa.record_batch([texts], [_VALUE]), _TEXTS)
    encoded = pa.record_batch(_core.encode_columns(batch, {_VALUE: dictionary}))
    return np.asarray(encoded.column(0).indices)
