"""window on the device: the driver of ``window.cu``, with the face of ``_core.Window``.

Groups and their sums live on the device for as long as their window is open. What closes comes back as exact
integers; a window of the host, which is otherwise empty, takes them as it would take a checkpoint, sorts
them and turns them into results. So an emitted float is the CPU's to the last bit: its long double has no
counterpart on a GPU. The rows of a snapshot come in the CPU's order, too, for both number groups by first
appearance.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
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
from omnistream.kernels.numbering import Numbering, Stage

LEAST, MOST = -(2**63), 2**63 - 1
MOST_GROUPS = 2**31 - 1
MOST_SIZE_MS = 2**61
_TILE, _PLACES = 2048, 1024  # kTile and kPlaces of window.cu
_GATHERED = 1 << 20  # groups that come to the host at once
_ORDERED_BLOCKS = 4  # of the kernel that adds row after row
_SIGN32, _SIGN64 = np.uint64(2**31), np.uint64(2**63)
_LANES = {
    "dictionary": 0,
    "string": 0,
    "int32": 1,
    "bool": 2,
    "int64": 3,
    "decimal": 3,
    "timestamp": 3,
    "float64": 4,
}
_FIELD_BITS = {"bool": 2, "int32": 33, "string": 31, "dictionary": 31}
_WIDE = ("int64", "decimal", "timestamp")
_TEXT = ("string", "dictionary")
_KERNELS = {
    "count": "add_counts",
    "sum": "add_sums",
    "squares": "add_squares",
    "min": "add_mins",
    "max": "add_maxs",
}
_FRESH = {"min": MOST, "max": LEAST + 2**64}
_NEEDS = {  # the accumulators of an operation, in the order in which the CPU makes them
    "count": ("count",),
    "sum": ("sum",),
    "distinct": ("distinct",),
    "mean": ("sum", "count"),
    "std": ("squares", "sum", "count"),
    "variance": ("squares", "sum", "count"),
}
# A dictionary of plain text is rebuilt once it holds this many strings, and twice what is still in use.
_TEXTS_TO_REBUILD = 1 << 16


def refusal(spec: Mapping[str, Any]) -> str | None:
    """Return why a window has no kernels (``hopping windows have no kernel``), or None.

    Parameters
    ----------
    spec : mapping
        What `_core.Window` takes.
    """
    kind = spec.get("kind", "tumbling")
    if kind != "tumbling":
        return f"{kind} windows have no kernel"
    if spec.get("early_ms"):
        return "early results have no kernel"
    if spec.get("original_time"):
        return "corrections of the original sale have no kernel"
    if spec["size_ms"] > MOST_SIZE_MS:
        return "its size is beyond what the kernel reckons with"
    known = {*_NEEDS, "min", "max"}
    for measure in spec["measures"]:
        if measure["op"] not in known:
            return f"{measure['op']} has no kernel"
    return None


@dataclass
class _Accumulator:
    """One or two words of a group."""

    name: str
    measure: str  # the first that needs it
    add: str
    column: str
    condition: Mapping[str, Any]
    word: int
    bound: int = 0  # no sum or square of any group is larger than this


@dataclass
class _Field:
    """Where a key lies in the words of a group: as `_core`'s key layout, behind the start of the window."""

    column: str
    type: str
    word: int
    shift: int
    value_word: int  # 0: none

    @property
    def mask(self) -> np.uint64:
        return np.uint64((1 << _FIELD_BITS.get(self.type, 1)) - 1)


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
class _Pairs:
    """The distinct values of one column: (group, value) pairs."""

    accumulator: _Accumulator
    type: str
    words: Any
    table: Numbering | None = None
    count: int = 0


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
        self._launcher, self._xp, self._spec = launcher, launcher.xp, spec
        self._stage = Stage(launcher, "window")
        self._host = _core.Window(spec)
        self._empty = _parts(self._host)
        self._closing = _core.Window(_closing(spec))
        self._nothing_closes = _parts(self._closing)
        self._types: dict[str, str] = spec["types"]
        self._size_ms: int = spec["size_ms"]
        self._offset_ms: int = spec.get("offset_ms", 0) % self._size_ms
        self._lateness_ms: int = spec.get("allowed_lateness_ms", 0)
        self._fields, self._words = _key_layout([(name, self._types[name]) for name in spec["keys"]])
        # A group is the words of its key, its owner, and its accumulators.
        self._accumulators = _accumulators(spec, self._words + 1)
        self._fresh = [
            word
            for each in self._accumulators
            for word in ([_FRESH.get(each.add, 0)] if each.add != "squares" else [0, 0])
        ]
        self._stride = self._words + 1 + len(self._fresh)
        ours = [
            name
            for each in self._accumulators
            for name in ([each.name] if each.add != "squares" else [each.name, f"{each.name} high"])
        ]
        theirs = self._empty["groups"].schema.names[2 + len(self._fields) :]
        assert theirs == ours, "the words of a group are not those of the host"
        self._clear()

    def _clear(self) -> None:
        self.aggregated = 0
        self.late = 0
        self._failed: str | None = None
        self._closed_ms = LEAST
        self._floors_ms: dict[
            int, int
        ] = {}  # of owners whose windows are closed further; ALL_OWNERS: the rest
        self._least_start: int | None = None  # among the groups
        self._groups = 0
        self._rows = self._xp.empty(0, np.uint64)
        self._table = Numbering(self._stage, self._insert_groups)
        self._codes = {name: _Codes() for name in self.columns_used() if self._types[name] == "dictionary"}
        self._texts = {
            name: DeviceDictionary(self._launcher)
            for name in self.columns_used()
            if self._types[name] == "string" and self._is_keyed(name)
        }
        self._pairs = []
        for each in self._accumulators:
            each.bound = 0
            if each.add == "distinct":
                pairs = _Pairs(each, self._types[each.column], self._xp.empty(0, np.uint64))
                pairs.table = Numbering(self._stage, functools.partial(self._insert_pairs, pairs))
                self._pairs.append(pairs)

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
        what = f"window '{self._spec['name']}', {self._groups} groups"
        try:
            parts = [*in_parts(self._launcher.pool, what, batch, self._push, self._halves)]
        except DeviceError as error:
            self._failed = str(error)  # a part may be in
            raise
        return [row for late in parts for row in late]

    def _upload(self, batch: _core.CleanBatch) -> CleanRows:
        try:
            return upload(self._launcher, batch, self.columns_used(), self._types)
        except MemoryError:
            what = f"window '{self._spec['name']}'"
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
        for each in self._fields:
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
        name = self._spec["time_column"]
        validity = batch.columns[name].validity
        if validity is None:
            return
        valid = np.unpackbits(self._launcher.to_host(validity), bitorder="little")
        rows = np.arange(batch.count) if batch.rows is None else self._launcher.to_host(batch.rows)
        null = rows[valid[rows] == 0]
        if null.size:
            raise SchemaError(
                f"window '{self._spec['name']}': '{name}' of row {null[0]} is null; make the column required"
            )

    def _place(self, batch: CleanRows) -> tuple[Any, Any, int, int]:
        """Return keys with starts alone, which rows are in time, how many are not, and the least start."""
        stage, count = self._stage, batch.count
        keys = self._xp.zeros(count * self._words, np.uint64)
        in_time = self._xp.empty(count, np.int8)
        tally = self._launcher.to_device(np.array([0, 2**64 - 1], np.uint64))
        stage.each(
            "place_rows",
            count,
            batch.columns[self._spec["time_column"]].values,
            batch.rows,
            batch.watermarks_ms,
            np.uint32(count),
            np.int64(self._closed_ms_of(batch.owner)),
            np.int64(self._offset_ms),
            np.int64(self._size_ms),
            np.int64(self._lateness_ms),
            np.uint32(self._words),
            keys,
            in_time,
            tally,
        )
        late, least = (int(word) for word in self._launcher.to_host(tally))
        return keys, in_time, late, least

    def _meet_start(self, turned: int) -> None:
        start = turned - 2**63
        self._least_start = start if self._least_start is None else min(self._least_start, start)

    def _pack(self, each: _Field, batch: CleanRows, by_place: Mapping[str, Any], keys: Any) -> None:
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
            np.uint32(_LANES[each.type]),
            np.uint32(batch.count),
            np.uint32(self._words),
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
        table, count = self._table, batch.count
        if self._groups + count > MOST_GROUPS:
            raise StateError(f"window '{self._spec['name']}' has more groups than a table can number")
        table.reserve(self._groups + count)
        try:
            return self._find_groups(keys, in_time, batch)
        except MemoryError:
            table.forget()  # or keys of these rows would stand in it for good
            raise

    def _find_groups(self, keys: Any, in_time: Any, batch: CleanRows) -> Any:
        table, count, words, stage = self._table, batch.count, self._words, self._stage
        slot_of = self._xp.empty(count, np.uint32)
        stage.each(
            "probe_keys",
            count,
            keys,
            np.uint32(count),
            np.uint32(words),
            in_time,
            self._rows,
            np.uint32(self._stride),
            table.slots,
            table.mask,
            slot_of,
        )
        firsts = table.firsts(slot_of)
        added = int(firsts.size)
        if added:
            used = self._groups * self._stride
            self._rows = stage.grown(self._rows, used, used + added * self._stride)
            fresh = self._launcher.to_device(np.array([batch.owner, *self._fresh], np.uint64))
            stage.each(
                "append_keys",
                added,
                firsts,
                np.uint32(added),
                np.uint32(self._groups),
                keys,
                np.uint32(words),
                fresh,
                np.uint32(self._stride),
                self._rows,
            )
            table.publish(slot_of, firsts, self._groups)
            self._groups += added
        return table.numbers(slot_of)

    # ---- weights

    def _weigh(self, batch: CleanRows, in_time: Any, late: int) -> dict[str, Any]:
        """Return the weights of each accumulator's rows, shared where they are the same."""
        weights: dict[str, Any] = {}
        for each in self._accumulators:
            key = _weighing(each)
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
        for each in self._accumulators:
            if each.add == "distinct":
                self._add_distinct(each, batch, by_place, groups, weights[_weighing(each)])
        stage, count = self._stage, batch.count
        tiles = -(-count // _TILE)
        place_of = self._xp.empty(count, np.uint16)
        tile_groups = self._xp.empty(tiles * _PLACES, np.uint32)
        largest = self._largest(batch, weights)
        overflowed = self._xp.zeros(len(self._accumulators) + 1, np.uint32)
        fits = [
            each.add != "sum" or self._fits(each, count * most)
            for each, most in zip(self._accumulators, largest, strict=False)
        ]
        may_overflow = False
        stage.tiles("find_places", tiles, groups, np.uint32(count), place_of, tile_groups)
        for number, each in enumerate(self._accumulators):
            if each.add == "distinct":
                continue
            taken = weights[_weighing(each)]
            table = (self._rows, np.uint32(self._stride), np.uint32(each.word))
            places = (groups, place_of, tile_groups, np.uint32(count), taken, *table)
            if each.add == "count":
                stage.tiles("add_counts", tiles, *places)
                continue
            lane = (
                batch.columns[each.column].values,
                batch.rows,
                np.uint32(_LANES[self._types[each.column]]),
            )
            flag = overflowed[number : number + 1]
            if not fits[number]:
                may_overflow = True
                stage.tiles(
                    "add_sums_in_order",
                    _ORDERED_BLOCKS,
                    groups,
                    np.uint32(count),
                    taken,
                    *table,
                    *lane,
                    flag,
                )
                each.bound = MOST
            elif each.add == "squares":
                each.bound += count * largest[number] ** 2
                may_overflow = may_overflow or each.bound >= 2**128
                stage.tiles("add_squares", tiles, *places, *lane, flag)
            else:
                stage.tiles(_KERNELS[each.add], tiles, *places, *lane)
        if may_overflow:
            self._check_overflow(self._launcher.to_host(overflowed))

    def _largest(self, batch: CleanRows, weights: Mapping[str, Any]) -> list[int]:
        """Return by accumulator the largest magnitude that it may add."""
        stage = self._stage
        largest = self._xp.zeros(len(self._accumulators) + 1, np.uint64)
        for number, each in enumerate(self._accumulators):
            if each.add in ("sum", "squares"):
                stage.each(
                    "largest_magnitude",
                    batch.count,
                    weights[_weighing(each)],
                    np.uint32(batch.count),
                    batch.columns[each.column].values,
                    batch.rows,
                    np.uint32(_LANES[self._types[each.column]]),
                    largest[number : number + 1],
                )
        return [int(word) for word in self._launcher.to_host(largest)]

    def _fits(self, each: _Accumulator, most_added: int) -> bool:
        """Whether no sum can leave int64 on its way, in whatever order the rows are added."""
        if each.bound + most_added > MOST:
            # The bound has grown by the worst of every batch; what the sums are now is less.
            largest = self._xp.zeros(1, np.uint64)
            self._stage.each(
                "largest_sum",
                self._groups,
                self._rows,
                np.uint32(self._stride),
                np.uint32(each.word),
                np.uint32(self._groups),
                largest,
            )
            each.bound = int(self._launcher.to_host(largest)[0])
        if each.bound + most_added > MOST:
            return False
        each.bound += most_added
        return True

    def _check_overflow(self, overflowed: np.ndarray) -> None:
        for each, flag in zip(self._accumulators, overflowed, strict=False):
            if flag:
                what = (
                    "the sum does not fit 64 bits"
                    if each.add == "sum"
                    else "the sum of squares does not fit 128 bits"
                )
                self._failed = f"window '{self._spec['name']}': measure '{each.measure}' overflows: {what}"
                raise StateError(self._failed)

    def _add_distinct(
        self, each: _Accumulator, batch: CleanRows, by_place: Mapping[str, Any], groups: Any, taken: Any
    ) -> None:
        stage, count = self._stage, batch.count
        pairs = next(pairs for pairs in self._pairs if pairs.accumulator is each)
        assert pairs.table is not None
        plain = by_place.get(each.column)
        keys = self._xp.empty(2 * count, np.uint64)
        stage.each(
            "pack_pairs",
            count,
            batch.columns[each.column].values if plain is None else plain,
            self._translation(each.column),
            batch.rows if plain is None else None,
            np.uint32(_LANES[pairs.type]),
            groups,
            taken,
            np.uint32(count),
            keys,
        )
        pairs.table.reserve(pairs.count + count)
        try:
            self._find_pairs(pairs, keys, taken, count)
        except MemoryError:
            pairs.table.forget()
            raise

    def _find_pairs(self, pairs: _Pairs, keys: Any, taken: Any, count: int) -> None:
        stage = self._stage
        assert pairs.table is not None
        slot_of = self._xp.empty(count, np.uint32)
        two = np.uint32(2)
        stage.each(
            "probe_keys",
            count,
            keys,
            np.uint32(count),
            two,
            taken,
            pairs.words,
            two,
            pairs.table.slots,
            pairs.table.mask,
            slot_of,
        )
        firsts = pairs.table.firsts(slot_of)
        added = int(firsts.size)
        if added == 0:
            return
        pairs.words = stage.grown(pairs.words, 2 * pairs.count, 2 * (pairs.count + added))
        stage.each(
            "append_keys",
            added,
            firsts,
            np.uint32(added),
            np.uint32(pairs.count),
            keys,
            two,
            None,
            two,
            pairs.words,
        )
        pairs.table.publish(slot_of, firsts, pairs.count)
        pairs.count += added
        stage.each(
            "count_pairs",
            added,
            pairs.words,
            np.uint32(pairs.count - added),
            np.uint32(pairs.count),
            self._rows,
            np.uint32(self._stride),
            np.uint32(pairs.accumulator.word),
        )

    def _insert_groups(self, slots: Any, mask: np.uint64) -> None:
        self._insert(self._rows, self._groups, self._words, self._stride, slots, mask)

    def _insert_pairs(self, pairs: _Pairs, slots: Any, mask: np.uint64) -> None:
        self._insert(pairs.words, pairs.count, 2, 2, slots, mask)

    def _insert(self, rows: Any, count: int, words: int, stride: int, slots: Any, mask: np.uint64) -> None:
        if count:
            self._stage.each(
                "insert_keys",
                count,
                rows,
                np.uint32(count),
                np.uint32(words),
                np.uint32(stride),
                slots,
                mask,
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
        groups_part = self._groups_part(words[np.argsort(_starts(words), kind="stable")])
        schema = self._nothing_closes["groups"].schema
        self._closing.restore({**self._nothing_closes, "groups": _batch(groups_part.columns, schema)})
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
        order = np.argsort(_starts(words), kind="stable")
        parts = {
            **self._empty,
            "groups": self._groups_part(words[order]),
            "distinct": self._distinct_part(words, order, values),
        }
        self._forget_texts()
        return parts

    def _move_on(self, watermark_ms: int) -> int | None:
        """Take in the watermark; return the start of the last window to close, or None."""
        self._check()
        self._closed_ms = max(self._closed_ms, watermark_ms)
        if max(self._floors_ms.values(), default=MOST) <= self._closed_ms:
            self._floors_ms = {}
        last_start = self._last_final_start()
        if self._least_start is None or last_start is None or self._least_start > last_start:
            return None
        return last_start

    def _take_final(self, last_start: int, values: bool = False) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the words of the groups that are final, and their distinct values; keep the others."""
        stage, groups, stride = self._stage, self._groups, self._stride
        try:
            closing = self._xp.empty(groups, np.uint8)
            stage.each(
                "mark_closing",
                groups,
                self._rows,
                np.uint32(stride),
                np.uint32(groups),
                np.int64(last_start),
                closing,
            )
            final = stage.select(closing)
            words = self._gather_to_host(final)
            taken: list[np.ndarray] = []
            if values:
                renumbered = self._renumbered(final)
                to_host = self._launcher.to_host
                taken = [to_host(self._pairs_of(each, closing, 1, renumbered)) for each in self._pairs]
            self._keep(closing)
        except MemoryError:
            what = f"window '{self._spec['name']}', {groups} groups, closing some"
        else:
            return words, taken
        self._launcher.pool.give_back()
        raise too_short(self._launcher.pool, what)

    def _gather_to_host(self, rows: Any) -> np.ndarray:
        """Copy groups to the host, piece by piece, so that they need not be on the device twice."""
        pieces = [
            self._launcher.to_host(self._gather(self._rows, self._stride, rows[begin : begin + _GATHERED]))
            for begin in range(0, int(rows.size), _GATHERED)
        ]
        return np.concatenate([np.empty(0, np.uint64), *pieces]).reshape(-1, self._stride)

    def _last_final_start(self) -> int | None:
        """Return the start of the last window that is final, in Python's integers, which do not overflow."""
        if self._closed_ms == MOST:
            return MOST
        past_ms = self._closed_ms - self._lateness_ms - self._offset_ms
        start = (past_ms // self._size_ms - 1) * self._size_ms + self._offset_ms
        # A window that begins before the first int64 is known by that one; see interval_of in window.cuh.
        return start if start >= LEAST else LEAST if start + self._size_ms > LEAST else None

    def _gather(self, table: Any, stride: int, rows: Any) -> Any:
        count = int(rows.size)
        out = self._xp.empty(count * stride, np.uint64)
        if count:
            self._stage.each(
                "gather_rows",
                count * stride,
                table,
                np.uint32(stride),
                rows,
                np.uint32(count),
                out,
            )
        return out

    def _keep(self, closing: Any) -> None:
        """Move together what does not close; where memory is short nothing has moved."""
        stage, stride = self._stage, self._stride
        staying = stage.select(closing == 0)
        count = int(staying.size)
        renumbered = self._renumbered(staying)
        rows = self._gather(self._rows, stride, staying)
        least = self._launcher.to_device(np.array([2**64 - 1], np.uint64))
        words = [self._pairs_of(pairs, closing, 0, renumbered) for pairs in self._pairs]
        self._rows, self._groups, self._least_start = rows, count, None
        self._table.shrink(count)
        for pairs, kept in zip(self._pairs, words, strict=True):
            assert pairs.table is not None
            pairs.words, pairs.count = kept, kept.size // 2
            pairs.table.shrink(pairs.count)
        if count:
            stage.each(
                "least_start",
                count,
                self._rows,
                np.uint32(stride),
                np.uint32(count),
                least,
            )
            self._meet_start(int(self._launcher.to_host(least)[0]))

    def _renumbered(self, groups: Any) -> Any:
        """Return by group its place among some groups."""
        renumbered = self._xp.zeros(self._groups, np.uint32)
        count = int(groups.size)
        if count:
            self._stage.each("renumber", count, groups, np.uint32(count), renumbered)
        return renumbered

    def _pairs_of(self, pairs: _Pairs, closing: Any, flag: int, renumbered: Any) -> Any:
        """Return the values of the groups that have this flag."""
        stage = self._stage
        flags = self._xp.empty(pairs.count, np.uint8)
        if pairs.count:
            stage.each("mark_pairs", pairs.count, pairs.words, np.uint32(pairs.count), closing, flags)
        words = self._gather(pairs.words, 2, stage.select(flags == flag))
        count = int(words.size) // 2
        if count:
            stage.each("move_pairs", count, words, np.uint32(count), renumbered)
        return words

    def _forget_texts(self) -> None:
        """Start the dictionaries of plain text anew when most of their strings went with their windows."""
        in_use = self._groups + sum(pairs.count for pairs in self._pairs)
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
        words = self._launcher.to_host(self._rows[: self._groups * self._stride]).reshape(-1, self._stride)
        order = np.argsort(_starts(words), kind="stable")
        counts = [[self.aggregated], [self.late], [self._closed_ms]]
        values = [self._launcher.to_host(pairs.words[: 2 * pairs.count]) for pairs in self._pairs]
        return {
            "spec": self._empty["spec"],
            "counts": _batch(counts, self._empty["counts"].schema),
            "owners": _batch(
                [list(column) for column in zip(*sorted(self._floors_ms.items()), strict=True)] or [[], []],
                self._empty["owners"].schema,
            ),
            "groups": self._groups_part(words[order]),
            "distinct": self._distinct_part(words, order, values),
        }

    def _groups_part(self, words: np.ndarray) -> pa.RecordBatch:
        schema = self._empty["groups"].schema
        columns: list[Any] = [_starts(words), words[:, self._words].astype(np.int32)]
        for each in self._fields:
            bits = (words[:, each.word] >> np.uint64(each.shift)) & each.mask
            valid = bits != 0
            if each.type in _TEXT:
                columns.append(self._home(each.column).take(pa.array(bits.astype(np.int64) - 1, mask=~valid)))
                continue
            if each.value_word:
                lanes = (words[:, each.value_word] ^ _SIGN64).view(np.int64)
            else:
                lanes = (bits - np.uint64(1)).view(np.int64)
                if each.type == "int32":
                    lanes = lanes - 2**31
            columns.append(_lanes_to_arrow(lanes, valid, schema.field(len(columns)).type))
        columns += [
            np.ascontiguousarray(words[:, word]).view(np.int64)
            for word in range(self._words + 1, self._stride)
        ]
        return _batch(columns, schema)

    def _distinct_part(
        self, words: np.ndarray, order: np.ndarray, values: list[np.ndarray]
    ) -> pa.RecordBatch:
        """Return the values window by window, then column by column, then as they came."""
        row_of = np.empty(order.size, np.int64)
        row_of[order] = np.arange(order.size)
        starts = _starts(words)
        names, rows, numbers, texts, keys = [], [], [], [], []
        for number, pairs in enumerate(self._pairs):
            lanes = values[number].reshape(-1, 2)
            count = len(lanes)
            group, value = lanes[:, 0].astype(np.int64), lanes[:, 1].view(np.int64)
            text = pairs.type in _TEXT
            names.append(pa.array([pairs.accumulator.name] * count, pa.utf8()))
            rows.append(row_of[group])
            numbers.append(pa.nulls(count, pa.int64()) if text else pa.array(value))
            texts.append(
                self._home(pairs.accumulator.column).take(pa.array(value))
                if text
                else pa.nulls(count, pa.utf8())
            )
            keys.append(np.stack([starts[group], np.full(count, number)]))
        schema = self._empty["distinct"].schema
        if not keys:
            return self._empty["distinct"]
        start, column = np.concatenate(keys, axis=1)
        by_window = pa.array(np.lexsort((column, start)))
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

    def _home(self, column: str) -> pa.Array:
        """Return the strings of a column, by code."""
        dictionary = self._texts[column].host if column in self._texts else self._codes[column].home
        return pa.record_batch(dictionary.to_batch()).column(0)

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Take back a snapshot of this window, taken here or on the host.

        Raises
        ------
        StateError
            When it is of another window, or damaged: the message says what differs.
        """
        self._host.restore(dict(parts))  # refuses what does not fit
        self._host.restore(self._empty)
        read = {name: pa.record_batch(parts[name]) for name in ("counts", "owners", "groups", "distinct")}
        self._clear()
        counts, owners, groups = read["counts"], read["owners"], read["groups"]
        self._floors_ms = dict(zip(*(column.to_pylist() for column in owners.columns), strict=True))
        self.aggregated, self.late, self._closed_ms = (
            counts.column(name)[0].as_py() for name in ("aggregated", "late", "watermark_ms")
        )
        words = self._words_of(groups)
        self._groups = groups.num_rows
        self._rows = self._launcher.to_device(words.reshape(-1))
        self._table.rebuild(self._groups)
        if self._groups:
            self._least_start = int(_starts(words).min())
        for each in self._accumulators:  # restored sums are not bounded by what was added here
            each.bound = MOST if each.add == "sum" else 2**128
        self._restore_distinct(read["distinct"])

    def _words_of(self, groups: pa.RecordBatch) -> np.ndarray:
        words = np.zeros((groups.num_rows, self._stride), np.uint64)
        words[:, 0] = _int64(groups.column(0)).view(np.uint64)
        words[:, self._words] = _int64(groups.column(1)).view(np.uint64)
        for number, each in enumerate(self._fields):
            column = groups.column(2 + number)
            valid = np.asarray(column.is_valid())
            if each.type in _TEXT:
                bits = self._restored_codes(each.column, column).astype(np.uint64) + np.uint64(1)
            elif each.value_word:
                words[:, each.value_word] = np.where(valid, _int64(column).view(np.uint64) ^ _SIGN64, 0)
                bits = np.ones(groups.num_rows, np.uint64)
            else:
                shift = 2**31 if each.type == "int32" else 0
                bits = (_int64(column) + shift + 1).astype(np.uint64)
            words[:, each.word] |= np.where(valid, bits, np.uint64(0)) << np.uint64(each.shift)
        for number, word in enumerate(range(self._words + 1, self._stride)):
            words[:, word] = _int64(groups.column(2 + len(self._fields) + number)).view(np.uint64)
        return words

    def _restored_codes(self, column: str, values: pa.Array) -> np.ndarray:
        """Return the codes of strings of a snapshot, which the column's dictionary takes in; 0 for null."""
        dictionary = self._texts[column].host if column in self._texts else self._codes[column].home
        known = values.is_valid()
        codes = np.zeros(len(values), np.int32)
        codes[np.asarray(known)] = add_texts(dictionary, values.filter(known))
        return codes

    def _restore_distinct(self, values: pa.RecordBatch) -> None:
        names = np.asarray(values.column("accumulator").to_pylist(), dtype=object)
        for pairs in self._pairs:
            own = values.filter(pa.array(names == pairs.accumulator.name, pa.bool_()))
            words = np.empty((own.num_rows, 2), np.uint64)
            words[:, 0] = _int64(own.column("group")).astype(np.uint64)
            if pairs.type in _TEXT:
                lanes = self._restored_codes(pairs.accumulator.column, own.column("text")).astype(np.int64)
            else:
                lanes = _int64(own.column("number"))
            words[:, 1] = lanes.view(np.uint64)
            pairs.count = own.num_rows
            pairs.words = self._launcher.to_device(words.reshape(-1))
            assert pairs.table is not None
            pairs.table.rebuild(pairs.count)

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
        return self._groups

    @property
    def open_windows(self) -> int:
        """Windows that are not final yet."""
        starts = self._launcher.to_host(self._rows[: self._groups * self._stride : self._stride])
        return int(np.unique(starts).size)

    @property
    def memory_bytes(self) -> int:
        """Memory on the device."""
        tables = [self._table, *(pairs.table for pairs in self._pairs)]
        return (
            int(self._rows.nbytes)
            + sum(int(table.slots.nbytes) for table in tables if table is not None)
            + sum(int(pairs.words.nbytes) for pairs in self._pairs)
            + sum(texts.memory_bytes for texts in self._texts.values())
        )

    def empty_result(self) -> _core.Batch:
        """Return the columns of a closed window, with no rows."""
        return self._host.empty_result()

    def columns_used(self) -> list[str]:
        """Return the columns that a push reads."""
        names = [self._spec["time_column"], *self._spec["keys"]]
        for each in self._accumulators:
            names += [each.column] if each.column else []
            names += [each.condition["column"]] if each.condition else []
        return list(dict.fromkeys(names))

    def _is_keyed(self, name: str) -> bool:
        """Whether the values of a text column are told apart, and not only counted."""
        return name in self._spec["keys"] or any(
            each.add == "distinct" and each.column == name for each in self._accumulators
        )


def _parts(window: _core.Window, owner: int = _core.ALL_OWNERS) -> dict[str, Any]:
    return {name: pa.record_batch(part) for name, part in window.snapshot(owner).items()}


def _closing(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a window with the same results, where distinct values are a number that was added up before.

    So the values themselves need not come back from the device.
    """
    types, measures = dict(spec["types"]), []
    for measure in spec["measures"]:
        if measure["op"] == "distinct":
            counted = f"distinct({measure['column']}){_condition_text(measure.get('condition') or {})}"
            types[counted] = "int64"
            measures.append({"name": measure["name"], "op": "sum", "column": counted})
        else:
            measures.append(measure)
    return {**spec, "measures": measures, "types": types}


def _key_layout(keys: Iterable[tuple[str, str]]) -> tuple[list[_Field], int]:
    """Put narrow values side by side into words, 64-bit ones into words of their own, behind the start."""
    used = [64]
    fields = []
    for column, kind in keys:
        bits = _FIELD_BITS.get(kind, 1)
        word = next((word for word, taken in enumerate(used) if taken + bits <= 64), len(used))
        if word == len(used):
            used.append(0)
        shift = used[word]
        used[word] += bits
        value_word = 0
        if kind in _WIDE:
            value_word = len(used)
            used.append(64)
        fields.append(_Field(column, kind, word, shift, value_word))
    return fields, len(used)


def _accumulators(spec: Mapping[str, Any], words: int) -> list[_Accumulator]:
    """Return what the measures add up, shared where two need the same: `Window::Impl::compile`, again."""
    found: dict[str, _Accumulator] = {}
    word = words
    for measure in spec["measures"]:
        column, condition = measure.get("column") or "", measure.get("condition") or {}
        op = measure["op"]
        needs: tuple[str, ...] = _NEEDS.get(op, (op,))
        if op in ("min", "max") and spec["types"][column] in _WIDE:
            needs = (op, "count")
        for add in needs:
            name = add + (f"({column})" if column else "") + _condition_text(condition)
            if name in found:
                continue
            found[name] = _Accumulator(name, measure["name"], add, column, condition, word)
            word += 2 if add == "squares" else 1
    return list(found.values())


def _condition_text(condition: Mapping[str, Any]) -> str:
    if not condition:
        return ""

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    plus = "".join(f" +{quoted(text)}" for text in condition["plus"])
    minus = "".join(f" -{quoted(text)}" for text in condition["minus"])
    return f" where {quoted(condition['column'])}:{plus}{minus}"


def _weighing(each: _Accumulator) -> str:
    return each.column + _condition_text(each.condition)


def _starts(words: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(words[:, 0]).view(np.int64)


def _int64(column: pa.Array) -> np.ndarray:
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


def _batch(columns: Iterable[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, kind)
        for column, kind in zip(columns, schema.types, strict=True)
    ]
    return pa.record_batch(arrays, schema=schema)
