"""DataFusion: a group-by over the Arrow table, one partition."""

from __future__ import annotations

from typing import Any

import datafusion
import pyarrow as pa
from workloads import DAY_MS, arrow_answer, rows_of


class Peer:
    version = datafusion.__version__

    def __init__(self, workload: str, count: int) -> None:
        self._context = datafusion.SessionContext(datafusion.SessionConfig().with_target_partitions(1))
        self._context.register_record_batches("rows", [rows_of(workload, count).table().to_batches()])
        self._query = (
            f"SELECT CAST(event_time AS BIGINT) / {DAY_MS} AS start, key, count(*) AS count, "
            f"sum(quantity) AS units FROM rows GROUP BY CAST(event_time AS BIGINT) / {DAY_MS}, key"
        )

    def run(self) -> list[pa.RecordBatch]:
        return self._context.sql(self._query).collect()

    def answer(self, batches: list[pa.RecordBatch]) -> dict[str, Any]:
        table = pa.Table.from_batches(batches)
        return arrow_answer(*(table[name].to_numpy() for name in ("key", "count", "units")))


def load(workload: str, count: int) -> Peer:
    return Peer(workload, count)
