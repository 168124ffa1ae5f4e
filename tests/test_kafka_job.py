"""What a job may say of Kafka, and what it is told when it is wrong. No broker is asked."""

from __future__ import annotations

import copy
import datetime as dt
from typing import Any

import pytest

from omnistream.errors import JobError
from omnistream.job import parse_job
from omnistream.sink.kafka import result_key

JOB: dict[str, Any] = {
    "job": {"name": "shop"},
    "source": {"type": "kafka", "topics": "orders", "config": {"bootstrap.servers": "broker:9092"}},
    "schema": {"use": "order_flat"},
    "window": [{"name": "sales", "size": "1m", "keys": ["sku"], "measures": ["count"]}],
    "sink": [{"output": "sales", "type": "kafka", "topic": "sales"}],
}


def job_with(**changes: Any) -> dict[str, Any]:
    """JOB with keys set: ``source__start="latest"``."""
    job = copy.deepcopy(JOB)
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = job
        for key in parents:
            node = node.setdefault(key, {})
        node[last] = value
    return job


def mistakes(**changes: Any) -> str:
    with pytest.raises(JobError) as raised:
        parse_job(job_with(**changes))
    return str(raised.value)


def test_defaults() -> None:
    job = parse_job(JOB)
    assert job.source is not None
    assert job.source.kafka is not None
    assert job.source.format == "json"
    assert job.source.kafka.topics == ("orders",)
    assert (job.source.kafka.start, job.source.kafka.until, job.source.kafka.member) == ("earliest", "", "0")
    assert job.time.idle_timeout_ms == 60_000
    assert not job.exactly_once


def test_a_run_with_an_end_waits_for_its_partitions_unless_told_otherwise() -> None:
    assert parse_job(job_with(source__until="latest")).time.idle_timeout_ms == 0
    job = parse_job(job_with(source__until="latest", time__idle_timeout="5s"))
    assert job.time.idle_timeout_ms == 5_000


def test_dots_of_a_setting_need_no_quotes() -> None:
    config = {
        "bootstrap": {"servers": "a:1"},
        "sasl": {"mechanism": "PLAIN"},
        "socket.keepalive.enable": True,
    }
    job = parse_job(job_with(source__config=config))
    assert job.source is not None
    assert job.source.kafka is not None
    assert job.source.kafka.config == (
        ("bootstrap.servers", "a:1"),
        ("sasl.mechanism", "PLAIN"),
        ("socket.keepalive.enable", "true"),
    )


def test_the_producer_reaches_the_cluster_as_the_source_does() -> None:
    config = {"bootstrap.servers": "a:1", "security.protocol": "SSL", "fetch.min.bytes": 7}
    job = parse_job(
        job_with(source__config=config, producer={"linger.ms": 5, "security.protocol": "PLAINTEXT"})
    )
    assert dict(job.producer) == {
        "linger.ms": "5",
        "security.protocol": "PLAINTEXT",
        "bootstrap.servers": "a:1",
    }


def test_a_file_job_names_the_brokers_of_its_sinks(tmp_path: Any) -> None:
    (tmp_path / "a.ndjson").write_text("")
    source = {"path": str(tmp_path / "a.ndjson")}
    assert 'producer: has no bootstrap.servers; add [producer] with "bootstrap.servers"' in mistakes(
        source=source
    )
    job = parse_job(job_with(source=source, producer={"bootstrap.servers": "a:1"}))
    assert dict(job.producer) == {"bootstrap.servers": "a:1"}


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("stored", "stored"),
        ("latest", "latest"),
        ("1970-01-01T00:00:02Z", 2_000),
        (dt.datetime(1970, 1, 1, 0, 0, 2, tzinfo=dt.UTC), 2_000),
    ],
)
def test_start(start: Any, expected: Any) -> None:
    job = parse_job(job_with(source__start=start))
    assert job.source is not None
    assert job.source.kafka is not None
    assert job.source.kafka.start == expected


