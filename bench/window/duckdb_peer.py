"""DuckDB: a group-by over the Arrow table, or over read_json."""

from __future__ import annotations

from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from workloads import DAY_MS, JSON, arrow_answer, json_answer, orders_file, rows_of

COLUMNS = {
    "event_time": "TIMESTAMP",
    "channel": "VARCHAR",
    "sku": "VARCHAR",
    "qty": "BIGINT",
    "unit_price": "DOUBLE",
    "unit_cost": "DOUBLE",
    "discount": "DOUBLE",
}


class Peer:
    version = duckdb.__version__

    def __init__(self, workload: str, count: int) -> None:
        self._json = workload == JSON
        self._connection = duckdb.connect()
        self._connection.execute("SET threads = 1; SET enable_progress_bar = false")
        self._connection.execute("SET preserve_insertion_order = false")
        if self._json:
            columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
            self._query = (
                "SELECT time_bucket(INTERVAL 1 minute, event_time) AS start, sku, channel, "
                "count(*) AS count, sum(qty)::BIGINT AS units, "
                "sum(qty * unit_price * (1 - discount)) AS amount FROM "
                f"read_json('{orders_file(count)}', format = 'newline_delimited', columns = {{{columns}}}) "
                "WHERE unit_price >= unit_cost GROUP BY ALL"
            )
        else:
            self._connection.register("arrow", rows_of(workload, count).table())
            self._query = (
                f"SELECT epoch_ms(event_time) // {DAY_MS} AS start, key, count(*) AS count, "
                "sum(quantity)::BIGINT AS units FROM arrow GROUP BY ALL"
            )

    def run(self) -> pa.Table:
        return self._connection.sql(self._query).to_arrow_table()

    def answer(self, table: pa.Table) -> dict[str, Any]:
        if not self._json:
            return arrow_answer(*(table[name].to_numpy() for name in ("key", "count", "units")))
        count, units, amount = (pc.sum(table[name]).as_py() for name in ("count", "units", "amount"))
        return json_answer(table.num_rows, count, units, amount)


def load(workload: str, count: int) -> Peer:
    return Peer(workload, count)
