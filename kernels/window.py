"""window on the device: the driver of ``window.cu``, with the face of ``_core.Window``.

Groups and their sums live on the device for as long as their window is open. What closes comes back as exact
integers; a window of the host, which is otherwise empty, takes them as it would take a checkpoint, sorts
them and turns them into results. So an emitted float is the CPU's to the last bit: its long double has no
counterpart on a GPU. The rows of a snapshot come in the CPU's order, too, for both number groups by first
appearance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.errors import DeviceError, SchemaError, StateError
from omnistream.kernels.columns import CleanRows, upload
from omnistream.kernels.encode import DeviceDictionary, add_texts
from omnistream.kernels.launch import Launcher
from omnistream.kernels.memory import in_parts, too_short
from omnistream.kernels.numbering import Stage
from omnistream.kernels.window_parts import (
    batch_of,
    distinct_part,
    groups_part,
    pairs_of,
    starts_of,
    words_of,
)
from omnistream.kernels.window_program import (
    LANES,
    LEAST,
    MOST,
    Accumulator,
    KeyField,
    Program,
    closing_spec,
    refusal,
)
from omnistream.kernels.window_sums import Sums
from omnistream.kernels.window_table import KeyTable

__all__ = ["DeviceWindow", "refusal"]

MOST_GROUPS = 2**31 - 1
# A dictionary of plain text is rebuilt once it holds this many strings, and twice what is still in use.
_TEXTS_TO_REBUILD = 1 << 16


@dataclass
class _Codes:
    """One numbering for a dictionary column whose batches may bring different dictionaries."""

    home: _core.Dictionary = field(default_factory=_core.Dictionary)
    met: Any = None
    codes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    translation: Any = None

    def meet(self, launcher: Launcher, dictionary: Any) -> None:
        """Take over the strings of a batch's dictionary: a ``_core.Dictionary`` or an Arrow array."""
        known = len(self.codes)
        if isinstance(dictionary, _core.Dictionary):
            if dictionary is not self.met:
                known = 0
            added = pa.record_batch(dictionary.to_batch(known)).column(0)
        else:
            if not isinstance(self.met, pa.Array) or not dictionary[:known].equals(self.met):
                known = 0
            added = dictionary[known:]
        if len(added) == 0 and known:
            self.met = dictionary
            return
        codes = np.concatenate([self.codes[:known], add_texts(self.home, added)])
        same = np.array_equal(codes, np.arange(codes.size))
        self.translation = None if same else launcher.to_device(codes)
        self.met, self.codes = dictionary, codes


@dataclass
class _Distinct:
    """The distinct values of one column: a table of (group, value) pairs."""

    accumulator: Accumulator
    type: str
    pairs: KeyTable


