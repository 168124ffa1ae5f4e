"""clean: amounts, five rules and duplicates by event id, on decoded batches."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
from conftest import EVENTS, Measure, Orders

from omnistream.clean import Clean


def work(clean: Clean, orders: Orders) -> None:
    for batch in orders.batches:
        clean.run(batch, 0)


def bench_clean(measure: Measure, orders: Orders) -> None:
    clean = Clean(orders.job)
    work(clean, orders)
    rows = pl.from_arrow(pa.Table.from_batches(map(pa.record_batch, orders.batches)))
    below_cost = rows.filter(pl.col("unit_price") < pl.col("unit_cost"))
    kept = rows.filter(pl.col("unit_price") >= pl.col("unit_cost"))
    assert clean.counts["rejected"] == len(below_cost)
    assert clean.counts["duplicates"] == len(kept) - kept["event_id"].n_unique()
    measure(work, EVENTS, setup=lambda: (Clean(orders.job), orders))
