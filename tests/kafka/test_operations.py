"""Running a Kafka job: results in every format, its figures, its lag, and rejects that are sent back."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pytest
from confluent_kafka import Producer

from omnistream.dead_letters import command as shell
from omnistream.dead_letters import replay
from omnistream.job import parse_job
from omnistream.registry import Registry
from omnistream.run import run_job
from tests.registry_server import running_registry
from tests.test_message_formats import FLAT, json_message, orders
from tests.test_monitoring import DEADLINE_S, free_port, omnistream, wait_for


def job_document(kafka: Any, topic: str, **rest: Any) -> dict[str, Any]:
    config = {"bootstrap.servers": kafka.bootstrap}
    source = {"type": "kafka", "topics": topic, "until": "latest", "config": config}
    return {**FLAT, "source": source, "time": {"max_disorder": "1h"}, **rest}


# ---- results in every format ----


def test_results_in_every_format(kafka: Any) -> None:
    topic = kafka.topic(2, name="orders")
    kafka.produce(topic, [json_message(each) for each in orders(500)])
    topics = {name: kafka.topic(1, name=name) for name in ("json", "avro", "arrow")}
    with running_registry() as url:
        sinks = [
            {"output": "sales", "type": "kafka", "topic": topics[name], "format": name} for name in topics
        ]
        document = job_document(kafka, topic, sink=sinks, schema_registry={"url": url})
        emitted = run_job(parse_job(document)).metrics.emitted["sales"]
        rows = {name: kafka.read(topics[name]) for name in topics}
        schema_id = int.from_bytes(rows["avro"][0].value()[1:5], "big")
        assert Registry({"url": url}).types_of(schema_id) is not None
        writer = json.loads(document_at(f"{url}/schemas/ids/{schema_id}")["schema"])
    plain = [json.loads(each.value()) for each in rows["json"]]
    assert len(plain) == emitted > 10

    parsed = fastavro.parse_schema(writer)
    for message, row in zip(rows["avro"], plain, strict=True):
        assert message.value()[:1] == b"\0"
        read = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), parsed)
        assert (
            read["window_start"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
            == row["window_start"]
        )
        assert read["net_amount"] == Decimal(str(row["net_amount"]))
        assert (read["sku"], read["units_sold"]) == (row["sku"], row["units_sold"])
    assert [each.key() for each in rows["avro"]] == [each.key() for each in rows["json"]]

    unpacked = [pa.ipc.open_stream(each.value()).read_all() for each in rows["arrow"]]
    assert [sku for table in unpacked for sku in table["sku"].to_pylist()] == [row["sku"] for row in plain]
    first_of = {
        row["sku"] + row["window_start"]: message for message, row in zip(rows["json"], plain, strict=True)
    }
    for message, table in zip(rows["arrow"], unpacked, strict=True):
        start = table["window_start"][0].as_py().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        assert message.key() == first_of[table["sku"][0].as_py() + start].key()


def document_at(url: str) -> Any:
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def test_a_schema_that_the_registry_refuses_ends_the_job(kafka: Any) -> None:
    topic = kafka.topic(1, name="orders")
    results = kafka.topic(1, name="incompatible")
    with running_registry() as url:
        sink = {"output": "sales", "type": "kafka", "topic": results, "format": "avro"}
        job = parse_job(job_document(kafka, topic, sink=[sink], schema_registry={"url": url}))
        with pytest.raises(Exception, match="cannot be registered: Schema is incompatible"):
            run_job(job)


# ---- a running job ----

JOB = """
[job]
name = "{name}"
[source]
type = "kafka"
topics = "{topic}"
[source.config]
"bootstrap.servers" = "{bootstrap}"
[schema]
use = "order_flat"
[[window]]
name = "sales"
size = "1m"
keys = ["sku"]
measures = ["count"]
[[sink]]
output = "sales"
type = "kafka"
topic = "{results}"
[dead_letter]
type = "kafka"
topic = "{letters}"
[checkpoint]
path = "checkpoint"
interval = "500ms"
delivery = "exactly_once"
"""


def command(*arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "omnistream", *arguments, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ends_of(job: Path) -> list[int]:
    return [each["end"] for each in command("lag", str(job))["partitions"]]


def run_until(job: Path, messages: int) -> dict[tuple[str, ...], float]:
    """Run a job until it has counted so many messages and has no lag; then stop it by SIGTERM."""
    port = free_port()
    arguments = ("run", str(job), "--metrics-port", str(port), "--log-format", "json")
    with omnistream(*arguments, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        try:

            def done(figures: dict[tuple[str, ...], float]) -> bool:
                lags = [
                    value for key, value in figures.items() if key[0] == "omnistream_partition_lag_messages"
                ]
                return figures["omnistream_messages_total",] == messages and lags == [0.0, 0.0]

            figures = wait_for(port, done)
            process.send_signal(signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        finally:
            process.kill()
        lines = [json.loads(line) for line in process.stderr]
    assert lines[-1]["message"] == "job ended"
    assert lines[-1]["stopped_by"] == "SIGTERM"
    return figures


def test_a_job_is_watched_and_its_rejects_are_sent_back(kafka: Any, tmp_path: Path) -> None:
    topic, results = kafka.topic(2, name="orders"), kafka.topic(1, name="sales")
    letters = kafka.topic(1, name="rejects")
    file = tmp_path / "job.toml"
    names = {"name": topic, "topic": topic, "results": results, "letters": letters}
    file.write_text(JOB.format(bootstrap=kafka.bootstrap, **names))

    before = command("lag", str(file))
    assert before["lag"] == 0
    assert [each["committed"] for each in before["partitions"]] == [None, None]

    good = [json_message(each) for each in orders(20)]
    no_sku = [json.dumps({**json.loads(each), "sku": None}).encode() for each in good[:3]]
    kafka.produce(topic, [*good[:10], *no_sku[:2]], 0)
    kafka.produce(topic, [*good[10:], no_sku[2], b"{"], 1, keys=[b"\xff%d" % number for number in range(12)])
    figures = run_until(file, 24)
    assert figures["omnistream_rejects_total", "null_field"] == 3
    assert figures["omnistream_partition_position", "1", topic] == 12

    after = command("lag", str(file))
    assert [each["committed"] for each in after["partitions"]] == [12, 12]
    assert after["lag"] == 0
    assert all(each["snapshot"].startswith("0/") for each in after["partitions"])
    kafka.produce(topic, good[:1], 0)
    assert command("lag", str(file))["lag"] == 1

    # A dry run counts and sends nothing.
    counts = {"chosen": {"null_field": 3, "truncated_json": 1}, "left_out": {}, "failed": 0, "sent": 0}
    assert command("dlq", "replay", str(file)) == counts
    assert ends_of(file) == [13, 12]
    mend = ("--mend", 'sku="MENDED"', "--reason", "null_field", "--reason", "truncated_json")
    sent = command("dlq", "replay", str(file), *mend, "--send")
    assert sent == {**counts, "failed": 1, "sent": 3}
    assert ends_of(file) == [15, 13]
    assert command("dlq", "replay", str(file), "--send")["chosen"] == {}
    assert sum(command("dlq", "replay", str(file), "--again")["chosen"].values()) == 4
    message = kafka.read(topic)[-1]
    assert json.loads(message.value())["sku"] == "MENDED"
    assert message.key() == b"\xff10"
    assert {each.key() for each in kafka.read(letters)} == {None, b"\xff10", b"\xff11"}
    assert dict(message.headers())["omnistream.replayed"] == f"{topic}[1]@10".encode()

    figures = run_until(file, 28)
    assert figures["omnistream_rejects_total", "null_field"] == 3


def test_dead_letters_of_a_file_are_sent_back(kafka: Any, tmp_path: Path) -> None:
    topic, target = kafka.topic(1, name="orders"), kafka.topic(1, name="mended")
    messages = [b"{", b"\xff\xfe", *(json_message(each) for each in orders(2))]
    kafka.produce(topic, messages, keys=[b"\xfe", b"", b"a", b"b"])
    document = job_document(kafka, topic, producer={"bootstrap.servers": kafka.bootstrap})
    for kind in ("ndjson", "parquet"):
        path = tmp_path / kind / "rejects"
        path.parent.mkdir()
        job = parse_job({**document, "dead_letter": {"type": kind, "path": str(path)}})
        run_job(job)

        done = replay(job, corrections=[shell("grep -a '{' && echo mended")], to=target, send=True)
        assert (sum(done.chosen.values()), done.failed, done.sent) == (2, 1, 1)
    assert [(each.key(), each.value()) for each in kafka.read(target)] == [(b"\xfe", b"{\nmended\n")] * 2


def test_letters_of_a_transaction_wait_for_its_commit(kafka: Any) -> None:
    topic, letters, target = (kafka.topic(1, name=name) for name in ("orders", "letters", "mended"))
    job = parse_job(
        job_document(
            kafka,
            topic,
            producer={"bootstrap.servers": kafka.bootstrap},
            dead_letter={"type": "kafka", "topic": letters},
        )
    )

    def letter(value: bytes, at: int) -> dict[str, Any]:
        place = {
            "source": topic,
            "partition": "0",
            "offset": str(at),
            "stage": "decode",
            "reason": "truncated_json",
        }
        headers = {f"omnistream.{name}": text.encode() for name, text in place.items()}
        return {"topic": letters, "value": value, "headers": headers}

    producer = Producer(kafka.client | {"transactional.id": letters})
    producer.init_transactions()
    for value, decide in (
        (b"taken back", producer.abort_transaction),
        (b"kept", producer.commit_transaction),
    ):
        producer.begin_transaction()
        producer.produce(**letter(value, 0))
        producer.flush()
        assert replay(job, to=target, send=True).sent == 0
        decide()
    assert replay(job, to=target, send=True).sent == 1
    assert replay(job, to=target, send=True).sent == 0
    assert [each.value() for each in kafka.read(target)] == [b"kept"]
