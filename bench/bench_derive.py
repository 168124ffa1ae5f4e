"""derive: closed daily windows into demand statistics. An event here is a key with a row on a day."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from conftest import EVENTS, Measure
from pipeline import stream

from omnistream import _core
from omnistream.clean import Clean
from omnistream.decode import Decode
from omnistream.derive import Derive
from omnistream.encode import Encode
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.spec import JobSpec
from omnistream.window import Windows

DAYS = 10


def daily_windows(job: JobSpec) -> list[_core.Batch]:
    encode = Encode(job.schema)
    decode, clean, windows = Decode(job.schema, encode.dictionaries), Clean(job), Windows(job)
    for block in generate_blocks(GenerateSpec(**stream(EVENTS, EVENTS // (24 * DAYS)))):
        for batch, _ in decode.run(block, "bench", 0, None):
            windows.run(clean.run(batch, 0)[0])
    return windows.close(_core.Watermark.END)["daily"]


def work(derive: Derive, days: list[_core.Batch]) -> list[_core.Batch]:
    results = derive.run({"daily": days})["demand"]
    return results + derive.finish()["demand"]


def bench_derive(measure: Measure, job: JobSpec) -> None:
    days = daily_windows(job)
    results = pl.from_arrow(pa.Table.from_batches(map(pa.record_batch, work(Derive(job), days))))
    sold = pl.from_arrow(pa.Table.from_batches(map(pa.record_batch, days)))
    latest = results.sort("day").group_by("sku").last()
    expected = sold.group_by("sku").agg(pl.col("units_sold").sum())
    both = latest.join(expected, on="sku", validate="1:1")
    assert len(both) == len(expected)
    assert both.select(((pl.col("mean") * pl.col("days") - pl.col("units_sold")).abs() < 1e-6).all()).item()
    measure(work, sum(day.rows for day in days), setup=lambda: (Derive(job), days))
