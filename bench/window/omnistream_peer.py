"""omnistream: a pipeline, pushed to and flushed; Arrow rows in batches, JSON in blocks."""

from __future__ import annotations

import shutil
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from workloads import JSON, arrow_answer, json_answer, orders_file, rows_of

from omnistream import Pipeline, parse_job

BLOCK_BYTES = 4 << 20  # a source's own batches
ROWS_JOB = {
    "schema": {
        "field": [
            {"name": "event_time", "type": "timestamp", "format": "iso8601", "required": True},
            {"name": "key", "type": "int64", "required": True},
            {"name": "quantity", "type": "int64", "required": True},
        ]
    },
    "time": {"max_disorder": "0s"},
    "window": [
        {"name": "out", "size": "1d", "keys": ["key"], "measures": ["count", "sum(quantity) as units"]}
    ],
}
ORDERS_JOB = {
    "schema": {"use": "order_flat"},
    "time": {"max_disorder": "30s"},
    "clean": {"rule": [{"check": "price_below_cost"}]},
    "window": [
        {
            "name": "out",
            "size": "1m",
            "keys": ["sku", "channel"],
            "measures": ["count", "sum(quantity) as units", "sum(amount) as amount"],
        }
    ],
}


class Peer:
    try:
        version = metadata.version("omnistream")
    except metadata.PackageNotFoundError:
        version = "working tree"

    def __init__(self, workload: str, count: int) -> None:
        self._json = workload == JSON
        self._job = parse_job(ORDERS_JOB if self._json else ROWS_JOB)
        self._blocks: list[Any]
        if self._json:
            self._blocks = list(_blocks(orders_file(count).read_bytes()))
        else:
            self._blocks = rows_of(workload, count).table().to_batches()

    def run(self) -> list[pa.RecordBatch]:
        pipeline = Pipeline(self._job)
        closed: list[pa.RecordBatch] = []
        for block in self._blocks:
            closed += pipeline.push(block).get("out", [])
        return closed + pipeline.flush().get("out", [])

    def answer(self, closed: list[pa.RecordBatch]) -> dict[str, Any]:
        table = pa.Table.from_batches(closed)
        if not self._json:
            return arrow_answer(*(table[name].to_numpy() for name in ("key", "count", "units")))
        count, units, amount = (pc.sum(table[name]).as_py() for name in ("count", "units", "amount"))
        return json_answer(table.num_rows, count, units, float(amount))

    def checkpoint(self) -> dict[str, Any]:
        """Return what a checkpoint of all keys costs: s and bytes."""
        pipeline = Pipeline(self._job)
        for block in self._blocks:
            pipeline.push(block)
        metrics = pipeline.metrics()
        folder = Path(tempfile.mkdtemp(dir=orders_file(1).parent))
        try:
            begin = time.perf_counter()
            snapshot = pipeline.snapshot()
            taken = time.perf_counter()
            saved = snapshot.save(folder)
            written = time.perf_counter()
            size_bytes = sum(each.stat().st_size for each in saved.iterdir())
            del pipeline, snapshot
            restoring = time.perf_counter()
            restored = Pipeline.restore(folder, self._job)
            done = time.perf_counter()
            assert restored.metrics().groups == metrics.groups
        finally:
            shutil.rmtree(folder)
        return {
            "keys": metrics.groups,
            "state_bytes": metrics.state_bytes,
            "snapshot_s": taken - begin,
            "save_s": written - taken,
            "checkpoint_bytes": size_bytes,
            "restore_s": done - restoring,
        }


def load(workload: str, count: int) -> Peer:
    return Peer(workload, count)


def _blocks(data: bytes) -> Any:
    view = memoryview(data)
    begin = 0
    while begin < len(view):
        end = data.find(b"\n", min(begin + BLOCK_BYTES, len(view) - 1)) + 1
        yield view[begin : end or len(view)]
        begin = end or len(view)
