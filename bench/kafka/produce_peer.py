"""Results into a topic: omnistream's Kafka sink, or a loop of orjson and produce().

    python bench/kafka/produce_peer.py omnistream|python_loop BROKERS TOPIC ROWS

Both send the same JSON under the same key for each row, with the same settings of librdkafka. The rows are at
hand as each is used to: a record batch, a list of dicts.
"""

from __future__ import annotations

import json
import sys

import confluent_kafka
import numpy as np
import orjson
import pyarrow as pa
from answers import Clock

from omnistream.job import parse_job
from omnistream.sink.kafka import Producer

ROWS_PER_WRITE = 65_536  # about what one closed minute of a large shop has


def rows(count: int) -> pa.RecordBatch:
    draw = np.random.default_rng(20261111)
    channels = np.array(["app", "store", "tmall", "web"])
    return pa.record_batch(
        {
            "window_start": pa.array(1_794_355_200_000 + 60_000 * np.arange(count) // ROWS_PER_WRITE * 60_000)
            .cast(pa.timestamp("ms"))
            .cast(pa.timestamp("ms", "UTC")),
            "sku": pa.array([f"ST{number:05d}-BLK-{40 + number % 7}" for number in range(count)]),
            "channel": pa.array(channels[draw.integers(0, 4, count)]),
            "count": pa.array(draw.integers(1, 9, count)),
            "units": pa.array(draw.integers(1, 30, count)),
        }
    )


def send_columns(brokers: str, topic: str, batch: pa.RecordBatch, clock: Clock) -> str:
    job = parse_job(
        {
            "job": {"name": "bench", "device": "cpu"},
            "schema": {"use": "order_flat"},
            "producer": {"bootstrap.servers": brokers, "queue.buffering.max.messages": 1_000_000},
            "window": [{"name": "sales", "size": "1m", "keys": ["sku", "channel"], "measures": ["count"]}],
            "sink": [{"output": "sales", "type": "kafka", "topic": topic}],
        }
    )
    producer = Producer(job)
    producer.start([topic])
    sink = producer.sink(job.sinks[0], batch.schema)
    clock.first()
    for at in range(0, batch.num_rows, ROWS_PER_WRITE):
        sink.write(batch.slice(at, ROWS_PER_WRITE))
    sink.flush()
    return "this tree"


def send_objects(brokers: str, topic: str, batch: pa.RecordBatch, clock: Clock) -> str:
    times = batch.column("window_start").cast(pa.int64()).to_pylist()
    objects = batch.drop_columns(["window_start"]).to_pylist()
    producer = confluent_kafka.Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,
            "delivery.report.only.error": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    producer.list_topics(topic, timeout=30)
    headers = [("omnistream.job", b"bench"), ("omnistream.window", b"sales"), ("omnistream.revision", b"0")]
    clock.first()
    for number, (time_ms, values) in enumerate(zip(times, objects, strict=True)):
        start = iso(time_ms)
        key = orjson.dumps(["bench", "sales", start, values["sku"], values["channel"]])
        value = orjson.dumps({"window_start": start, **values})
        while True:
            try:
                producer.produce(topic, value, key, headers=headers)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 1_000 == 0:
            producer.poll(0)
    producer.flush()
    return f"confluent-kafka {confluent_kafka.__version__}"


def iso(time_ms: int, known: dict[int, str] = {}) -> str:  # noqa: B006 - it is a cache
    if time_ms not in known:
        known[time_ms] = str(np.datetime64(time_ms, "ms")) + "Z"
    return known[time_ms]


def main(who: str, brokers: str, topic: str, count: int) -> None:
    batch = rows(count)
    clock = Clock()
    send = {"omnistream": send_columns, "python_loop": send_objects}[who]
    version = send(brokers, topic, batch, clock)
    print(json.dumps(clock.stop(version, count)))


main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
