"""derive, kind features: closed daily windows to feature vectors, one for each key and day.

Keys and days of demand are kept as columns: ``history[measure, days ago, key]``, so that one kernel makes all
vectors of a day (``kernels/derive.py``). What a feature means is in ``tests/reference/features.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from omnistream import _core
from omnistream.errors import StateError
from omnistream.features import OPS, load_functions
from omnistream.kernels.derive import Target, array_module, kernels_for
from omnistream.spec import FeaturesSpec, JobSpec

DAY_MS = 86_400_000
EPOCH_WEEKDAY = 3  # 1970-01-01 was a Thursday; Monday is 0
_INT64_BYTES = 8


class Vectors:
    """The vectors of one derive table.

    A key is known from its first row on. One that had no row for as many days as the features look back is
    forgotten: all its numbers would be zero.

    Parameters
    ----------
    spec, job : FeaturesSpec, JobSpec
    device : {"cpu", "cuda"}
        Where the history lies and the vectors are made.
    """

    def __init__(self, spec: FeaturesSpec, job: JobSpec, device: str = "cpu") -> None:
        window = job.window(spec.window)
        types = window.output_columns(job.columns)
        ops = OPS | (load_functions(spec.functions, check=False) if spec.functions else {})
        places = {measure: place for place, measure in enumerate(spec.measures)}
        self._spec = spec
        self._keys = window.keys
        self._horizon = spec.horizon_days
        target: Target = "cuda" if device == "cuda" else "cpu"
        self._vectors = kernels_for(target).features(
            [feature.column(ops[feature.op], places, types) for feature in spec.features]
        )
        self._xp = array_module(target)
        empty = _core.Window(window.to_core(job.time.column, job.columns) | {"zone": window.zone()})
        self._window_schema = pa.record_batch(empty.empty_result()).schema
        # One row a key: its values, and in the same order the columns of all arrays.
        self._known = self._window_schema.empty_table().select(list(self._keys))
        self._texts = pa.array([], pa.string())
        self._last_day_ms: int | None = None
        self._history = self._xp.zeros((len(places), self._horizon, 0), self._xp.int64)
        self._days = self._xp.zeros(0, self._xp.int32)  # since the first row, that day counted
        self._silent = np.zeros(0, np.int32)  # days since the last row

    def push(self, day: _core.Batch) -> pa.RecordBatch:
        """Take a closed day; return the vectors of the day after, of all keys that are known."""
        rows = pa.record_batch(day)
        if rows.num_rows == 0:
            return self.empty_result()
        start_ms = rows.column("window_start")[0].cast(pa.int64()).as_py()
        self._enter(start_ms)
        keys = rows.select(list(self._keys))
        texts = _texts(keys.columns, rows.num_rows)
        at = self._places(keys, texts)
        self._silent[at] = 0
        for place, measure in enumerate(self._spec.measures):
            self._history[place, 0, self._xp.asarray(at)] = self._xp.asarray(lanes(rows.column(measure)))
        return self._emit(start_ms + DAY_MS)

    def without_row(self) -> pa.RecordBatch:
        """Return no vector: those of the last day held all keys."""
        return self.empty_result()

    def empty_result(self) -> pa.RecordBatch:
        """Return vectors of no key."""
        return self._batch(0, np.empty((0, len(self._spec.features)), np.float32), self._known.slice(0, 0))

    @property
    def memory_bytes(self) -> int:
        """Memory of the history."""
        arrays = (self._known, self._texts, self._history, self._days, self._silent)
        return int(sum(each.nbytes for each in arrays))

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> pa.RecordBatch:
        """Return all keys with what is known of each, the newest day first."""
        if owner != _core.ALL_OWNERS:
            raise self._no_owners()
        count = len(self._texts)
        days = np.full(count, self._last_day_ms or 0, np.int64)
        columns: dict[str, pa.Array] = {
            "last_day": pa.array(days),
            "days_known": pa.array(to_host(self._days)),
            "days_silent": pa.array(self._silent),
        }
        for name in self._keys:
            columns[f"key {name}"] = self._known.column(name).combine_chunks()
        history = to_host(self._history)
        for place, measure in enumerate(self._spec.measures):
            for ago in range(self._horizon):
                columns[f"{measure} {ago} days ago"] = pa.array(history[place, ago])
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def drop(self, owner: int) -> None:
        """Refuse: keys are not told apart by partition."""
        raise self._no_owners()

    def take(self, part: Any, from_owner: int, to: int) -> None:
        """Refuse: keys are not told apart by partition."""
        raise self._no_owners()

    def _no_owners(self) -> StateError:
        return StateError(
            f"{self._spec.name}: features keep no state for each partition, so none can be moved"
        )

    def restore(self, part: Any) -> None:
        """Take back what `snapshot` returned."""
        batch = pa.record_batch(part)
        wanted = self.snapshot().schema.names
        if batch.schema.names != wanted:
            raise StateError(f"{self._spec.name}: the snapshot has other columns than the job's features")
        if batch.num_rows == 0:
            return
        self._last_day_ms = batch.column("last_day")[0].as_py()
        self._days = self._xp.asarray(batch.column("days_known").to_numpy())
        self._silent = batch.column("days_silent").to_numpy().copy()
        keys = [batch.column(f"key {name}") for name in self._keys]
        self._known = pa.Table.from_arrays(keys, schema=self._known.schema)
        self._texts = _texts(keys, batch.num_rows)
        self._history = self._xp.empty((len(self._spec.measures), self._horizon, batch.num_rows), np.int64)
        for place, measure in enumerate(self._spec.measures):
            for ago in range(self._horizon):
                column = batch.column(f"{measure} {ago} days ago").to_numpy()
                self._history[place, ago] = self._xp.asarray(column)

    def _enter(self, start_ms: int) -> None:
        """Move all days back to make room for this one, and forget who has been silent for all of them."""
        if self._last_day_ms is not None:
            step, rest = divmod(start_ms - self._last_day_ms, DAY_MS)
            if step < 1 or rest:
                raise StateError(
                    f"{self._spec.name}: the day from {start_ms} ms does not follow {self._last_day_ms} ms"
                )
            step = min(step, self._horizon)
            self._silent += step
            kept = np.flatnonzero(self._silent < self._horizon)
            if len(kept) < len(self._silent):
                on_device = self._xp.asarray(kept)
                self._history, self._days = self._history[:, :, on_device], self._days[on_device]
                self._silent, self._texts = self._silent[kept], self._texts.take(pa.array(kept))
                self._known = self._known.take(pa.array(kept))
            self._history[:, step:] = self._history[:, : self._horizon - step].copy()
            self._history[:, :step] = 0
            self._days = self._xp.minimum(self._days + self._xp.int32(step), self._xp.int32(self._horizon))
        self._last_day_ms = start_ms

    def _places(self, keys: pa.RecordBatch, texts: pa.Array) -> np.ndarray:
        """Return the place of each key, new ones at the end."""
        found = pc.index_in(texts, value_set=self._texts).to_numpy(zero_copy_only=False)
        fresh = np.flatnonzero(np.isnan(found))
        count = len(self._texts)
        places = np.where(np.isnan(found), 0, found).astype(np.int64)
        places[fresh] = count + np.arange(len(fresh))
        if len(fresh):
            chosen = pa.array(fresh)
            new = pa.Table.from_batches([keys]).take(chosen)
            self._known = pa.concat_tables([self._known, new]).combine_chunks()
            self._texts = pa.concat_arrays([self._texts, texts.take(chosen)])
            xp = self._xp
            room = xp.zeros((*self._history.shape[:2], len(fresh)), xp.int64)
            self._history = xp.concatenate([self._history, room], axis=2)
            self._days = xp.concatenate([self._days, xp.ones(len(fresh), xp.int32)])
            self._silent = np.concatenate([self._silent, np.zeros(len(fresh), np.int32)])
        return places

    def _emit(self, day_ms: int) -> pa.RecordBatch:
        weekday = (day_ms // DAY_MS + EPOCH_WEEKDAY) % 7
        vectors = to_host(self._vectors(self._history, self._days, weekday))
        return self._batch(day_ms, vectors, self._known)

    def _batch(self, day_ms: int, vectors: np.ndarray, keys: pa.Table) -> pa.RecordBatch:
        time = self._window_schema.field("window_start").type
        columns = {"day": pa.array(np.full(len(vectors), day_ms, np.int64)).cast(time)}
        columns |= {name: keys.column(name).combine_chunks() for name in self._keys}
        for place, feature in enumerate(self._spec.features):
            column = np.ascontiguousarray(vectors[:, place])
            # Not known is null in Arrow, and so in Parquet and JSON; NaN again in to_numpy and DLPack.
            columns[feature.name] = pa.array(column, mask=np.isnan(column))
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def lanes(column: pa.Array) -> np.ndarray:
    """Return int64 or decimal values as exact integers, null as 0."""
    filled = column.fill_null(0) if column.null_count else column
    if not pa.types.is_decimal(filled.type):
        return np.asarray(filled.cast(pa.int64()))
    # decimal128 of 19 digits: the low half of each is the int64.
    buffer = filled.buffers()[1]
    halves = np.frombuffer(buffer, np.int64, count=2 * (filled.offset + len(filled)))
    return np.ascontiguousarray(halves[2 * filled.offset :: 2])


def _texts(keys: Sequence[pa.Array], rows: int) -> pa.Array:
    """Return a text for each row that is the same where all keys are: their lengths and values."""
    whole = pa.repeat(pa.scalar("", pa.string()), rows)
    for column in keys:
        text = column.cast(pa.string())
        sized = pc.binary_join_element_wise(pc.binary_length(text).cast(pa.string()), text, ":")
        whole = pc.binary_join_element_wise(whole, pc.fill_null(sized, "-"), "")
    return whole


def to_host(array: Any) -> np.ndarray:
    """Return an array of NumPy's for one of NumPy's or CuPy's."""
    return array if isinstance(array, np.ndarray) else np.asarray(array.get())
