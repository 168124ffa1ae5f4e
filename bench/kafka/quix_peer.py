"""Quix Streams: a tumbling window over messages that are keyed by SKU and channel already.

Its windows close when a later message of the same partition comes, so those of the last minutes stay open:
the answer has the windows that were closed, and the driver compares just these.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import logging
import sys
import tempfile
import threading
import time
from typing import Any

import orjson
from answers import MAX_DISORDER_MS, Clock
from quixstreams import Application

clock = Clock()
closed: dict[str, list[float]] = {}
count = 0


def decode(value: bytes, *_: Any) -> Any:
    global count
    clock.first()
    count += 1
    return orjson.loads(value)


def event_time_ms(value: Any, *_: Any) -> int:
    return int(dt.datetime.fromisoformat(value["event_time"]).timestamp() * 1_000)


def first(event: Any) -> list[float]:
    return add([0, 0, 0.0], event)


def add(sums: list[float], event: Any) -> list[float]:
    amount = event["qty"] * event["unit_price"] * (1 - event["discount"])
    return [sums[0] + 1, sums[1] + event["qty"], sums[2] + amount]


def keep(result: Any, key: Any, *_: Any) -> None:
    name = key.decode() if isinstance(key, bytes) else key
    closed[f"{result['start']}|{name}"] = result["value"]


def stop_after(app: Application, messages: int) -> None:
    while count < messages:
        time.sleep(0.01)
    app.stop()


def main(brokers: str, topic: str, messages: int) -> None:
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=brokers,
            consumer_group=f"quix-{topic}-{dt.datetime.now().timestamp()}",
            auto_offset_reset="earliest",
            state_dir=state,
            loglevel=logging.ERROR,
            topic_create_timeout=30,
        )
        events = app.dataframe(app.topic(topic, value_deserializer="bytes", key_deserializer="bytes")).apply(
            decode
        )
        events = events.set_timestamp(lambda value, *rest: event_time_ms(value))
        events = events[events.apply(lambda event: event["unit_price"] >= event["unit_cost"])]
        windows = events.tumbling_window(60_000, grace_ms=MAX_DISORDER_MS).reduce(add, first)
        windows.final(closing_strategy="partition").update(keep, metadata=True)
        threading.Thread(target=stop_after, args=(app, messages), daemon=True).start()
        app.run()
        result = clock.stop(f"quixstreams {importlib.metadata.version('quixstreams')}", count)
    print(json.dumps(result | {"closed": closed}))


main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
