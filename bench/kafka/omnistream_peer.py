"""omnistream: a job from Kafka to closed windows in an Arrow file, as `omnistream run` runs it."""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
from answers import Clock, digest

from omnistream import _core
from omnistream.job import parse_job
from omnistream.run import run_job
from omnistream.source.kafka import KafkaSource


def job(brokers: str, topic: str, out: Path, settings: dict[str, str]) -> dict[str, Any]:
    measures = ["count", "sum(quantity) as units", "sum(amount) as amount"]
    window = {"name": "sales", "size": "1m", "keys": ["sku", "channel"], "measures": measures}
    return {
        "job": {"name": "bench", "device": "cpu"},
        "source": {
            "type": "kafka",
            "topics": topic,
            "until": "latest",
            "config": {"bootstrap.servers": brokers, **settings},
        },
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": "10s"},
        "clean": {"rule": [{"check": "price_below_cost"}]},
        "window": [window],
        "sink": [{"output": "sales", "type": "arrow", "path": str(out / "sales.arrow")}],
    }


def resident_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4


def main(brokers: str, topic: str, messages: int, settings: dict[str, str]) -> None:
    clock = Clock()
    poll = KafkaSource.poll
    taken = 0
    memory: list[tuple[int, int]] = []  # messages taken, resident memory in KiB

    def timed_poll(self: KafkaSource, *arguments: Any) -> list[_core.MessageBlock]:
        nonlocal taken
        blocks = poll(self, *arguments)
        if blocks:
            clock.first()
            taken += sum(len(block) for block in blocks)
        return blocks

    def watch() -> None:
        while True:
            memory.append((taken, resident_kb()))
            time.sleep(0.05)

    KafkaSource.poll = timed_poll  # type: ignore[method-assign]
    threading.Thread(target=watch, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        metrics = run_job(parse_job(job(brokers, topic, Path(folder), settings))).metrics
        result = clock.stop("this tree", metrics.messages)
        assert metrics.balanced
        assert metrics.late == 0
        closed = {}
        if messages <= 2_000_000:  # answers are compared on the short topics
            with pa.memory_map(str(Path(folder) / "sales.arrow")) as file:
                for row in pa.ipc.open_stream(file).read_all().to_pylist():
                    key = (int(row["window_start"].timestamp() * 1_000), row["sku"], row["channel"])
                    assert key not in closed, f"{key} is there twice"
                    closed[key] = [row["count"], row["units"], float(row["amount"])]
    print(json.dumps(result | {"answer": digest(closed), "memory": memory}))


more = dict(setting.split("=", 1) for setting in sys.argv[4:])
main(sys.argv[1], sys.argv[2], int(sys.argv[3]), more)