class DeviceWindow:
    """A tumbling window whose groups live on a device.

    Parameters
    ----------
    launcher : Launcher
        The device.
    spec : dict
        What `_core.Window` takes.

    Raises
    ------
    SchemaError
        When such a window cannot be computed, on the host neither.
    ValueError
        When it has no kernel; `refusal` says so beforehand.
    """

    def __init__(self, launcher: Launcher, spec: dict[str, Any]) -> None:
        why = refusal(spec)
        if why is not None:
            raise ValueError(f"window {spec['name']!r}: {why}")
        self._launcher, self._xp = launcher, launcher.xp
        self._stage = Stage(launcher, "window")
        self._host = _core.Window(spec)
        self._empty = _parts(self._host)
        self._closing = _core.Window(closing_spec(spec))
        self._nothing_closes = _parts(self._closing)
        self._program = Program(spec)
        theirs = self._empty["groups"].schema.names[2 + len(self._program.fields) :]
        assert theirs == self._program.sum_names, "the words of a group are not those of the host"
        self._clear()

    def _clear(self) -> None:
        program = self._program
        self.aggregated = 0
        self.late = 0
        self._failed: str | None = None
        self._closed_ms = LEAST
        # Of owners whose windows are closed further; ALL_OWNERS: the rest.
        self._floors_ms: dict[int, int] = {}
        self._least_start: int | None = None  # among the groups
        self._groups = KeyTable(self._stage, program.key_words, program.stride)
        self._sums = Sums(self._stage, program, self._groups)
        self._distinct = [
            _Distinct(each, program.types[each.column], KeyTable(self._stage, 2, 2))
            for each in program.accumulators
            if each.add == "distinct"
        ]
        self._codes = {name: _Codes() for name in program.coded_columns()}
        self._texts = {name: DeviceDictionary(self._launcher) for name in program.text_columns()}

    # ---- push: place, look up, add

    def push(self, batch: _core.CleanBatch | CleanRows) -> list[int]:
        """Aggregate rows; return the row numbers of those that came late.

        Raises
        ------
        SchemaError
            When the batch lacks a column, or a row has no time.
        StateError
            When a sum overflows; the window is of no use any more until `restore`.
        DeviceError
            When memory is short though the rows were taken in the smallest parts; likewise.
        """
        self._check()
        if not isinstance(batch, CleanRows):
            batch = self._upload(batch)
        if batch.count == 0:
            return []
        self._check_times(batch)
        what = f"window '{self._program.name}', {self._groups.count} groups"
        try:
            parts = [*in_parts(self._launcher.pool, what, batch, self._push, self._halves)]
        except DeviceError as error:
            self._failed = str(error)  # a part may be in
            raise
        return [row for late in parts for row in late]

    def _upload(self, batch: _core.CleanBatch) -> CleanRows:
        try:
            return upload(self._launcher, batch, self._program.columns_used(), self._program.types)
        except MemoryError:
            what = f"window '{self._program.name}'"
        self._launcher.pool.give_back()
        raise too_short(self._launcher.pool, what)

    def _halves(self, batch: CleanRows) -> tuple[CleanRows, CleanRows] | None:
        if batch.count < 2:
            return None
        half = batch.count // 2
        rows = self._xp.arange(batch.count, dtype=np.uint32) if batch.rows is None else batch.rows
        first = replace(batch, count=half, rows=rows[:half], watermarks_ms=batch.watermarks_ms[:half])
        rest = batch.count - half
        return first, replace(batch, count=rest, rows=rows[half:], watermarks_ms=batch.watermarks_ms[half:])

    def _push(self, batch: CleanRows) -> list[int]:
        """Aggregate rows. Where memory is short nothing has been added up, and it may be tried again."""
        for name, codes in self._codes.items():
            codes.meet(self._launcher, batch.columns[name].dictionary)
        by_place = {
            name: texts.encode_text(
                batch.columns[name].values,
                batch.columns[name].offsets,
                batch.columns[name].validity,
                batch.rows,
                batch.count,
            )
            for name, texts in self._texts.items()
        }
        keys, in_time, late, least = self._place(batch)
        late_rows: list[int] = []
        if late:
            places = self._stage.select(in_time == 0)
            rows = places if batch.rows is None else batch.rows[places]
            late_rows = [int(row) for row in self._launcher.to_host(rows)]
        for each in self._program.fields:
            self._pack(each, batch, by_place, keys)
        weights = self._weigh(batch, in_time, late)
        groups = self._number(keys, in_time, batch)
        if late < batch.count:
            self._meet_start(least)
        self._add(batch, by_place, groups, weights)
        self.aggregated += batch.count - late
        self.late += late
        return late_rows

    def _check(self) -> None:
        if self._failed is not None:
            raise StateError(self._failed)

    def _check_times(self, batch: CleanRows) -> None:
        name = self._program.time_column
        validity = batch.columns[name].validity
        if validity is None:
            return
        valid = np.unpackbits(self._launcher.to_host(validity), bitorder="little")
        rows = np.arange(batch.count) if batch.rows is None else self._launcher.to_host(batch.rows)
        null = rows[valid[rows] == 0]
        if null.size:
            raise SchemaError(
                f"window '{self._program.name}': '{name}' of row {null[0]} is null; make the column required"
            )

    def _place(self, batch: CleanRows) -> tuple[Any, Any, int, int]:
        """Return keys with starts alone, which rows are in time, how many are not, and the least start."""
        stage, count = self._stage, batch.count
        keys = self._xp.zeros(count * self._program.key_words, np.uint64)
        in_time = self._xp.empty(count, np.int8)
        tally = self._launcher.to_device(np.array([0, 2**64 - 1], np.uint64))
        stage.each(
            "place_rows",
            count,
            batch.columns[self._program.time_column].values,
            batch.rows,
            batch.watermarks_ms,
            np.uint32(count),
            np.int64(self._closed_ms_of(batch.owner)),
            np.int64(self._program.offset_ms),
            np.int64(self._program.size_ms),
            np.int64(self._program.lateness_ms),
            np.uint32(self._program.key_words),
            keys,
            in_time,
            tally,
        )
        late, least = (int(word) for word in self._launcher.to_host(tally))
        return keys, in_time, late, least

    def _meet_start(self, turned: int) -> None:
        start = turned - 2**63
        self._least_start = start if self._least_start is None else min(self._least_start, start)

    def _pack(self, each: KeyField, batch: CleanRows, by_place: Mapping[str, Any], keys: Any) -> None:
        column = batch.columns[each.column]
        plain = each.column in by_place
        # Codes of plain text stand by place; whether there is one still stands by row.
        values = self._spread(by_place[each.column], batch) if plain else column.values
        self._stage.each(
            "pack_field",
            batch.count,
            values,
            column.validity,
            self._translation(each.column),
            batch.rows,
            np.uint32(LANES[each.type]),
            np.uint32(batch.count),
            np.uint32(self._program.key_words),
            np.uint32(each.word),
            np.uint32(each.shift),
            np.uint32(each.value_word),
            keys,
        )

    def _spread(self, by_place: Any, batch: CleanRows) -> Any:
        """Return lanes by row of what stands by place."""
        if batch.rows is None:
            return by_place
        lanes = self._xp.zeros(batch.table_rows, by_place.dtype)
        lanes[batch.rows] = by_place
        return lanes

    def _translation(self, name: str) -> Any:
        codes = self._codes.get(name)
        return None if codes is None else codes.translation

    def _closed_ms_of(self, owner: int) -> int:
        floor_ms = self._floors_ms.get(owner, self._floors_ms.get(_core.ALL_OWNERS, LEAST))
        return max(self._closed_ms, floor_ms)

    def _number(self, keys: Any, in_time: Any, batch: CleanRows) -> Any:
        """Return the group of each row; new groups get the next rows, and belong to the batch's owner."""
        if self._groups.count + batch.count > MOST_GROUPS:
            raise StateError(f"window '{self._program.name}' has more groups than a table can number")
        fresh = self._launcher.to_device(np.array([batch.owner, *self._program.fresh], np.uint64))
        return self._groups.numbers(self._groups.find(keys, in_time, fresh))

    # ---- weights

    def _weigh(self, batch: CleanRows, in_time: Any, late: int) -> dict[str, Any]:
        """Return the weights of each accumulator's rows, shared where they are the same."""
        weights: dict[str, Any] = {}
        for each in self._program.accumulators:
            key = each.weighing
            if key in weights:
                continue
            validity = batch.columns[each.column].validity if each.column else None
            if validity is None and not each.condition:
                weights[key] = in_time
                continue
            condition = batch.columns[each.condition["column"]] if each.condition else None
            out = self._xp.empty(batch.count, np.int8)
            self._stage.each(
                "weigh_rows",
                batch.count,
                in_time,
                validity,
                batch.rows,
                None if condition is None else condition.values,
                None if condition is None else condition.validity,
                None if condition is None else self._translation(each.condition["column"]),
                batch.rows,
                None if condition is None else self._by_code(each.condition),
                np.uint32(batch.count),
                out,
            )
            weights[key] = out
        return weights

    def _by_code(self, condition: Mapping[str, Any]) -> Any:
        """Return the weight of each code of the condition's column."""
        home = self._codes[condition["column"]].home
        values = pa.record_batch(home.to_batch()).column(0)
        weights = np.zeros(len(values) + 1, np.int8)
        for texts, sign in ((condition["plus"], 1), (condition["minus"], -1)):
            for text in set(texts):
                code = values.index(text).as_py()
                if code >= 0:
                    weights[code] += sign
        return self._launcher.to_device(weights)

    # ---- accumulators

    def _add(
        self, batch: CleanRows, by_place: Mapping[str, Any], groups: Any, weights: Mapping[str, Any]
    ) -> None:
        # All that needs memory comes first; the same values once more change nothing in a set.
        for distinct in self._distinct:
            taken = weights[distinct.accumulator.weighing]
            self._add_distinct(distinct, batch, by_place, groups, taken)
        try:
            self._sums.add(batch, groups, weights)
        except StateError as error:
            self._failed = str(error)
            raise

    def _add_distinct(
        self, distinct: _Distinct, batch: CleanRows, by_place: Mapping[str, Any], groups: Any, taken: Any
    ) -> None:
        stage, count, pairs = self._stage, batch.count, distinct.pairs
        column = distinct.accumulator.column
        plain = by_place.get(column)
        keys = self._xp.empty(2 * count, np.uint64)
        stage.each(
            "pack_pairs",
            count,
            batch.columns[column].values if plain is None else plain,
            self._translation(column),
            batch.rows if plain is None else None,
            np.uint32(LANES[distinct.type]),
            groups,
            taken,
            np.uint32(count),
            keys,
        )
        known = pairs.count
        pairs.find(keys, taken)
        if pairs.count > known:
            stage.each(
                "count_pairs",
                pairs.count - known,
                pairs.rows,
                np.uint32(known),
                np.uint32(pairs.count),
                self._groups.rows,
                np.uint32(self._program.stride),
                np.uint32(distinct.accumulator.word),
            )

    # ---- advance: what is final leaves the device

    def advance(self, watermark_ms: int) -> list[_core.Batch]:
        """Close what the watermark has made final; return a batch for each window, by start.

        Raises
        ------
        DeviceError
            When memory is short; nothing has been closed.
        """
        last_start = self._move_on(watermark_ms)
        if last_start is None:
            return []
        words, _ = self._take_final(last_start)
        by_window = words[np.argsort(starts_of(words), kind="stable")]
        schema = self._nothing_closes["groups"].schema
        groups = groups_part(self._program, by_window, self._home, schema)
        self._closing.restore({**self._nothing_closes, "groups": groups})
        closed = self._closing.advance(self._closed_ms)
        self._closing.restore(self._nothing_closes)
        self._forget_texts()
        return closed

    def take_final(self, watermark_ms: int) -> dict[str, Any] | None:
        """Remove what the watermark has made final; return it as `snapshot` does, or None for nothing.

        For a key that has groups on other devices, too: `kernels.spread`.
        """
        last_start = self._move_on(watermark_ms)
        if last_start is None:
            return None
        words, values = self._take_final(last_start, values=True)
        parts = {**self._empty, **self._group_parts(words, values)}
        self._forget_texts()
        return parts

    def _move_on(self, watermark_ms: int) -> int | None:
        """Take in the watermark; return the start of the last window to close, or None."""
        self._check()
        self._closed_ms = max(self._closed_ms, watermark_ms)
        if max(self._floors_ms.values(), default=MOST) <= self._closed_ms:
            self._floors_ms = {}
        last_start = self._program.last_final_start(self._closed_ms)
        if self._least_start is None or last_start is None or self._least_start > last_start:
            return None
        return last_start

    def _take_final(self, last_start: int, values: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the words of the groups that are final, and their distinct values; keep the others."""
        stage, groups = self._stage, self._groups.count
        try:
            closing = self._xp.empty(groups, np.uint8)
            stage.each(
                "mark_closing",
                groups,
                self._groups.rows,
                np.uint32(self._program.stride),
                np.uint32(groups),
                np.int64(last_start),
                closing,
            )
            final = stage.select(closing)
            words = self._groups.gather_to_host(final)
            taken: list[np.ndarray] = []
            if values:
                renumbered = self._renumbered(final)
                to_host = self._launcher.to_host
                taken = [to_host(self._moved(each.pairs, closing, 1, renumbered)) for each in self._distinct]
            self._keep(closing)
        except MemoryError:
            what = f"window '{self._program.name}', {groups} groups, closing some"
        else:
            return words, taken
        self._launcher.pool.give_back()
        raise too_short(self._launcher.pool, what)

    def _keep(self, closing: Any) -> None:
        """Move together what does not close; where memory is short nothing has moved."""
        staying = self._stage.select(closing == 0)
        renumbered = self._renumbered(staying)
        groups = self._groups.gather(staying)
        least = self._launcher.to_device(np.array([2**64 - 1], np.uint64))
        pairs = [self._moved(each.pairs, closing, 0, renumbered) for each in self._distinct]
        self._groups.keep(groups)
        for each, kept in zip(self._distinct, pairs, strict=True):
            each.pairs.keep(kept)
        self._least_start = None
        count = self._groups.count
        if count:
            stride = np.uint32(self._program.stride)
            self._stage.each("least_start", count, self._groups.rows, stride, np.uint32(count), least)
            self._meet_start(int(self._launcher.to_host(least)[0]))

    def _renumbered(self, groups: Any) -> Any:
        """Return by group its place among some groups."""
        renumbered = self._xp.zeros(self._groups.count, np.uint32)
        count = int(groups.size)
        if count:
            self._stage.each("renumber", count, groups, np.uint32(count), renumbered)
        return renumbered

    def _moved(self, pairs: KeyTable, closing: Any, flag: int, renumbered: Any) -> Any:
        """Return the pairs of the groups that have this flag, with the new numbers of their groups."""
        stage = self._stage
        flags = self._xp.empty(pairs.count, np.uint8)
        if pairs.count:
            stage.each("mark_pairs", pairs.count, pairs.rows, np.uint32(pairs.count), closing, flags)
        words = pairs.gather(stage.select(flags == flag))
        count = int(words.size) // 2
        if count:
            stage.each("move_pairs", count, words, np.uint32(count), renumbered)
        return words

    def _forget_texts(self) -> None:
        """Start the dictionaries of plain text anew when most of their strings went with their windows."""
        in_use = self._groups.count + sum(each.pairs.count for each in self._distinct)
        if any(len(texts) > max(_TEXTS_TO_REBUILD, 2 * in_use) for texts in self._texts.values()):
            self.restore(self.snapshot())

    # ---- the state as parts, as the host writes and reads it

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, Any]:
        """Return the state, of all owners or of one, in the parts and columns of `_core.Window.snapshot`."""
        self._check()
        if owner != _core.ALL_OWNERS:
            self._host.restore(self.snapshot())
            parts = _parts(self._host, owner)
            self._host.restore(self._empty)
            return parts
        counts = [[self.aggregated], [self.late], [self._closed_ms]]
        owners = [list(column) for column in zip(*sorted(self._floors_ms.items()), strict=True)]
        values = [each.pairs.to_host() for each in self._distinct]
        return {
            "spec": self._empty["spec"],
            "counts": batch_of(counts, self._empty["counts"].schema),
            "owners": batch_of(owners or [[], []], self._empty["owners"].schema),
            **self._group_parts(self._groups.to_host(), values),
        }

    def _group_parts(self, words: np.ndarray, values: list[np.ndarray]) -> dict[str, pa.RecordBatch]:
        """Return groups, window by window, and their distinct values."""
        starts = starts_of(words)
        order = np.argsort(starts, kind="stable")
        distinct = [
            (each.accumulator.name, each.accumulator.column, each.type, pairs.reshape(-1, 2))
            for each, pairs in zip(self._distinct, values, strict=True)
        ]
        schemas = {name: self._empty[name].schema for name in ("groups", "distinct")}
        return {
            "groups": groups_part(self._program, words[order], self._home, schemas["groups"]),
            "distinct": distinct_part(distinct, starts, order, self._home, schemas["distinct"]),
        }

    def _home(self, column: str) -> pa.Array:
        """Return the strings of a column, by code."""
        return pa.record_batch(self._dictionary_of(column).to_batch()).column(0)

    def _dictionary_of(self, column: str) -> _core.Dictionary:
        return self._texts[column].host if column in self._texts else self._codes[column].home

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Take back a snapshot of this window, taken here or on the host.

        Raises
        ------
        StateError
            When it is of another window, or damaged: the message says what differs.
        """
        self._host.restore(dict(parts))  # refuses what does not fit, and adds what new measures begin with
        parts = self._host.snapshot()
        self._host.restore(self._empty)
        read = {name: pa.record_batch(parts[name]) for name in ("counts", "owners", "groups", "distinct")}
        self._clear()
        counts, owners, groups = read["counts"], read["owners"], read["groups"]
        self._floors_ms = dict(zip(*(column.to_pylist() for column in owners.columns), strict=True))
        self.aggregated, self.late, self._closed_ms = (
            counts.column(name)[0].as_py() for name in ("aggregated", "late", "watermark_ms")
        )
        words = words_of(self._program, groups, self._restored_codes)
        self._groups.restore(words)
        if self._groups.count:
            self._least_start = int(starts_of(words).min())
        self._sums.lose_bounds()
        for each in self._distinct:
            accumulator = each.accumulator
            each.pairs.restore(
                pairs_of(
                    accumulator.name, accumulator.column, each.type, read["distinct"], self._restored_codes
                )
            )

    def _restored_codes(self, column: str, values: pa.Array) -> np.ndarray:
        """Return the codes of strings of a snapshot, which the column's dictionary takes in; 0 for null."""
        known = values.is_valid()
        codes = np.zeros(len(values), np.int32)
        codes[np.asarray(known)] = add_texts(self._dictionary_of(column), values.filter(known))
        return codes

    def drop(self, owner: int) -> None:
        """Remove the groups of one owner; on the host, for this is as rare as a partition that moves."""
        self._host.restore(self.snapshot())
        self._host.drop(owner)
        self.restore(_parts(self._host))

    def take(self, parts: Mapping[str, Any], from_owner: int, to: int) -> None:
        """Add the groups that `from_owner` had in a snapshot, as `to`'s; on the host, as `drop`."""
        self._host.restore(self.snapshot())
        self._host.take(dict(parts), from_owner, to)
        self.restore(_parts(self._host))

    # ---- what it holds

    @property
    def groups(self) -> int:
        """Keys held in open windows."""
        return self._groups.count

    @property
    def open_windows(self) -> int:
        """Windows that are not final yet."""
        starts = self._launcher.to_host(self._groups.used[:: self._program.stride])
        return int(np.unique(starts).size)

    @property
    def memory_bytes(self) -> int:
        """Memory on the device."""
        return (
            self._groups.memory_bytes
            + sum(each.pairs.memory_bytes for each in self._distinct)
            + sum(texts.memory_bytes for texts in self._texts.values())
        )

    def empty_result(self) -> _core.Batch:
        """Return the columns of a closed window, with no rows."""
        return self._host.empty_result()

    def columns_used(self) -> list[str]:
        """Return the columns that a push reads."""
        return self._program.columns_used()


def _parts(window: _core.Window, owner: int = _core.ALL_OWNERS) -> dict[str, Any]:
    return {name: pa.record_batch(part) for name, part in window.snapshot(owner).items()}
