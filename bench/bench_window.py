"""window: rows into open windows, and all of them closed at the end."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
from conftest import Measure, Orders

from omnistream import _core
from omnistream.window import Windows


def work(windows: Windows, orders: Orders) -> dict[str, list[_core.Batch]]:
    for clean in orders.clean:
        windows.run(clean)
    return windows.close(_core.Watermark.END)


def bench_window(measure: Measure, orders: Orders) -> None:
    rows = sum(clean.rows for clean in orders.clean)
    closed = pa.Table.from_batches(map(pa.record_batch, work(Windows(orders.job), orders)["minute"]))
    assert pc.sum(closed["count"]).as_py() == rows
    measure(work, rows, setup=lambda: (Windows(orders.job), orders))
