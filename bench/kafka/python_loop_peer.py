"""confluent-kafka-python's consume() and orjson: an object per message."""

from __future__ import annotations

import json
import sys

import confluent_kafka
import orjson
from answers import Clock, Windows, digest

SHORT = 200_000  # messages, of which all windows are told


def main(brokers: str, topic: str, messages: int, settings: dict[str, str]) -> None:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "python-loop",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "queued.min.messages": 100_000,
            "queued.max.messages.kbytes": 65_536,
            "fetch.queue.backoff.ms": 20,
            **settings,
        }
    )
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    windows, clock, count = Windows(), Clock(), 0
    while count < messages:
        batch = consumer.consume(10_000, timeout=0.2 if count else 30)
        if batch:
            clock.first()
        for message in batch:
            if message.error() is None:
                windows.add(orjson.loads(message.value()))
                count += 1
    windows.finish()
    result = clock.stop(f"confluent-kafka {confluent_kafka.__version__}", count)
    result["answer"] = digest(windows.closed)
    if count <= SHORT:
        result["closed"] = {"|".join(map(str, key)): sums for key, sums in windows.closed.items()}
    print(json.dumps(result))


more = dict(setting.split("=", 1) for setting in sys.argv[4:])
main(sys.argv[1], sys.argv[2], int(sys.argv[3]), more)
