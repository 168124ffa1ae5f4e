"""Bytewax: KafkaSource, orjson, fold_window in event time."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import sys
from typing import Any

import bytewax.operators as op
import bytewax.operators.windowing as win
import orjson
from answers import MAX_DISORDER_MS, Clock, digest
from bytewax._bytewax import run_main
from bytewax.connectors.kafka import KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, TumblingWindower
from bytewax.outputs import DynamicSink, StatelessSinkPartition

EPOCH = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
EPOCH_MS = int(EPOCH.timestamp() * 1_000)
closed: dict[Any, list[float]] = {}
clock = Clock()
count = 0


class Collect(StatelessSinkPartition):
    def write_batch(self, items: list[Any]) -> None:
        for key, (window, sums) in items:
            sku, _, channel = key.partition("|")
            closed[EPOCH_MS + window * 60_000, sku, channel] = sums


class Sink(DynamicSink):
    def build(self, step_id: str, worker_index: int, worker_count: int) -> Collect:
        return Collect()


def event_of(message: Any) -> Any:
    global count
    clock.first()
    count += 1
    event = orjson.loads(message.value)
    if event["unit_price"] < event["unit_cost"]:
        return None
    amount = event["qty"] * event["unit_price"] * (1 - event["discount"])
    moment = dt.datetime.fromisoformat(event["event_time"])
    return f"{event['sku']}|{event['channel']}", (moment, event["qty"], amount)


def fold(sums: list[float], event: Any) -> list[float]:
    sums[0] += 1
    sums[1] += event[1]
    sums[2] += event[2]
    return sums


def merge(one: list[float], other: list[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)]


def main(brokers: str, topic: str) -> None:
    flow = Dataflow("windows")
    source = KafkaSource([brokers], [topic], tail=False, batch_size=5_000)
    events = op.filter_map("event", op.input("in", flow, source), event_of)
    wait = dt.timedelta(milliseconds=MAX_DISORDER_MS)
    windows = win.fold_window(
        "windows",
        events,
        EventClock(lambda event: event[0], wait_for_system_duration=wait),
        TumblingWindower(length=dt.timedelta(minutes=1), align_to=EPOCH),
        lambda: [0, 0, 0.0],
        fold,
        merge,
    )
    op.output("out", windows.down, Sink())
    run_main(flow)
    result = clock.stop(f"bytewax {importlib.metadata.version('bytewax')}", count)
    print(json.dumps(result | {"answer": digest(closed)}))


main(sys.argv[1], sys.argv[2])
