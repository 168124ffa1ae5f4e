"""A job over orders from Kafka to Kafka, how it is run, and what it should give."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omnistream import _core
from omnistream.job import parse_job
from omnistream.pipeline import Metrics, Pipeline
from omnistream.run import Progress, RunResult, Stop, run_job
from tests.kafka.topics import Kafka

PARTITIONS = 3
MEASURES = ["count", "units_net", "net_amount"]
WINDOW = {"name": "sales", "size": "1h", "keys": ["store_id"], "measures": MEASURES}
# Some generated events are of 1970. In which order partitions are read must not decide which rows are late.
DISORDER = "30000d"
WAIT_S = 60


def orders(count: int, **spec: Any) -> list[bytes]:
    generator = _core.Generator(events=count, seed=20261111, **spec)
    lines: list[bytes] = []
    while (block := generator.next(1 << 20)) is not None:
        lines += block.splitlines()
    return lines


def store_of(order: bytes) -> bytes:
    """The partitioning that keeps a store's rows together; what cannot be read goes anywhere."""
    try:
        return str(json.loads(order)["store_id"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


def job_of(kafka: Kafka, source: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """A job of its own: exactly once, ends at the end of the log. ``source__until=None`` removes a key."""
    job: dict[str, Any] = {
        "job": {"name": f"job-{kafka.topic(name='name')}"},
        "source": {
            "type": "kafka",
            "topics": source,
            "until": "latest",
            "batch_bytes": "64 KiB",
            "config": {**kafka.client, "session.timeout.ms": 6_000},
        },
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": DISORDER},
        "clean": {"duplicates": {"key": ["event_id"], "within": DISORDER}},
        "window": [WINDOW],
        "sink": [{"output": "sales", "type": "kafka", "topic": kafka.topic(2, "sales")}],
        "dead_letter": {"type": "kafka", "topic": kafka.topic(1, "rejects")},
        "checkpoint": {"path": str(folder / "state"), "interval": "100ms", "delivery": "exactly_once"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = job
        for key in parents:
            node = node.setdefault(key, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return job


def run(job: dict[str, Any], until: Callable[[Metrics], bool] | None = None) -> RunResult:
    """Run a job to its end, or until its metrics show something; it then stops as on SIGTERM."""
    stop = Stop()
    deadline = time.monotonic() + WAIT_S

    def watch(progress: Progress) -> None:
        assert time.monotonic() < deadline, progress.metrics
        if until is not None and stop.signal is None and until(progress.metrics):
            stop.request()

    return run_job(parse_job(job), on_progress=watch, stop=stop)


def results(kafka: Kafka, job: dict[str, Any]) -> dict[bytes, dict[str, Any]]:
    """What the sink's topic holds, by key; no key may be there twice."""
    messages = kafka.read(job["sink"][0]["topic"])
    by_key = {message.key(): json.loads(message.value()) for message in messages}
    assert len(by_key) == len(messages)
    return by_key


def expected(stream: list[bytes]) -> tuple[dict[tuple[str, str], dict[str, Any]], Metrics]:
    """The same messages pushed at once: results by window and store, and the ledger."""
    job = {"schema": {"use": "order_flat"}, "time": {"max_disorder": DISORDER}, "window": [WINDOW]}
    job["clean"] = {"duplicates": {"key": ["event_id"], "within": DISORDER}}
    pipeline = Pipeline(parse_job(job))
    outputs = [pipeline.push(stream), pipeline.flush()]
    rows = [row for output in outputs for batch in output.get("sales", []) for row in batch.to_pylist()]
    return {(row["window_start"].strftime("%Y-%m-%dT%H"), row["store_id"]): row for row in rows}, (
        pipeline.metrics()
    )


def check(found: dict[bytes, dict[str, Any]], stream: list[bytes]) -> None:
    wanted, _ = expected(stream)
    got = {(row["window_start"][:13], row["store_id"]): row for row in found.values()}
    assert got.keys() == wanted.keys()
    for key, row in got.items():
        assert row["count"] == wanted[key]["count"], key
        assert row["units_net"] == wanted[key]["units_net"], key
        assert f"{row['net_amount']:.4f}" == str(wanted[key]["net_amount"]), key


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds, which no broker or process tells by itself; fail after `WAIT_S`."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s in vain"
        time.sleep(0.05)
