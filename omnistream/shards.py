"""A window whose keys are shared out among threads.

Each shard is a window of its own, which sees the rows of its keys (by hash) and no others: threads share no
state and need no lock. What the shards close is put together in the order of the keys, so results are the
same bytes for any number of shards, and a snapshot is one state, which any number can take up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.errors import StateError

# Below it, sharing work out costs more than it saves.
FEW_ROWS = 1024
KEY_PREFIX = "key "  # of the key columns of a snapshot

Answer = TypeVar("Answer")


def is_sharded(core: Mapping[str, Any], shards: int) -> bool:
    """Return whether a window is shared out: it has keys."""
    return shards > 1 and bool(core["keys"])


class ShardedWindow:
    """A window with the face of `_core.Window`.

    Parameters
    ----------
    core : dict
        The window, as for `_core.Window`.
    shards : int
    pool : ThreadPoolExecutor
        May be shared with other windows.
    """

    def __init__(self, core: dict[str, Any], shards: int, pool: ThreadPoolExecutor) -> None:
        self._shards = [_core.Window(core) for _ in range(shards)]
        self._keys = _core.KeyShards(core["keys"], shards)
        self._pool = pool
        kind = core["kind"]
        self._by = ["window_end", *core["keys"]] if kind == "session" else list(core["keys"])
        self._each_start = kind not in ("session", "global")
        self._kind = kind
        self._early_ms: int = core["early_ms"]
        # How many intervals of early results event time has passed.
        self._before_all = _core.Watermark.NONE // (self._early_ms or 1)
        self._passed = self._before_all
        self._told: list[_core.Batch] = []  # on the way to the last row that was pushed

    def push(self, clean: _core.CleanBatch) -> list[int]:
        """As `_core.Window.push`: return the rows that came late.

        Where a row's watermark passes a multiple of the interval of early results, all shards tell what has
        changed before it.
        """
        if not self._early_ms:
            return self._push(clean)
        survivors = pa.record_batch(clean.survivors())
        rows, met_ms = (survivors.column(name).to_numpy() for name in ("row", "watermark_ms"))
        passed = met_ms // self._early_ms
        late: list[int] = []
        begin = 0
        while begin < len(rows):
            end = max(begin, int(np.searchsorted(passed, self._passed, side="right")))
            if end > begin:
                late += self._push(
                    _core.CleanBatch(clean.batch, rows[begin:end], met_ms[begin:end], clean.owner)
                )
            if end < len(rows):
                self._told += self._advance(int(met_ms[end]))
            begin = end
        return late

    def _push(self, clean: _core.CleanBatch) -> list[int]:
        parts = self._keys.split(clean)
        pairs = [(shard, part) for shard, part in zip(self._shards, parts, strict=True) if part.rows]
        late = self._do(_push, pairs, in_threads=clean.rows > FEW_ROWS)
        return sorted(chain(*late))

    def advance(self, watermark_ms: int) -> list[_core.Batch]:
        """As `_core.Window.advance`."""
        told, self._told = self._told, []
        return told + self._advance(watermark_ms)

    def _advance(self, watermark_ms: int) -> list[_core.Batch]:
        self._pass(watermark_ms)
        many = self.groups > FEW_ROWS
        closed = self._do(lambda shard: shard.advance(watermark_ms), self._shards, in_threads=many)
        return _core.merge_closed([*chain(*closed)], self._by, self._each_start)

    def _pass(self, watermark_ms: int) -> None:
        if self._early_ms:
            self._passed = max(self._passed, watermark_ms // self._early_ms)

    def empty_result(self) -> _core.Batch:
        """As `_core.Window.empty_result`."""
        return self._shards[0].empty_result()

    @property
    def aggregated(self) -> int:
        """Rows that were added."""
        return sum(shard.aggregated for shard in self._shards)

    @property
    def late(self) -> int:
        """Rows that came late."""
        return sum(shard.late for shard in self._shards)

    @property
    def open_windows(self) -> int:
        """Sessions that are open, or intervals: as many as the shard that has most of them."""
        count = sum if self._kind == "session" else max
        return count(shard.open_windows for shard in self._shards)

    @property
    def groups(self) -> int:
        """Keys held in them."""
        return sum(shard.groups for shard in self._shards)

    @property
    def memory_bytes(self) -> int:
        """Memory of all shards."""
        return sum(shard.memory_bytes for shard in self._shards)

    def freeze(self) -> FrozenShards:
        """As `_core.Window.freeze`."""
        self._check_taken()
        return FrozenShards([shard.freeze() for shard in self._shards])

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, Any]:
        """As `_core.Window.snapshot`: one state, which does not say that there were shards."""
        self._check_taken()
        return _joined(self._do(lambda shard: shard.snapshot(owner), self._shards, in_threads=True))

    def restore(self, parts: dict[str, object]) -> None:
        """As `_core.Window.restore`, from a window of any number of shards."""
        pairs = zip(self._shards, self._parted(parts), strict=True)
        self._do(lambda pair: pair[0].restore(pair[1]), pairs, in_threads=True)
        self._told, self._passed = [], self._before_all
        self._pass(pa.record_batch(parts["counts"]).column("watermark_ms")[0].as_py())

    def drop(self, owner: int) -> None:
        """As `_core.Window.drop`."""
        for shard in self._shards:
            shard.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """As `_core.Window.take`."""
        for shard, part in zip(self._shards, self._parted(parts), strict=True):
            shard.take(part, from_owner, to)
        self._passed = self._before_all  # it may have been behind; to look once too often changes nothing

    def _check_taken(self) -> None:
        if self._told:
            raise StateError("a window holds results that nobody has taken; call advance() before snapshot()")

    def _do(self, work: Callable[[Any], Answer], on: Iterable[Any], in_threads: bool) -> list[Answer]:
        """Return the answers of all; when one fails, once the others are done."""
        if not in_threads:
            return [work(each) for each in on]
        futures = [self._pool.submit(work, each) for each in on]
        wait(futures)
        return [future.result() for future in futures]

    def _parted(self, parts: Mapping[str, object]) -> list[dict[str, object]]:
        """Return the parts of a snapshot for each shard."""
        groups, items = pa.record_batch(parts["groups"]), pa.record_batch(parts["distinct"])
        shard_of = np.asarray(self._keys.shards_of(groups, KEY_PREFIX), np.int32)
        group = items.column("group").to_numpy()
        parted: list[dict[str, object]] = []
        for number in range(len(self._shards)):
            mine = shard_of == number
            place = np.cumsum(mine) - 1  # of a group among those of its shard
            kept = mine[group]
            own = items.filter(pa.array(kept))
            own = own.set_column(own.schema.get_field_index("group"), "group", pa.array(place[group[kept]]))
            counts = parts["counts"] if number == 0 else _uncounted(pa.record_batch(parts["counts"]))
            shard = {"groups": groups.filter(pa.array(mine)), "distinct": own, "counts": counts}
            parted.append({**parts, **shard})
        return parted


class FrozenShards:
    """The state of a window at one moment, with the face of `_core.FrozenWindow`."""

    def __init__(self, shards: list[_core.FrozenWindow]) -> None:
        self._shards = shards

    def write(self) -> dict[str, Any]:
        """As `_core.FrozenWindow.write`."""
        return _joined([shard.write() for shard in self._shards])


def _push(pair: tuple[_core.Window, _core.CleanBatch]) -> list[int]:
    return pair[0].push(pair[1])


def _joined(shards: list[dict[str, _core.Batch]]) -> dict[str, Any]:
    """Return the parts of all shards as those of one window."""
    parts = [{name: pa.record_batch(part) for name, part in shard.items()} for shard in shards]
    items = []
    groups = 0
    for shard in parts:
        own = shard["distinct"]
        column = pa.array(own.column("group").to_numpy() + groups)
        items.append(own.set_column(own.schema.get_field_index("group"), "group", column))
        groups += shard["groups"].num_rows
    counts = parts[0]["counts"]
    for name in ("aggregated", "late"):
        total = sum(shard["counts"].column(name)[0].as_py() for shard in parts)
        counts = counts.set_column(counts.schema.get_field_index(name), name, pa.array([total]))
    whole = {"groups": _as_one([shard["groups"] for shard in parts]), "distinct": _as_one(items)}
    return {**parts[0], **whole, "counts": counts}


def _uncounted(counts: pa.RecordBatch) -> pa.RecordBatch:
    """Return the counts of a shard whose rows another has counted."""
    for name in ("aggregated", "late"):
        none = pa.array([0] * counts.num_rows, pa.int64())
        counts = counts.set_column(counts.schema.get_field_index(name), name, none)
    return counts


def _as_one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    table = pa.Table.from_batches(batches).combine_chunks()
    return table.to_batches()[0] if table.num_rows else batches[0]
