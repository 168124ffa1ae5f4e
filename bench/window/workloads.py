"""What is aggregated: rows of (event time, key, quantity) in memory, and a file of orders.

``KEYS/DISTRIBUTION`` (``100k/zipf``) is Arrow input, one day and one window, count and sum by key; ``each``
has every key once. ``json`` is the file of orders.py: one-minute windows by SKU and channel of the lines that
are not priced below cost, their number, units and amount.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from orders import write_orders

DATA = Path(__file__).parents[2] / "build" / "bench-window"
KEY_COUNTS = {"10": 10, "1k": 1_000, "100k": 100_000, "10m": 10_000_000}
DISTRIBUTIONS = ("uniform", "zipf")
ARROW = tuple(f"{keys}/{distribution}" for distribution in DISTRIBUTIONS for keys in KEY_COUNTS)
JSON = "json"
DAY_MS = 86_400_000
START_MS = 1_794_355_200_000  # 2026-11-11
ZIPF_EXPONENT = 1.05
BATCH_ROWS = 1 << 18
MASK = (1 << 64) - 1


@dataclass(frozen=True)
class Rows:
    """Columns of equal length: event time in ms, key and quantity, all int64; times ascend."""

    time: Any
    key: Any
    quantity: Any

    def table(self) -> pa.Table:
        table = pa.table(
            {
                "event_time": pa.array(self.time).cast(pa.timestamp("ms", "UTC")),
                "key": pa.array(self.key),
                "quantity": pa.array(self.quantity),
            }
        )
        return pa.Table.from_batches(table.to_batches(BATCH_ROWS))


def rows_of(workload: str, count: int) -> Rows:
    name, distribution = workload.split("/")
    keys = KEY_COUNTS[name]
    random = np.random.default_rng(20261111 + keys)
    if distribution == "each":
        ranks = random.permutation(keys)[:count]
    elif distribution == "uniform":
        ranks = random.integers(0, keys, count)
    else:
        shares = np.cumsum(1.0 / np.arange(1, keys + 1) ** ZIPF_EXPONENT)
        ranks = np.minimum(np.searchsorted(shares, random.random(count) * shares[-1]), keys - 1)
    # Neither dense nor in the order of popularity: an engine may not use the key as an index.
    key = (ranks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(1)).astype(np.int64)
    time = START_MS + np.arange(count, dtype=np.int64) * (DAY_MS - 1) // count
    return Rows(time, key, random.integers(1, 6, count))


def raw_file(workload: str, count: int) -> Path:
    """The columns of `rows_of` one after the other, for programs that are not Python."""
    path = DATA / f"{workload.replace('/', '-')}-{count}.i64"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = rows_of(workload, count)
        aside = path.with_suffix(".writing")
        with aside.open("wb") as out:
            for column in (rows.time, rows.key, rows.quantity):
                column.tofile(out)
        aside.rename(path)
    return path


def orders_file(events: int) -> Path:
    path = DATA / f"orders-{events}.ndjson"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_orders(path, events)
    return path


def arrow_answer(key: Any, count: Any, units: Any) -> dict[str, int]:
    """Checksums of (key, count, sum) rows that do not depend on their order."""
    key, count, units = (np.asarray(column).astype(np.uint64) for column in (key, count, units))
    with np.errstate(over="ignore"):
        return {
            "groups": len(key),
            "rows": int(count.sum()),
            "units": int(units.sum()),
            "checksum": int((key * count + (key ^ np.uint64(MASK)) * units).sum()),
        }


def json_answer(groups: int, rows: int, units: int, amount: float) -> dict[str, Any]:
    """Amounts are exact here and floats elsewhere: compared to a millionth."""
    return {"groups": groups, "rows": rows, "units": units, "amount": f"{amount:.5e}"}
