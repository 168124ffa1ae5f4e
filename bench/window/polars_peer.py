"""Polars: a lazy group-by over the Arrow table, with the streaming engine."""

from __future__ import annotations

from typing import Any

import polars as pl
from workloads import DAY_MS, arrow_answer, rows_of


class Peer:
    version = pl.__version__

    def __init__(self, workload: str, count: int) -> None:
        frame = pl.from_arrow(rows_of(workload, count).table())
        assert isinstance(frame, pl.DataFrame)
        self._query = (
            frame.lazy()
            .group_by((pl.col("event_time").dt.epoch("ms") // DAY_MS).alias("start"), "key")
            .agg(pl.len().alias("count"), pl.col("quantity").sum().alias("units"))
        )

    def run(self) -> pl.DataFrame:
        return self._query.collect(engine="streaming")

    def answer(self, frame: pl.DataFrame) -> dict[str, Any]:
        return arrow_answer(*(frame[name].to_numpy() for name in ("key", "count", "units")))


def load(workload: str, count: int) -> Peer:
    return Peer(workload, count)
