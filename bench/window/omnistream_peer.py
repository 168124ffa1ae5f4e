"""omnistream: a pipeline, pushed to and flushed; Arrow rows in batches, JSON in blocks."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from workloads import BATCH_ROWS, JSON, arrow_answer, json_answer, orders_file, rows_of

from omnistream import Pipeline, parse_job
from omnistream.checkpoint import latest, prune

CHECKPOINT_INTERVAL_S = 10.0
CHECKPOINT_ROUNDS = 5
CHECKPOINT_ROWS = 1 << 22  # that come again and again
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
        """Return what a checkpoint of all keys costs while rows of them come in: s, bytes, shares."""
        pipeline = Pipeline(self._job)
        for block in self._blocks:
            pipeline.push(block)
        metrics = pipeline.metrics()
        whole = pa.Table.from_batches(self._blocks)
        self._blocks = []
        again = np.random.default_rng(1).integers(0, whole.num_rows, CHECKPOINT_ROWS)
        blocks = whole.take(again).combine_chunks().to_batches(BATCH_ROWS)
        del whole
        folder = Path(tempfile.mkdtemp(dir=orders_file(1).parent))
        own = os.sched_getaffinity(0)
        every = set(range(os.cpu_count() or 1))
        try:
            rounds = [
                (
                    _push_for(pipeline, blocks),
                    *(_save_during(pipeline, blocks, folder, cpus) for cpus in (every, own)),
                )
                for _ in range(CHECKPOINT_ROUNDS)
            ]
            saved = latest(folder)
            assert saved is not None
            size_bytes = sum(each.stat().st_size for each in saved.iterdir())
            del pipeline, blocks
            restoring = time.perf_counter()
            restored = Pipeline.restore(folder, self._job)
            restore_s = time.perf_counter() - restoring
            assert restored.metrics().groups == metrics.groups
        finally:
            shutil.rmtree(folder)
        return {
            "keys": metrics.groups,
            "state_bytes": metrics.state_bytes,
            "checkpoint_bytes": size_bytes,
            "restore_s": restore_s,
            "snapshot_s": median(beside.snapshot_s for _, beside, _ in rounds),
            "save_s": median(beside.save_s for _, beside, _ in rounds),
            "pause_s": median(beside.longest_s - plain.usual_s for plain, beside, _ in rounds),
            "share": median(1 - beside.rows_per_s / plain.rows_per_s for plain, beside, _ in rounds),
            "share_cpu": median(
                1 - plain.cpu_s_per_row / beside.cpu_s_per_row for plain, beside, _ in rounds
            ),
            "share_one_core": median(1 - same.rows_per_s / plain.rows_per_s for plain, _, same in rounds),
        }


@dataclass
class Interval:
    """How rows were taken in for the time between two checkpoints; `longest_s`: a push, and the snapshot."""

    rows_per_s: float
    cpu_s_per_row: float  # of the thread that pushes
    usual_s: float
    longest_s: float
    snapshot_s: float = 0
    save_s: float = 0


def _push_for(
    pipeline: Pipeline,
    blocks: list[pa.RecordBatch],
    interval_s: float = CHECKPOINT_INTERVAL_S,
    held_s: float = 0,
) -> Interval:
    """Push for so long, `held_s` of which are over."""
    seconds = []
    begin = now = time.perf_counter()
    cpu_begin = time.thread_time()
    rows = 0
    while now - begin < interval_s - held_s:
        block = blocks[len(seconds) % len(blocks)]
        pipeline.push(block)
        rows += block.num_rows
        now, before = time.perf_counter(), now
        seconds.append(now - before)
    cpu_s = time.thread_time() - cpu_begin
    return Interval(rows / (now - begin + held_s), cpu_s / rows, median(seconds), held_s + max(seconds))


def _save_during(pipeline: Pipeline, blocks: list[pa.RecordBatch], folder: Path, cpus: set[int]) -> Interval:
    """Take a checkpoint at the begin of the time, and write it in a thread on these cores."""

    def save() -> float:
        os.sched_setaffinity(0, cpus)  # of this thread
        begin = time.perf_counter()
        snapshot.save(folder)
        prune(folder, 1)
        return time.perf_counter() - begin

    begin = time.perf_counter()
    snapshot = pipeline.snapshot()
    snapshot_s = time.perf_counter() - begin
    with ThreadPoolExecutor(1) as writer:
        saving = writer.submit(save)
        interval = _push_for(pipeline, blocks, held_s=snapshot_s)
        interval.snapshot_s, interval.save_s = snapshot_s, saving.result()
    return interval


def load(workload: str, count: int) -> Peer:
    return Peer(workload, count)


def _blocks(data: bytes) -> Any:
    view = memoryview(data)
    begin = 0
    while begin < len(view):
        end = data.find(b"\n", min(begin + BLOCK_BYTES, len(view) - 1)) + 1
        yield view[begin : end or len(view)]
        begin = end or len(view)
