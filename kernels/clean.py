"""clean on a device: the driver of ``clean.cu``.

Rules, amounts and the watermark run there. Duplicates do not: whether a key is still remembered depends on
the watermark that the rows before it have moved, and whether they move it depends on their own keys. So the
keys and times of the rows that have passed the rules go to the CPU, which says which rows live on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omnistream import _core
from omnistream.errors import SchemaError
from omnistream.kernels.columns import Lane
from omnistream.kernels.launch import Launcher, blocks_for
from omnistream.kernels.rows import DeviceRows, picked

THREADS = 256
TILE = THREADS * 8  # rows, as clean.cu
PASSED = 0xFFFF
_PLACES = 4  # of a decimal
_FIRST, _LAST = -(2**63), 2**63 - 1
_WIDTHS = {np.dtype(np.uint8): 0, np.dtype(np.int32): 1, np.dtype(np.int64): 2, np.dtype(np.float64): 3}


@dataclass(frozen=True, slots=True)
class DeviceCleaned:
    """Which rows live on.

    Attributes
    ----------
    rows : device array of uint32
        The survivors, ascending.
    watermarks_ms : device array of int64
        By survivor, the watermark that it met.
    failed : device array of uint16
        By row of the batch: the rule that it failed first, the number of rules for a duplicate, one more for
        an amount that overflowed, `PASSED`.
    owner : int
        The slot of its partition.
    """

    rows: Any
    watermarks_ms: Any
    failed: Any
    owner: int


class DeviceCleaner:
    """Rules as ``_core.Cleaner`` takes them, without duplicates.

    Parameters
    ----------
    launcher : Launcher
        The device.
    rules : sequence of dict
    time_column : str
    watermark : _core.Watermark
        Of the stream; each batch moves it.
    max_disorder_ms : int
        As the watermark was made with.
    keys : sequence of str
        The columns of a duplicate's key; none: there are no duplicates.
    cleaner : _core.Cleaner, optional
        Remembers the keys, and moves the same watermark.
    """

    def __init__(
        self,
        launcher: Launcher,
        rules: Sequence[dict[str, Any]],
        time_column: str,
        watermark: _core.Watermark,
        max_disorder_ms: int,
        keys: Sequence[str] = (),
        cleaner: _core.Cleaner | None = None,
    ) -> None:
        self.launcher = launcher
        self._xp = launcher.xp
        self._rules = rules
        self._time_column = time_column
        self._watermark = watermark
        self._max_disorder_ms = max_disorder_ms
        self._keys = keys
        self._cleaner = cleaner

    def clean(
        self,
        columns: Mapping[str, Lane],
        rows: int,
        source: str,
        partition: int,
        now_ms: int,
        overflowed: Any = None,
        batch: DeviceRows | None = None,
    ) -> DeviceCleaned:
        """Judge the rows of a batch, which come from one partition.

        ``overflowed`` flags rows (device array of uint8) whose amount int64 cannot hold. `batch` has the
        columns, and must be given where there may be duplicates.

        Raises
        ------
        SchemaError
            When a column is missing, or a row that passed has no event time.
        """
        xp = self._xp
        failed = xp.full(rows, PASSED, np.uint16)
        for number, rule in enumerate(self._rules):
            self._apply(rule, columns, rows, now_ms, np.uint32(number), failed)
        if overflowed is not None:
            last = np.uint32(len(self._rules) + 1)
            self._each("mark_flagged", rows, overflowed, np.uint32(rows), last, failed)
        survivors = xp.flatnonzero(failed == PASSED).astype(np.uint32)
        time = self._column(columns, self._time_column)
        if time.validity is not None:
            missing = (time.validity[survivors >> 3] >> (survivors & 7).astype(np.uint8)) & 1 == 0
            if bool(missing.any()):
                row = int(survivors[int(xp.argmax(missing))])
                raise SchemaError(
                    f'column "{self._time_column}" is null in row {row}: every row needs an event time'
                )
        if batch is not None and self._cleaner is not None and survivors.size:
            return self._drop_duplicates(self._cleaner, batch, survivors, failed)
        met_ms, owner = self._meet(time.values[survivors], source, partition)
        return DeviceCleaned(survivors, met_ms, failed, owner)

    def _drop_duplicates(
        self, cleaner: _core.Cleaner, batch: DeviceRows, survivors: Any, failed: Any
    ) -> DeviceCleaned:
        """Let the CPU say which of the rows repeat a key, and move the watermark past the others."""
        names = dict.fromkeys([*self._keys, self._time_column])
        clean = cleaner.drop_duplicates(picked(batch, [*names], survivors).to_host())
        kept = pa.record_batch(clean.survivors())
        rows = np.asarray(kept.column("row"))
        to_device = self.launcher.to_device
        if rows.size < survivors.size:
            repeated = np.delete(np.arange(int(survivors.size)), rows)
            failed[survivors[to_device(repeated)]] = np.uint16(len(self._rules))
            survivors = survivors[to_device(rows)]
        met_ms = to_device(np.ascontiguousarray(kept.column("watermark_ms")))
        return DeviceCleaned(survivors, met_ms, failed, clean.owner)

    def count_duplicates(self, cleaned: DeviceCleaned) -> int:
        """Return how many rows repeated a key."""
        return int((cleaned.failed == np.uint16(len(self._rules))).sum()) if self._cleaner else 0

    def rejects(self, batch: DeviceRows, cleaned: DeviceCleaned) -> _core.Batch:
        """Return the rejects of a batch in the order of its rows."""
        at = self._xp.flatnonzero(cleaned.failed != PASSED)
        faults = self.launcher.to_host(cleaned.failed[at]).astype(np.int32)
        known = [(rule["reason"], rule["column"]) for rule in self._rules]
        return batch.refuse(at, faults, "clean", [*known, ("duplicate", ""), ("amount_overflow", "")])

    # ---- rules

    def _apply(
        self,
        rule: dict[str, Any],
        columns: Mapping[str, Lane],
        rows: int,
        now_ms: int,
        number: np.uint32,
        failed: Any,
    ) -> None:
        column = self._column(columns, rule["column"])
        tail = (np.uint32(rows), number, failed)
        match rule["kind"]:
            case "less_than":
                other = self._column(columns, rule["other"])
                width = np.uint32(_WIDTHS[column.values.dtype])
                given = (column.values, column.validity, other.values, other.validity, width)
                self._each("mark_less_than", rows, *given, *tail)
            case "range":
                low, high = rule.get("low", _FIRST), rule.get("high", _LAST)
                floats = rule.get("low_float", -np.inf), rule.get("high_float", np.inf)
                self._mark_outside(column, low, high, floats, tail)
            case "ahead":
                self._mark_outside(column, _FIRST, _bounded(now_ms + rule["high"]), (0.0, 0.0), tail)
            case "behind":
                self._mark_outside(column, _bounded(now_ms - rule["low"]), _LAST, (0.0, 0.0), tail)
            case "required":
                if column.validity is not None:
                    self._each("mark_nulls", rows, column.validity, *tail)
            case "allowed":
                self._mark_refused(column, rule["values"], tail)

    def _mark_outside(
        self, column: Lane, low: int, high: int, floats: tuple[float, float], tail: tuple[Any, ...]
    ) -> None:
        bounds = (np.int64(low), np.int64(high), *map(np.float64, floats))
        width = np.uint32(_WIDTHS[column.values.dtype])
        self._each("mark_outside", int(tail[0]), column.values, column.validity, width, *bounds, *tail)

    def _mark_refused(self, column: Lane, values: Sequence[str], tail: tuple[Any, ...]) -> None:
        rows = int(tail[0])
        if column.offsets is None:
            known = column.dictionary
            texts = known if isinstance(known, pa.Array) else pa.record_batch(known.to_batch()).column(0)
            allowed = pc.is_in(texts, value_set=pa.array(values, pa.utf8()))
            refused = self.launcher.to_device(np.asarray(pc.invert(allowed)).astype(np.uint8))
            self._each("mark_refused", rows, column.values, column.validity, refused, *tail)
            return
        encoded = [value.encode() for value in values]
        ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
        texts = np.frombuffer(b"".join(encoded) + b"\0", np.uint8)
        allowed = (self.launcher.to_device(ends), self.launcher.to_device(texts), np.uint32(len(encoded)))
        given = (column.offsets, column.values, column.validity, *allowed)
        self._each("mark_strangers", rows, *given, *tail)

    def _column(self, columns: Mapping[str, Lane], name: str) -> Lane:
        if name not in columns:
            raise SchemaError(f'clean names column "{name}", which the batch does not have')
        return columns[name]

    # ---- amounts

    def add_amounts(self, batch: DeviceRows, quantity: str, unit_price: str, discount: str) -> Any:
        """Add ``gross_amount`` and ``amount``; returns flags of the rows whose amount overflows."""
        rows = batch.rows
        overflowed = self._xp.zeros(rows, np.uint8)
        for name, rebate in (("gross_amount", ""), ("amount", discount)):
            names = (quantity, unit_price, rebate) if rebate in batch.columns else (quantity, unit_price)
            lanes = [(self._column(batch.columns, each), batch.types[each]) for each in names]
            places = [_PLACES if kind == "decimal" else 0 for _, kind in lanes]
            given = [(lane.values, lane.validity, np.uint32(_WIDTHS[lane.values.dtype])) for lane, _ in lanes]
            given += [(None, None, np.uint32(0))] * (3 - len(given))
            scale = (
                np.uint64(10 ** (places[2] if len(places) == 3 else 0)),
                np.uint64(10 ** max(sum(places) - _PLACES, 0)),
                np.uint64(10 ** max(_PLACES - sum(places), 0)),
            )
            amounts = self._xp.empty(rows, np.int64)
            bits = self._xp.empty((rows + 7) // 8, np.uint8)
            flat = [each for three in given for each in three]
            out = (np.uint32(rows), amounts, bits, overflowed)
            self._each("add_amounts", (rows + 7) // 8, *flat, *scale, *out)
            batch.add(name, "decimal", Lane(amounts, bits))
        return overflowed

    # ---- the watermark

    def _meet(self, times_ms: Any, source: str, partition: int) -> tuple[Any, int]:
        """Return the watermark that each row met; move it past them all."""
        xp, count = self._xp, int(times_ms.size)
        met_ms = xp.empty(count, np.int64)
        if count == 0:
            return met_ms, 0
        slot = self._watermark.slot(source, partition)
        state = self._watermark.snapshot()
        mine = state["partitions"].pop(slot)
        others_ms = min(
            (each["max_event_time_ms"] for each in state["partitions"] if not each["idle"]), default=_LAST
        )
        tiles = -(-count // TILE)
        maxima = xp.empty(tiles + 1, np.int64)
        self._launch("tile_maxima", tiles, times_ms, np.uint32(count), maxima)
        newest_ms = np.int64(mine["max_event_time_ms"])
        self._launch("scan_maxima", 1, maxima, np.uint32(tiles), newest_ms)
        before = (np.int64(others_ms), np.int64(state["value_ms"]), np.int64(self._max_disorder_ms))
        self._launch("meet_watermark", tiles, times_ms, np.uint32(count), maxima, *before, met_ms)

        newest = int(maxima[tiles])
        lagged = max(min(newest, others_ms), _FIRST + self._max_disorder_ms) - self._max_disorder_ms
        mine |= {"max_event_time_ms": newest, "idle": False}
        state["partitions"].insert(slot, mine)
        state["max_event_time_ms"] = max(state["max_event_time_ms"], newest)
        state["value_ms"] = max(state["value_ms"], lagged)
        self._watermark.restore(state)
        return met_ms, slot

    def _each(self, kernel: str, rows: int, *arguments: Any) -> None:
        self._launch(kernel, blocks_for(rows, THREADS), *arguments)

    def _launch(self, kernel: str, blocks: int, *arguments: Any) -> None:
        self.launcher.launch("clean", kernel, blocks, THREADS, *arguments)


def _bounded(time_ms: int) -> int:
    return min(max(time_ms, _FIRST), _LAST)
