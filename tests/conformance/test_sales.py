"""sales: a correction finds its sale, however the stream is cut, and from a snapshot."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from tests.conformance.test_window import END_MS, SCHEMA, assert_same_windows, measures
from tests.engines import CpuEngine, ReferenceEngine
from tests.strategies import EVENT_TYPES, HOUR_MS, START_MS, batches, events

MINUTE_MS = 60_000
CORRECTED = ["returned", "cancelled"]


def run(
    engine: Any, parts: list[list[bytes]], options: dict[str, Any], lateness_ms: int, restart: bool = False
) -> list[Any]:
    """Return the sale times of all rows and the closed windows."""
    decoder, watermark = engine.decoder(SCHEMA), engine.watermark(HOUR_MS // 2)
    cleaner, sales = engine.cleaner([], "event_time", watermark, None), engine.sales(options)
    window = engine.window(
        {
            "name": "sales",
            "size_ms": HOUR_MS,
            "allowed_lateness_ms": lateness_ms,
            "time_column": "event_time",
            "original_time": "sale time",
            "corrections": {"column": "event_type", "plus": CORRECTED, "minus": []},
            "keys": ["sku"],
            "measures": measures(),
            "types": {**EVENT_TYPES, "sale time": "timestamp"},
        }
    )
    times: list[Any] = []
    closed: list[Any] = []
    for part in parts:
        decoded, overflowed = engine.add_amounts(decoder.messages(part), EVENT_TYPES)
        found = sales.look_up(cleaner.clean(decoded, 0, overflowed))
        times += [row["sale time"] for row in found.rows]
        window.push(found)
        closed += window.advance(watermark.value_ms)
        if restart:
            before, sales = sales, engine.sales(options)
            sales.sales.restore(before.sales.snapshot())
    closed += window.advance(END_MS)
    return [times, [result.rows for result in closed]]


KEYS = st.sampled_from([["event_id"], ["sku"], ["event_id", "sku"], ["small", "gift"]])


@given(
    batches(events(max_size=16)),
    KEYS,
    st.sampled_from([1, HOUR_MS, 3 * HOUR_MS, 100 * HOUR_MS]),
    st.sampled_from([0, 2 * HOUR_MS]),
)
def test_corrections_find_their_sale(
    parts: list[list[bytes]], key: list[str], within_ms: int, lateness_ms: int
) -> None:
    options = {
        "key": key,
        "within_ms": within_ms,
        "time_column": "event_time",
        "condition": {"column": "event_type", "plus": ["paid"], "minus": CORRECTED},
    }
    times, closed = run(ReferenceEngine(), parts, options, lateness_ms)
    for restart in (False, True):
        got_times, got_closed = run(CpuEngine(), parts, options, lateness_ms, restart)
        assert got_times == times
        assert_same_windows(got_closed, closed)
    whole = [[message for part in parts for message in part]]
    for cut in (whole, [[message] for message in whole[0]]):
        got_times, got_closed = run(CpuEngine(), cut, options, lateness_ms)
        assert got_times == times
        assert list(chain(*got_closed)) == list(chain(*closed))


JOB = parse_job(
    {
        "schema": {
            "field": [
                {"name": "event_time", "type": "timestamp", "format": "epoch_ms", "required": True},
                {"name": "event_type", "type": "dictionary"},
                {"name": "order_id", "type": "string"},
                {"name": "quantity", "type": "int64"},
            ]
        },
        "time": {"max_disorder": "0s"},
        "lifecycle": {"sale_key": ["order_id"], "remember": "30d"},
        "window": [
            {
                "name": "days",
                "size": "1 day",
                "allowed_lateness": "30d",
                "correct": "original_sale",
                "measures": ["units_sold", "units_returned", "units_cancelled", "units_net"],
            }
        ],
    }
)
DAY = 24 * 60


def message(minute: int, event_type: str, order: str, quantity: int = 1) -> bytes:
    at_ms = START_MS + minute * MINUTE_MS
    fields = {"event_time": at_ms, "event_type": event_type, "order_id": order, "quantity": quantity}
    return json.dumps(fields).encode()


def days(*outputs: Outputs) -> list[tuple[int, ...]]:
    """What was told: the day, and units sold, returned, cancelled, net."""
    rows = chain(*(batch.to_pylist() for each in outputs for batch in each.get("days", ())))
    start = START_MS // (DAY * MINUTE_MS)
    return [(int(row["window_start"].timestamp()) // 86_400 - start, *list(row.values())[2:]) for row in rows]


WEEK = [
    message(10 * 60, "paid", "o1", 3),  # Monday
    message(4 * DAY + 9 * 60, "paid", "o2"),  # Friday
    message(4 * DAY + 12 * 60, "returned", "o1"),
    message(4 * DAY + 13 * 60, "returned", "o0"),  # sold before the job began
    message(4 * DAY + 14 * 60, "cancelled", "o1"),
]


def test_the_worked_example() -> None:
    """Of docs/semantics.md: as with a column that says when the sale was."""
    pipeline = Pipeline(JOB)
    pipeline.push(WEEK)
    assert days(pipeline.flush()) == [(0, 3, 1, 1, 1), (4, 1, 1, 0, 0)]


def test_sales_move_with_their_partition() -> None:
    one, other = Pipeline(JOB), Pipeline(JOB)
    one.push(WEEK[:1], source="orders", partition=3)
    one.push(WEEK[1:2], source="orders", partition=4)
    other.take_partition(one.drop_partition("orders", 3), "orders", 3)
    other.push(WEEK[2:], source="orders", partition=3)
    assert days(other.flush()) == [(0, 3, 1, 1, 1), (4, 0, 1, 0, -1)]
    assert days(one.flush()) == [(4, 1, 0, 0, 1)]


def test_a_sale_is_forgotten_in_time() -> None:
    pipeline = Pipeline(JOB)
    late = [message(30 * DAY + 11 * 60, "created", "o3"), message(31 * DAY, "returned", "o1")]
    told = pipeline.push([*WEEK[:1], *late])
    assert days(told, pipeline.flush()) == [(0, 3, 0, 0, 3), (30, 0, 0, 0, 0), (31, 0, 1, 0, -1)]
    assert "sales by order_id looked up on the CPU" in pipeline.explain()
