"""How long the path through a sharded window is: `python bench/shards.py KEYS`.

Adds up CPU time instead of looking at a clock, so that it says what threads on cores of their own would
take: sharing rows out, the shard that took longest, closing, and putting together what was closed. The least
of some rounds, whose results are compared with those of one shard.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline

ROWS, BATCH_ROWS, ROUNDS = 4_000_000, 250_000, 3
JOB = parse_job(
    {
        "schema": {
            "field": [
                {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
                {"name": "key", "type": "int64"},
                {"name": "units", "type": "int64"},
            ]
        },
        "time": {"column": "at", "max_disorder": "1s"},
        "window": [
            {
                "name": "days",
                "size": "1d",
                "keys": ["key"],
                "measures": ["count", "sum(units)", "min(units)", "max(units)"],
            }
        ],
    }
)
CORE = JOB.windows[0].to_core("at", JOB.columns)
Answer = TypeVar("Answer")


def timed(work: Callable[[], Answer]) -> tuple[Answer, float]:
    start = time.thread_time()
    answer = work()
    return answer, time.thread_time() - start


def run(rows: list[_core.CleanBatch], shards: int) -> tuple[pa.RecordBatch, np.ndarray[Any, Any]]:
    """Return the result, and seconds of: split, the longest shard, the longest close, merge."""
    keys = _core.KeyShards(["key"], shards)
    windows = [_core.Window(CORE) for _ in range(shards)]
    split_s, push_s = 0.0, np.zeros(shards)
    for clean in rows:
        parts = [clean]
        if shards > 1:
            parts, seconds = timed(lambda clean=clean: keys.split(clean))  # type: ignore[misc]
            split_s += seconds
        for number, part in enumerate(parts):
            push_s[number] += timed(lambda n=number, part=part: windows[n].push(part))[1]  # type: ignore[misc]
    ends = [timed(lambda window=window: window.advance(_core.Watermark.END)) for window in windows]  # type: ignore[misc]
    closed = [batch for batches, _ in ends for batch in batches]
    merged, merge_s = timed(lambda: _core.merge_closed(closed, ["key"], True))
    times = np.array([split_s, push_s.max(), max(seconds for _, seconds in ends), merge_s])
    return pa.record_batch(merged[0]), times


def main() -> None:
    keys = int(sys.argv[1])
    draw = np.random.default_rng(20261111)
    at = pa.array(np.sort(draw.integers(0, 86_000_000, ROWS)), pa.timestamp("ms", "UTC"))
    table = pa.record_batch(
        {"at": at, "key": draw.integers(0, keys, ROWS), "units": draw.integers(0, 100, ROWS)}
    )
    pipeline = Pipeline(JOB)
    rows = []
    for begin in range(0, ROWS, BATCH_ROWS):
        for batch, _ in pipeline.decode.run(table.slice(begin, BATCH_ROWS), "bench", 0, None):
            clean = pipeline.clean.run(batch, 0)[0]
            assert isinstance(clean, _core.CleanBatch)
            rows.append(clean)
    expected, _ = run(rows, 1)
    for shards in (1, 2, 4):
        best = np.full(4, np.inf)
        for _ in range(ROUNDS):
            result, times = run(rows, shards)
            assert result.equals(expected)
            best = np.minimum(best, times)
        split_s, push_s, close_s, merge_s = best
        print(
            f"{keys} keys, {shards} shards: split {split_s:.3f} s, longest shard {push_s:.3f}, "
            f"close {close_s:.3f}, merge {merge_s:.3f}; path {best.sum():.3f}"
        )


if __name__ == "__main__":
    main()