def test_until_names_first_offsets_that_are_not_read() -> None:
    job = parse_job(job_with(source__until={"orders[0]": 7, "orders[12]": 0}))
    assert job.source is not None
    assert job.source.kafka is not None
    assert job.source.kafka.until == (("orders", 0, 7), ("orders", 12, 0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source__topics": []}, "source.topics: is missing"),
        ({"source__topics": "my orders"}, '"my orders" cannot be a topic\'s name'),
        ({"source__topics": "^orders("}, "is no pattern"),
        ({"source__config": {}}, "source.config: has no bootstrap.servers"),
        (
            {"source__config__enable.auto.commit": True},
            "source.config.enable.auto.commit: is not yours to set",
        ),
        ({"source__config__x": [1]}, "source.config.x: [1] is no setting"),
        ({"source__start": "yesterday"}, '"yesterday" is no place to start'),
        ({"source__until": "never"}, '"never" is no end'),
        ({"source__until": {"orders": 1}}, "is no end of a partition"),
        ({"source__until": {"orders[0]": -1}}, "is no end of a partition"),
        ({"source__columns": {"k": "value"}}, '"value" is nothing that a message has'),
        ({"source__columns": {"sku": "key"}}, "source.columns.sku: the schema has a column of this name"),
        ({"source__member": "a/b"}, "has other than letters"),
        ({"source__format": "xml"}, '"xml" is not known'),
        ({"source__group": "g"}, "source.group: is not a known key"),
        ({"sink": [{"output": "sales", "type": "kafka"}]}, "topic: is missing"),
        ({"sink": [{"output": "sales", "type": "kafka", "topic": "s", "path": "x"}]}, "makes no sense"),
        ({"sink": [{"output": "sales", "type": "kafka", "topic": "s", "key": "nope"}]}, "is not a column"),
        ({"dead_letter": {"type": "kafka", "topic": "sales"}}, 'writes to "sales", too'),
        ({"checkpoint": {"path": "ck", "delivery": "maybe"}}, '"maybe" is not known'),
        (
            {"sink": [], "checkpoint": {"path": "ck", "delivery": "exactly_once"}},
            "checkpoint.delivery: no sink can take part in a transaction",
        ),
    ],
)
def test_mistakes(changes: dict[str, Any], expected: str) -> None:
    assert expected in mistakes(**changes)


def test_exactly_once_is_for_kafka_input(tmp_path: Any) -> None:
    (tmp_path / "a.ndjson").write_text("")
    told = mistakes(
        source={"path": str(tmp_path / "a.ndjson")},
        producer={"bootstrap.servers": "a:1"},
        checkpoint={"path": "ck", "delivery": "exactly_once"},
    )
    assert "a transaction needs offsets of Kafka to carry" in told


def test_what_is_read_to_its_end_is_not_waited_for(tmp_path: Any) -> None:
    (tmp_path / "a.ndjson").write_text("")
    packed = {"type": "stdin", "compression": "gzip"}
    for source in ({"path": str(tmp_path / "a.ndjson")}, packed, None):
        told = mistakes(source=source, time__idle_timeout="1m", sink=[])
        assert "time.idle_timeout: only topics and plain lines on standard input are waited for" in told


def test_columns_of_messages_are_columns_of_rows() -> None:
    columns = {
        "sent": "timestamp",
        "at": "offset",
        "shard": "partition",
        "k": "key",
        "trace": "header:trace-id",
    }
    window = [{"name": "sales", "size": "1m", "keys": ["k", "shard"], "measures": ["count", "max(at)"]}]
    job = parse_job(job_with(source__columns=columns, time__column="sent", window=window))
    assert job.message_columns == {
        "sent": "timestamp",
        "at": "int64",
        "shard": "int32",
        "k": "string",
        "trace": "string",
    }


def test_the_key_of_a_result_is_what_names_it() -> None:
    import pyarrow as pa

    from omnistream.pipeline import Pipeline

    job = parse_job(JOB)
    schemas = Pipeline(job).schemas()
    assert result_key(job, "sales", schemas["sales"], ()) == ["window_start", "sku"]
    assert result_key(job, "sales", schemas["sales"], ("sku",)) == ("sku",)
    assert result_key(job, "rows", schemas["rows"], ()) is None
    assert isinstance(schemas["rows"], pa.Schema)
