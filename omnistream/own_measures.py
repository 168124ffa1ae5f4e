"""derive, kind measures: the rows of closed windows with measures by functions of the user's.

The functions are those of features, and come through the same door (``kernels/derive.py``): compiled by Numba
for the CPU or for CUDA. They see one row at a time, as a history of a single day.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.features import MEASURE_OPS, load_functions
from omnistream.kernels.derive import Target, array_module, kernels_for
from omnistream.spec import JobSpec, MeasuresSpec
from omnistream.vectors import DAY_MS, EPOCH_WEEKDAY, lanes, to_host


class OwnMeasures:
    """The measures of one derive table; no state.

    Parameters
    ----------
    spec, job : MeasuresSpec, JobSpec
    device : {"cpu", "cuda"}
        Where they are computed.
    """

    memory_bytes = 0

    def __init__(self, spec: MeasuresSpec, job: JobSpec, device: str = "cpu") -> None:
        window = job.window(spec.window)
        types = window.output_columns(job.columns)
        ops = MEASURE_OPS | (load_functions(spec.functions, check=False) if spec.functions else {})
        places = {measure: place for place, measure in enumerate(spec.measures)}
        self._spec = spec
        # Rows of a session begin when they like.
        self._has_weekday = window.kind not in ("session", "global")
        target: Target = "cuda" if device == "cuda" else "cpu"
        columns = [each.column(ops[each.op], places, types) for each in spec.features]
        self._measures = kernels_for(target).features(columns, np.float64)
        self._xp = array_module(target)
        empty = _core.Window(window.to_core(job.time.column, job.columns) | {"zone": window.zone()})
        self._empty = pa.record_batch(empty.empty_result())

    def push(self, closed: _core.Batch) -> pa.RecordBatch:
        """Return the rows of a closed window, each with its measures; null where a function gives NaN."""
        rows = pa.record_batch(closed)
        history = np.stack([lanes(rows.column(name)) for name in self._spec.measures])[:, None, :]
        weekday = 0
        if rows.num_rows and self._has_weekday:
            start_ms = rows.column("window_start")[0].cast(pa.int64()).as_py()
            weekday = (start_ms // DAY_MS + EPOCH_WEEKDAY) % 7
        known = self._xp.ones(rows.num_rows, self._xp.int32)
        values = to_host(self._measures(self._xp.asarray(history), known, weekday))
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        for place, each in enumerate(self._spec.features):
            column = np.ascontiguousarray(values[:, place])
            columns[each.name] = pa.array(column, mask=np.isnan(column))
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def without_row(self) -> pa.RecordBatch:
        """Return no row: every one had its measures when its window closed."""
        return self.empty_result()

    def empty_result(self) -> pa.RecordBatch:
        """Return the columns with no row."""
        floats = [pa.field(each.name, pa.float64()) for each in self._spec.features]
        return pa.RecordBatch.from_pylist([], schema=pa.schema([*self._empty.schema, *floats]))

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> pa.RecordBatch:
        """Return nothing."""
        return pa.record_batch({"nothing": pa.array([], pa.int64())})

    def restore(self, part: Any) -> None:
        """Nothing to take back."""

    def drop(self, owner: int) -> None:
        """Nothing to remove."""

    def take(self, part: Any, from_owner: int, to: int) -> None:
        """Nothing to add."""
