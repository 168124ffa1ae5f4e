"""Jobs from Kafka to Kafka on a real broker: what goes in comes out, once, whatever happens between."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import Producer

from omnistream.errors import OmnistreamError, SinkError, SourceError
from omnistream.pipeline import Metrics
from omnistream.placement import LAUNCHER_VARIABLE
from tests.kafka.broker import USERS, Cluster
from tests.kafka.jobs import PARTITIONS, WINDOW, check, expected, job_of, orders, results, run, store_of
from tests.kafka.topics import Kafka

pytestmark = pytest.mark.usefixtures("progress_after_every_poll")

# --- what goes in comes out -----------------------------------------------------------------------


def test_a_device_takes_blocks_of_a_topic(
    kafka: Kafka, stream: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "host")
    some = stream[:3_000]
    topic = kafka.topic(PARTITIONS, "orders")
    kafka.produce(topic, some, keys=map(store_of, some))
    job = job_of(kafka, topic, tmp_path, job__device="cuda")
    done = run(job)
    check(results(kafka, job), some)
    _, wanted = expected(some)
    assert done.metrics.balanced
    assert 0 < done.metrics.rejected_messages <= done.metrics.left_to_cpu < 100
    for name in ("messages", "decoded", "rows", "duplicates", "late", "aggregated", "rejects"):
        assert getattr(done.metrics, name) == getattr(wanted, name), name
    letters = Counter(message.value() for message in kafka.read(job["dead_letter"]["topic"]))
    assert letters.total() == wanted.rejected_messages + wanted.duplicates
    assert letters <= Counter(some)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once", None])
def test_the_same_results_as_from_a_list(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path, delivery: str | None
) -> None:
    job = job_of(kafka, source, tmp_path)
    job["checkpoint"] = {**job["checkpoint"], "delivery": delivery} if delivery else None
    if delivery is None:
        del job["checkpoint"]
    metrics = run(job).metrics
    _, wanted = expected(stream)
    assert metrics.balanced
    for count in ("messages", "rows", "aggregated", "duplicates", "rejects", "late"):
        assert getattr(metrics, count) == getattr(wanted, count), count
    check(results(kafka, job), stream)


def test_a_result_says_what_it_is(kafka: Kafka, source: str, tmp_path: Path) -> None:
    job = job_of(kafka, source, tmp_path)
    run(job)
    message = kafka.read(job["sink"][0]["topic"])[0]
    row = json.loads(message.value())
    assert json.loads(message.key()) == [job["job"]["name"], "sales", row["window_start"], row["store_id"]]
    assert dict(message.headers()) == {
        "omnistream.job": job["job"]["name"].encode(),
        "omnistream.window": b"sales",
        "omnistream.revision": b"0",
    }


def test_rejects_keep_their_bytes_and_say_where_they_stood(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path
) -> None:
    job = job_of(kafka, source, tmp_path)
    metrics = run(job).metrics
    letters = kafka.read(job["dead_letter"]["topic"])
    assert (
        len(letters) == metrics.rejected_messages + metrics.rejected_rows + metrics.duplicates + metrics.late
    )
    sent = {(m.partition(), m.offset()): (m.key(), m.value()) for m in kafka.read(source)}
    for letter in letters:
        headers = {name.removeprefix("omnistream."): value.decode() for name, value in letter.headers()}
        assert headers["source"] == source
        assert (letter.key(), letter.value()) == sent[int(headers["partition"]), int(headers["offset"])]
        assert headers["stage"] in ("decode", "clean")
        assert headers["reason"]


def test_what_a_message_carries_can_be_columns(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(**{"retention.ms": "-1"})  # messages of 1970, which a broker soon removes
    producer = Producer(kafka.client)
    lines = orders(4)
    for number, line in enumerate(lines):
        headers = {"trace": f"t{number}"} if number % 2 else None
        producer.produce(
            topic, line, key=b"\xff" if number == 3 else b"k", headers=headers, timestamp=1_000 + number
        )
    producer.flush()
    columns = {"k": "key", "sent": "timestamp", "shard": "partition", "at": "offset", "trace": "header:trace"}
    window = {"name": "sales", "size": "1s", "keys": ["k"], "measures": ["count", "max(at) as newest"]}
    job = job_of(kafka, topic, tmp_path, source__columns=columns, time__column="sent", window=[window])
    job["sink"].append({"output": "rows", "type": "ndjson", "path": str(tmp_path / "rows.ndjson")})
    run(job)
    rows = [json.loads(line) for line in (tmp_path / "rows.ndjson").read_text().splitlines()]
    assert [[row[name] for name in columns] for row in rows] == [
        ["k", "1970-01-01T00:00:01.000Z", 0, 0, None],
        ["k", "1970-01-01T00:00:01.001Z", 0, 1, "t1"],
        ["k", "1970-01-01T00:00:01.002Z", 0, 2, None],
        [None, "1970-01-01T00:00:01.003Z", 0, 3, "t3"],
    ]
    found = sorted((row["count"], row["newest"]) for row in results(kafka, job).values())
    assert found == [(1, 3), (3, 2)]


def test_tombstones_are_passed_over(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    producer = Producer(kafka.client)
    for value in (None, orders(1)[0], None):
        producer.produce(topic, value, key=b"k")
    producer.flush()
    assert run(job_of(kafka, topic, tmp_path)).metrics.messages == 1


# --- where a run starts and ends --------------------------------------------------------------------


def test_start_and_until(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(**{"retention.ms": "-1"})  # messages of 1970, which a broker soon removes
    producer = Producer(kafka.client)
    for number, line in enumerate(orders(10)):
        producer.produce(topic, line, timestamp=1_000_000 + number * 1_000)
    producer.flush()

    def count(**changes: Any) -> int:
        return run(job_of(kafka, topic, tmp_path, checkpoint=None, **changes)).metrics.messages

    assert count() == 10
    assert count(source__start="1970-01-01T00:16:44.500Z") == 5
    assert count(source__until={f"{topic}[0]": 7}) == 7
    assert count(source__start="1970-01-01T00:16:42Z", source__until={f"{topic}[0]": 7}) == 5
    assert count(source__start="latest") == 0
    with pytest.raises(SourceError, match="the group has no stored offset"):
        count(source__start="stored")


def test_topics_by_pattern(kafka: Kafka, tmp_path: Path) -> None:
    name = kafka.topic(name="base")
    for number in (1, 2):
        topic = kafka.topic(name=f"{name}-{number}")
        kafka.produce(topic, orders(5))
    job = job_of(kafka, f"^{name}-", tmp_path)
    assert run(job).metrics.messages == 10


def test_transactions_of_others_are_read_when_they_are_committed(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    producer = Producer(kafka.client | {"transactional.id": topic})
    producer.init_transactions()
    for line, end in zip(orders(2), (producer.abort_transaction, producer.commit_transaction), strict=True):
        producer.begin_transaction()
        producer.produce(topic, line)
        producer.flush()
        end()
    # The last offset is the marker of the commit, which no reader ever sees.
    assert run(job_of(kafka, topic, tmp_path)).metrics.messages == 1


# --- silence ----------------------------------------------------------------------------------------


def test_a_silent_partition_holds_no_window_open(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    kafka.produce(topic, orders(2_000), partition=0)
    job = job_of(kafka, topic, tmp_path, source__until=None)
    job["time"] = {"max_disorder": "0s", "idle_timeout": "300ms"}
    job["window"] = [{**WINDOW, "size": "1s"}]
    assert run(job, until=lambda metrics: metrics.emitted.get("sales", 0) > 0).metrics.balanced


def test_a_silent_stream_closes_its_last_window(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    kafka.produce(topic, orders(5, span_ms=400))
    job = job_of(kafka, topic, tmp_path, source__until=None)
    job["time"] = {"max_disorder": "0s", "idle_timeout": "300ms"}
    job["window"] = [{**WINDOW, "size": "1s"}]

    def all_closed(metrics: Metrics) -> bool:
        return metrics.messages == 5 and metrics.windows_open == 0

    run(job, until=all_closed)
    assert sum(row["count"] for row in results(kafka, job).values()) == 5


# --- trouble ----------------------------------------------------------------------------------------


def test_topics_that_are_not_there_are_named(kafka: Kafka, source: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"kafka topic nowhere: there is none; create it"):
        run(job_of(kafka, "nowhere", tmp_path))
    sink = [{"output": "sales", "type": "kafka", "topic": topic} for topic in ("nowhere-either", "nor-here")]
    with pytest.raises(
        SinkError, match=r"kafka topic nowhere-either, nor-here: there is none.*create --topic nor-here"
    ):
        run(job_of(kafka, source, tmp_path, sink=sink))


def test_a_user_without_leave_is_told(
    kafka: Kafka, own_cluster: Cluster, source: str, tmp_path: Path
) -> None:
    def as_user(name: str, password: str) -> dict[str, Any]:
        config = {
            "bootstrap.servers": own_cluster.sasl_bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": name,
            "sasl.password": password,
            "socket.timeout.ms": 5_000,
        }
        return job_of(
            kafka, source, tmp_path, source__config=config, sink=[], dead_letter=None, checkpoint=None
        )

    assert run(as_user("admin", USERS["admin"])).metrics.messages > 0
    with pytest.raises(SourceError, match=r"there is none; create it, or mend source.topics|authoriz"):
        run(as_user("stranger", USERS["stranger"]))


def test_a_result_that_is_too_large_ends_the_run(kafka: Kafka, source: str, tmp_path: Path) -> None:
    topic = kafka.topic(1, "small", **{"max.message.bytes": "200"})
    sink = [{"output": "sales", "type": "kafka", "topic": topic}]
    with pytest.raises(OmnistreamError, match=r"raise message\.max\.bytes"):
        run(job_of(kafka, source, tmp_path, sink=sink))
    assert kafka.read(topic) == []
