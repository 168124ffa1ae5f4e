"""One stream gives the same results from a topic and from a file; so does the example that newcomers run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from omnistream import _core
from omnistream.job import load_job, parse_job
from omnistream.run import RunResult, run_job
from tests.kafka.broker import ROOT, Cluster
from tests.kafka.topics import Kafka

DEADLINE_S = 60


def generated(events: int, **spec: Any) -> list[bytes]:
    generator = _core.Generator(events=events, seed=7, **spec)
    lines: list[bytes] = []
    while (block := generator.next(1 << 20)) is not None:
        lines += block.splitlines()
    return lines


# --- a topic and a file ---------------------------------------------------------------------------

OUTPUTS = ("by_hour", "by_day", "demand", "rows")
JOB: dict[str, Any] = {
    "job": {"name": "same"},
    "schema": {"use": "order_flat"},
    "time": {"max_disorder": "5s"},  # less than the stream's, so that some rows are late
    "clean": {
        "rule": [{"check": "price_below_cost"}, {"check": "positive_quantity"}],
        "duplicates": {"key": ["event_id"], "within": "1h"},
    },
    "window": [
        {"name": "by_hour", "size": "1h", "keys": ["store_id", "channel"],
         "measures": ["count", "units_net", "net_amount", "mean(unit_price)", "distinct(sku)"]},
        {"name": "by_day", "size": "1d", "keys": ["sku"], "measures": ["units_sold"]},
    ],
    "derive": [{"name": "demand", "kind": "demand", "from": "by_day", "demand": "units_sold",
                "horizon_days": 3, "service_level": 0.95, "lead_time_days": 2}],
}  # fmt: skip


def ledger(result: RunResult) -> dict[str, Any]:
    counts = result.metrics.to_dict()
    assert counts["late"] > 0
    assert counts["rejected_messages"] > 0
    assert counts["duplicates"] > 0
    return {
        name: counts[name] for name in ("messages", "decoded", "rows", "aggregated", "rejects", "emitted")
    }


def test_a_topic_gives_the_results_of_a_file(kafka: Kafka, tmp_path: Path) -> None:
    stream = generated(20_000, dirt=0.01, duplicates=0.01, disorder_ms=20_000, span_ms=4 * 86_400_000)
    file = tmp_path / "orders.ndjson"
    file.write_bytes(b"\n".join(stream) + b"\n")
    sinks = [{"output": name, "type": "ndjson", "path": str(tmp_path / f"{name}.ndjson")} for name in OUTPUTS]
    letters = tmp_path / "rejects.ndjson"
    from_file = run_job(
        parse_job(
            {**JOB, "source": {"path": str(file)}, "sink": sinks, "dead_letter": {"path": str(letters)}}
        )
    )

    source = kafka.topic(name="orders")
    topics = dict(zip(OUTPUTS, kafka.topics(dict.fromkeys(OUTPUTS, 1)), strict=True))
    rejects = kafka.topic(name="rejects")
    kafka.produce(source, stream)
    from_topic = run_job(
        parse_job(
            {
                **JOB,
                "source": {"type": "kafka", "topics": source, "until": "latest", "batch_bytes": "64 KiB",
                           "config": kafka.client},
                "sink": [{"output": name, "type": "kafka", "topic": topic} for name, topic in topics.items()],
                "dead_letter": {"type": "kafka", "topic": rejects},
                "checkpoint": {"path": str(tmp_path / "state"), "interval": "500ms",
                               "delivery": "exactly_once"},
            }
        )
    )  # fmt: skip

    assert ledger(from_topic) == ledger(from_file)
    for name in OUTPUTS:
        found = [message.value() for message in kafka.read(topics[name])]
        assert len(found) > 100, name
        # The batches differ, and with them how rows that become final together are ordered.
        assert sorted(found) == sorted((tmp_path / f"{name}.ndjson").read_bytes().splitlines()), name
    records = map(json.loads, letters.read_bytes().splitlines())
    of_file = [(each["position"] - 1, each["stage"], each["reason"], each["field"]) for each in records]
    assert sorted(map(place_of, kafka.read(rejects)), key=repr) == sorted(of_file, key=repr)


def place_of(letter: Any) -> tuple[Any, ...]:
    headers = {name.removeprefix("omnistream."): value.decode() for name, value in letter.headers()}
    return int(headers["offset"]), headers["stage"], headers["reason"], headers.get("field")


# --- the example ----------------------------------------------------------------------------------

ADDRESS = '"bootstrap.servers" = "localhost:9092"'


def test_the_example_runs_after_one_line_is_edited(
    kafka: Kafka, own_cluster: Cluster, tmp_path: Path
) -> None:
    lines = (ROOT / "examples" / "kafka.toml").read_text().splitlines()
    edited = [line.replace(ADDRESS, f'"bootstrap.servers" = "{kafka.bootstrap}"') for line in lines]
    assert sum(old != new for old, new in zip(lines, edited, strict=True)) == 1
    job = tmp_path / "examples" / "kafka.toml"
    job.parent.mkdir()
    job.write_text("\n".join(edited))
    spec = load_job(job)
    assert spec.source is not None
    assert spec.source.kafka is not None
    assert spec.dead_letter is not None
    (topic,), results, letters = spec.source.kafka.topics, spec.sinks[0].topic, spec.dead_letter.topic

    stream = generated(20_000, dirt=0.01)
    with kafka.named_topics({topic: 1, results: 1, letters: 1}):
        kafka.produce(topic, stream)
        command = [sys.executable, "-m", "omnistream", "run", str(job), "--set", "checkpoint.interval=200ms"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
            try:
                deadline = time.monotonic() + DEADLINE_S
                while not (found := [message.value() for message in kafka.read(results)]):
                    assert process.poll() is None, process.stderr and process.stderr.read()
                    assert time.monotonic() < deadline, "no result"
                process.send_signal(signal.SIGTERM)
                assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
            finally:
                process.kill()
        assert (tmp_path / "out" / "sales-by-minute").is_dir()
        found = [message.value() for message in kafka.read(results)]
    assert set(found) <= set(results_of_a_file(job, stream, tmp_path))
    assert len(found) == len(set(found))


def results_of_a_file(job: Path, stream: Iterable[bytes], folder: Path) -> list[bytes]:
    """Run the job with a file in place of each topic."""
    (folder / "orders.ndjson").write_bytes(b"\n".join(stream) + b"\n")
    document = tomllib.loads(job.read_text())
    document["source"] = {"path": str(folder / "orders.ndjson")}
    del document["time"]["idle_timeout"], document["checkpoint"]
    document["sink"][0] = {"output": "sales", "type": "ndjson", "path": str(folder / "sales.ndjson")}
    document["dead_letter"] = {"type": "ndjson", "path": str(folder / "rejects.ndjson")}
    run_job(parse_job(document))
    return (folder / "sales.ndjson").read_bytes().splitlines()
