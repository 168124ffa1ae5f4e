"""The input of a crash case, and what must come of it: plain Python over the messages, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
import random
from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal

START = dt.datetime(2026, 11, 11, 10, 0, tzinfo=dt.UTC)
MINUTE_MS = 60_000
LATE = dt.timedelta(hours=3)  # so late that its event id is forgotten at once
MAX_DISORDER_S = 20  # of the job; the orders are less out of order than that

JOB = """
[job]
name = "{name}"

[source]
type = "kafka"
topics = "{input}"
until = "latest"
member = "{member}"
batch_bytes = "8 KiB"

[source.config]
"bootstrap.servers" = "{bootstrap}"
"session.timeout.ms" = 2000
"heartbeat.interval.ms" = 300
"reconnect.backoff.ms" = 50
"reconnect.backoff.max.ms" = 500

[producer]
"transaction.timeout.ms" = 6000  # so that another member need not wait for long when one has died
"linger.ms" = 1

[schema]
use = "order_flat"

[time]
max_disorder = "20s"

[[clean.rule]]
check = "price_below_cost"

[clean.duplicates]
key = ["event_id"]
within = "1h"

[[window]]
name = "sales"
size = "1m"
keys = ["sku", "channel"]
measures = ["count", "units_net", "net_amount"]

[[sink]]
output = "sales"
type = "kafka"
topic = "{output}"

[dead_letter]
type = "kafka"
topic = "{letters}"

[checkpoint]
path = "checkpoint"
interval = "1ms"
delivery = "exactly_once"
"""

# (sku, channel, start of the window in ms): (count, net units, net amount)
Results = dict[tuple[str, str, int], tuple[int, int, Decimal]]
# (partition, offset, reason)
Letter = tuple[int, int, str]


@dataclass
class Orders:
    """Messages by partition, in order of their offsets, and what they must lead to."""

    partitions: list[list[bytes]]
    results: Results = field(default_factory=dict)
    letters: Counter[Letter] = field(default_factory=Counter)

    @property
    def messages(self) -> int:
        return sum(map(len, self.partitions))


def make_orders(seed: int, partitions: int, messages: int = 900) -> Orders:
    """Make orders with every kind of fault; one SKU is in one partition, as a shop would key them."""
    draw = random.Random(seed)
    orders = Orders([[] for _ in range(partitions)])
    for number in range(messages):
        sku = draw.randrange(12)
        place = orders.partitions[sku % partitions]
        fault = draw.choices(("", "cut", "no sku", "cheap", "again", "late"), (90, 2, 2, 3, 3, 2))[0]
        if fault == "again" and place:
            place.append(place[-1 - draw.randrange(min(len(place), 30))])
            continue
        moment = START + dt.timedelta(seconds=number * 600 / messages - draw.uniform(0, MAX_DISORDER_S - 5))
        if fault == "late" and partitions == 1 and number > 50:  # of several, it depends on the others
            moment -= LATE
        cost = Decimal(draw.randrange(1_000, 9_000)) / 100
        price = cost * 2 if fault != "cheap" else cost / 2
        order = {
            "event_id": f"e{seed}-{number}",
            "event_type": draw.choice(("paid", "paid", "paid", "returned", "cancelled", "created")),
            "event_time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "order_id": f"o{number}",
            "channel": draw.choice(("web", "app", "store")),
            "store_id": f"s{draw.randrange(5)}",
            "customer_id": f"c{draw.randrange(500)}",
            "sku": f"BOOT-{sku:02d}",
            "size": str(draw.randrange(36, 47)),
            "qty": draw.randrange(1, 5),
            "unit_price": float(price),
            "unit_cost": float(cost),
            "discount": draw.choice((0, 0.1, 0.25, 0.333)),
            "currency": "EUR",
        }
        if fault == "no sku":
            del order["sku"]
        body = json.dumps(order).encode()
        place.append(body[: len(body) // 2] if fault == "cut" else body)
    for partition, bodies in enumerate(orders.partitions):
        expect(orders, partition, bodies)
    return orders


def expect(orders: Orders, partition: int, bodies: list[bytes]) -> None:
    """Work through one partition, message by message."""
    seen: set[str] = set()
    for offset, body in enumerate(bodies):
        try:
            order = json.loads(body, parse_float=Decimal)
        except ValueError:
            orders.letters[partition, offset, "truncated_json"] += 1
            continue
        if "sku" not in order:
            orders.letters[partition, offset, "missing_field"] += 1
            continue
        if order["unit_price"] < order["unit_cost"]:
            orders.letters[partition, offset, "price_below_cost"] += 1
            continue
        moment = dt.datetime.fromisoformat(order["event_time"])
        if moment < START - dt.timedelta(hours=1):
            orders.letters[partition, offset, "late"] += 1  # each time: it is not remembered
            continue
        if order["event_id"] in seen:
            orders.letters[partition, offset, "duplicate"] += 1
            continue
        seen.add(order["event_id"])
        time_ms = int(moment.timestamp() * 1_000 + 0.5)
        key = (order["sku"], order["channel"], time_ms - time_ms % MINUTE_MS)
        sign = {"paid": 1, "returned": -1, "cancelled": -1, "created": 0}[order["event_type"]]
        amount = order["qty"] * order["unit_price"] * (1 - order["discount"])
        count, units, net = orders.results.get(key, (0, 0, Decimal(0)))
        orders.results[key] = (
            count + 1,
            units + sign * order["qty"],
            net + sign * amount.quantize(Decimal("0.0001"), ROUND_HALF_EVEN),
        )
