"""Messages of every format in a topic of a real broker give the same results."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq

from omnistream.job import parse_job
from omnistream.registry import Registry
from omnistream.run import run_job
from tests.conformance.test_avro import encoded, frame
from tests.registry_server import running_registry
from tests.test_message_formats import FLAT, WRITER, json, json_message, orders, stream, table_of


def results(kafka: Any, folder: Any, format_: str, messages: list[bytes], url: str) -> list[dict[str, Any]]:
    topic = kafka.topic(2, name=format_)
    for partition in (0, 1):
        kafka.produce(topic, messages[partition::2], partition)
    config = {"bootstrap.servers": kafka.bootstrap}
    job = parse_job(
        {
            **FLAT,
            "source": {
                "type": "kafka", "topics": topic, "format": format_, "until": "latest", "config": config,
            },
            "schema_registry": {"url": url},
            "time": {"max_disorder": "1h"},
            "sink": [{"output": "sales", "path": str(folder / format_)}],
            "dead_letter": {"type": "parquet", "path": str(folder / f"{format_}-rejects")},
        }
    )  # fmt: skip
    metrics = run_job(job).progress.metrics
    assert metrics.balanced
    assert metrics.rejected_messages == 1
    rejects = pq.read_table(folder / f"{format_}-rejects").to_pylist()
    assert [(each["source"], each["position"]) for each in rejects] == [(topic, len(messages) // 2)]
    rows = pq.read_table(folder / format_).to_pylist()
    return sorted(rows, key=lambda row: (row["window_start"], row["sku"]))


def test_every_format_gives_the_same(kafka: Any, tmp_path: Any) -> None:
    events = orders(400)
    with running_registry() as url:
        id_ = Registry({"url": url}).register("orders-value", json.dumps(WRITER))
        plain = [json_message(each) for each in events]
        expected = results(kafka, tmp_path, "json", [*plain, b"{"], url)
        avro = [frame(id_, encoded(WRITER, each)) for each in events]
        assert results(kafka, tmp_path, "avro", [*avro, frame(99, b"")], url) == expected
        table = table_of(events)
        arrow = [stream(table.slice(start, 40)) for start in range(0, 400, 40)]
        assert results(kafka, tmp_path, "arrow", [*arrow, b"damaged"], url) == expected
    assert len(expected) > 10
