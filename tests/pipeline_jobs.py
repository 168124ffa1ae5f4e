"""Jobs of several shapes, and messages for them."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from omnistream.job import parse_job
from tests.strategies import messages, mutated

# ---- jobs of several shapes ----

RULES = [
    {"check": "positive_quantity"},
    {"check": "price_below_cost"},
    {"check": "discount_range"},
    {"check": "event_time_ahead", "by": "1d"},
]
SALES = {
    "name": "sales",
    "size": "1h",
    "keys": ["channel", "sku"],
    "measures": [
        *("count", "units_net", "gross_amount", "net_amount", "orders", "distinct(size)"),
        *("mean(unit_price)", "std(unit_price)", "min(discount)", "max(event_time)"),
        "sum(quantity) as web_units where channel = 'web'",
    ],
}
# Nobody's key, starts that are no full hours, and time for rows that the hours refuse.
QUARTERS = {
    "name": "quarters",
    "size": "15m",
    "offset": "5m",
    "allowed_lateness": "30m",
    "measures": ["count", "units_sold", "units_returned", "units_cancelled"],
}
DAILY = {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["count", "units_net"]}
DEMAND = {"name": "demand", "from": "daily", "demand": "units_net", "horizon_days": 3}


def order_job(schema: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "schema": {"use": schema},
        "time": {"max_disorder": "20m"},
        "clean": {"rule": RULES, "duplicates": {"within": "1h"}},
        "window": [SALES, QUARTERS, DAILY],
        "derive": [DEMAND],
    }
    return plain | changes


# Columns of every type, an array inside an array, and arrays of messages.
PARCELS = {
    "schema": {
        "explode": "parcels[].items[]",
        "array_messages": True,
        "field": [
            {"name": "id", "type": "string"},
            {"name": "at", "type": "timestamp", "format": ["iso8601", "epoch_ms"], "required": True},
            {"name": "carrier", "type": "dictionary", "path": "parcels[].carrier", "default": "post"},
            {"name": "sku", "type": "string", "path": "parcels[].items[].sku"},
            {"name": "pieces", "type": "int32", "path": "parcels[].items[].pieces", "default": 1},
            {"name": "value", "type": "decimal", "path": "parcels[].items[].value", "coerce": True},
            {"name": "weight", "type": "float64", "path": "parcels[].items[].weight"},
            {"name": "gift", "type": "bool", "path": "parcels[].items[].gift"},
        ],
    },
    "time": {"column": "at", "max_disorder": "10m"},
    "clean": {
        "rule": [
            {"check": "range", "column": "weight", "low": 0},
            {"check": "event_time_ahead", "column": "at", "by": "1d"},
        ],
        "duplicates": {"key": ["id", "sku"], "within": "30m"},
    },
    "window": [
        {
            "name": "parcels",
            "size": "30m",
            "keys": ["carrier", "gift", "sku"],
            "measures": [
                *("count", "count(weight)", "sum(pieces)", "sum(value)", "variance(value)"),
                *("min(weight)", "max(weight)", "distinct(id)", "distinct(at)"),
            ],
        },
        {"name": "days", "size": "1d", "measures": ["count"], "allowed_lateness": "1h"},
    ],
    "sink": [{"output": "rows", "type": "stdout"}],
}

JOBS = {
    "order": parse_job(order_job("order")),
    "order_flat": parse_job(order_job("order_flat", sink=[{"output": "rows", "type": "stdout"}])),
    "parcels": parse_job(PARCELS),
    "rows alone": parse_job({"schema": {"use": "order_flat"}, "clean": {"rule": RULES}}),
}

# ---- their messages ----


def iso(minutes: int, second: int = 0) -> str:
    at = datetime(2026, 11, 11, 7, tzinfo=UTC) + timedelta(minutes=minutes, seconds=second)
    return at.isoformat().replace("+00:00", "Z")


# Clustered, so that windows close and rows come late; sometimes a day later, for demand.
TIMES = st.builds(
    lambda day, minute, second: iso(1440 * day + minute, second),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2]),
    st.integers(0, 150),
    st.sampled_from([0, 0, 59]),
)
LINES = st.fixed_dictionaries(
    {
        "sku": st.sampled_from(["A", "B", "C"]),
        "qty": st.sampled_from([1, 2, 3, 3, 7, 0, -1]),
        "unit_price": st.sampled_from([100, 59.9, 19.9999, 0.01]),
    },
    optional={
        "size": st.sampled_from(["36", "37", None]),
        "unit_cost": st.sampled_from([0.005, 30, 99.5]),
        "discount": st.sampled_from([0, 0.15, 0.3333, 1, 1.5, None]),
    },
)
HEADS = st.fixed_dictionaries(
    {
        "event_id": st.integers(0, 9).map("e{}".format),
        "event_type": st.sampled_from(["created", "paid", "paid", "paid", "cancelled", "returned"]),
        "event_time": TIMES,
    },
    optional={
        "order_id": st.integers(0, 5).map("o{}".format),
        "channel": st.sampled_from(["web", "app", "store", "微信"]),
        "store_id": st.sampled_from(["S1", "S2"]),
    },
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "sku": st.sampled_from(["A", "B", None]),
        "pieces": st.integers(-5, 5),
        "value": st.sampled_from([1, "2.5", 0.0001, -3, ""]),
        "weight": st.sampled_from([0.1, 1e300, -0.0, -1.0]),
        "gift": st.booleans(),
    },
)
PARCEL = st.fixed_dictionaries({"items": st.lists(ITEMS, max_size=2)}, optional={"carrier": st.just("dhl")})
SHIPMENTS = st.fixed_dictionaries(
    {"at": TIMES, "parcels": st.lists(PARCEL, max_size=2)}, optional={"id": st.sampled_from(["i", "j"])}
)
GOOD = {
    "order": st.builds(lambda head, lines: head | {"lines": lines}, HEADS, st.lists(LINES, max_size=3)),
    "order_flat": st.builds(lambda head, line: head | line, HEADS, LINES),
    "parcels": st.one_of(SHIPMENTS, SHIPMENTS, st.lists(SHIPMENTS, max_size=3)),
}
GOOD["rows alone"] = GOOD["order_flat"]


def as_one_line(message: bytes) -> bytes:
    """Make of it a message that is the same alone and as a line of NDJSON."""
    line = message.replace(b"\n", b" ").strip(b" \t\r")
    return b"{" if not line or line.startswith(b"\xef\xbb\xbf") else line


def streams(shape: str, max_size: int = 30) -> st.SearchStrategy[list[bytes]]:
    """Mostly messages that mean something; some mutated, some near the schema in every way."""
    good = GOOD[shape].map(lambda event: json.dumps(event, ensure_ascii=False).encode())
    near = messages(JOBS[shape].schema.to_core())
    any_message = st.integers(0, 11).flatmap(lambda kind: [near, mutated(good)][kind] if kind < 2 else good)
    lines = any_message.map(as_one_line)
    return st.one_of(st.lists(lines, max_size=5), st.lists(lines, min_size=max_size // 2, max_size=max_size))


# ---- orders as rows ----

FLAT = parse_job(
    order_job(
        "order_flat",
        clean={"rule": RULES, "duplicates": {"key": ["event_id", "sku"]}},
        sink=[{"output": "rows", "type": "stdout"}],
    )
)


def some_orders() -> list[dict[str, Any]]:
    """Rows by column name, in nearly the order of their times, some late, some wrong, some twice."""
    draw = random.Random(11)
    rows = []
    for number in range(400):
        at = datetime(2026, 11, 11, tzinfo=UTC) + timedelta(
            minutes=number * 4 + draw.choice([0, -3, -9, -90])
        )
        rows.append(
            {
                "event_id": f"e{number - draw.choice([0, 0, 0, 1])}",
                "event_type": draw.choice(["paid", "paid", "returned", "cancelled"]),
                "event_time": at + timedelta(milliseconds=draw.randrange(1000)),
                "order_id": f"o{number // 3}",
                "channel": draw.choice(["web", "app", "微信", None]),
                "store_id": draw.choice(["S1", None]),
                "customer_id": draw.choice(["c1", "c2", None]),
                "sku": draw.choice(["A", "B", "C"]),
                "size": draw.choice(["36", "37", None]),
                "quantity": draw.choice([1, 2, 3, 0, -4]),
                "unit_price": draw.choice([Decimal(100), Decimal("59.9"), Decimal("19.9999")]),
                "unit_cost": draw.choice([Decimal(30), Decimal("99.5"), None]),
                "discount": draw.choice([Decimal("0.15"), Decimal(0), Decimal("1.5"), None]),
                "currency": "CNY",
            }
        )
    return rows


def as_json(row: dict[str, Any]) -> bytes:
    spelled = {("qty" if name == "quantity" else name): value for name, value in row.items()}
    spelled["event_time"] = row["event_time"].isoformat()
    return json.dumps(spelled, default=float).encode()


ORDERS = some_orders()
PLAIN = pa.Table.from_pylist(ORDERS, schema=JOBS["order_flat"].schema.arrow_schema())
