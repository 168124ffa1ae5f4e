"""What a job's windows hold, as dictionaries: the state machine's own idea of it, apart from tests/reference.

Times are whole minutes since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

NEVER, FOR_EVER = -(10**12), 10**12
DAY = 24 * 60
SHANGHAI = 8 * 60

DISORDER = 20
WITHIN = 60
REMEMBER = 100

Row = tuple[tuple[str, Any], ...]
Interval = tuple[int, int]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Event:
    """One message; a broken one is no JSON."""

    id: str
    at: int
    type: str = "paid"
    order: str = "o"
    sku: str = "a"
    size: str | None = "40"
    quantity: int = 1
    price: int = 10
    discount_tenths: int = 0
    sold_at: int | None = None
    broken: bool = False
    found: int | None = None  # when the sale of its order was, as far as is remembered

    @property
    def sign(self) -> int:
        return {"paid": 1, "returned": -1, "cancelled": -1}.get(self.type, 0)


def measures(rows: list[Event]) -> dict[str, Any]:
    sizes = Counter(row.size for row in rows if row.size is not None)
    top = min(sizes, key=lambda size: (-sizes[size], size), default=None)
    amount = sum(
        Decimal(row.sign * row.quantity * row.price * (10 - row.discount_tenths)) / 10 for row in rows
    )
    return {
        "count": len(rows),
        "units_net": sum(row.sign * row.quantity for row in rows),
        "net_amount": Decimal(amount).quantize(Decimal("0.0001")),
        "max_unit_price": Decimal(max(row.price for row in rows)).quantize(Decimal("0.0001"))
        if rows
        else None,
        "distinct_size": len(sizes),
        "last_order_id": max(((row.at, row.order) for row in rows), default=(0, None))[1],
        "top_size_1": top,
        "top_size_1_weight": None if top is None else sizes[top],
    }


@dataclass
class Windows:
    """Windows of one kind: an interval and a key name a list of events."""

    name: str
    key: Callable[[Event], dict[str, Any]]
    intervals: Callable[[Event], list[Interval]]
    lateness: int = 0
    early: int = 0
    open: dict[tuple[Interval, Key], list[Event]] = field(default_factory=dict)
    told: dict[tuple[Interval, Key], tuple[int, int]] = field(default_factory=dict)  # (revision, rows)
    reached: int = NEVER

    def final(self, interval: Interval) -> bool:
        return self.reached >= interval[1] + self.lateness

    def take(self, event: Event) -> bool:
        """Whether some interval was still there to take it."""
        taking = [interval for interval in self.intervals(event) if not self.final(interval)]
        for interval in taking:
            self.open.setdefault((interval, tuple(self.key(event).items())), []).append(event)
        return bool(taking)

    def reach(self, watermark: int) -> Iterator[Row]:
        """Tell what is final, and what has changed when the watermark has passed a multiple of `early`."""
        passed = self.early and watermark // self.early > self.reached // self.early
        self.reached = max(self.reached, watermark)
        for place, rows in list(self.open.items()):
            final = self.final(place[0])
            revision, known = self.told.get(place, (0, 0))
            if final:
                del self.open[place]
            if final or (passed and known != len(rows)):
                self.told[place] = (revision + 1, len(rows))
                more = {"revision": revision + 1, "final": final} if self.early else {}
                yield row_of(place, rows, more)


@dataclass
class Sessions(Windows):
    """Here what is open is found by its key, and grows."""

    gap: int = 0
    # By what is open: its rows when it was told last, and by start the revision that was told.
    said: dict[tuple[Interval, Key], tuple[int, dict[int, int]]] = field(default_factory=dict)

    def take(self, event: Event) -> bool:
        key = tuple(self.key(event).items())
        first, end, rows = event.at, event.at + self.gap, [event]
        near = [
            place
            for place in self.open
            if place[1] == key and place[0][0] < end and first < place[0][1] and not self.final(place[0])
        ]
        if not near and self.final((first, end)):
            return False
        starts: dict[int, int] = {}
        for place in near:
            first, end = min(first, place[0][0]), max(end, place[0][1])
            rows = self.open.pop(place) + rows
            starts |= self.said.pop(place, (0, {}))[1]
        self.open[(first, end), key] = rows
        self.said[(first, end), key] = (0, starts)
        return True

    def reach(self, watermark: int) -> Iterator[Row]:
        """As other windows; a start that was told and is none any more is retracted."""
        passed = self.early and watermark // self.early > self.reached // self.early
        self.reached = max(self.reached, watermark)
        for place, rows in list(self.open.items()):
            final = self.final(place[0])
            known, starts = self.said[place]
            if final:
                del self.open[place]
            if not final and not (passed and known != len(rows)):
                continue
            (start, end), key = place
            revision = starts.pop(start, 0) + 1
            if self.early:
                for other, before in starts.items():
                    gone = {"revision": before + 1, "final": True, "retracted": True}
                    yield row_of(((other, end), key), [], gone)
            more = {"revision": revision, "final": final, "retracted": False} if self.early else {}
            yield row_of(place, rows, more)
            self.said[place] = len(rows), {start: revision}
            if final:
                del self.said[place]


def row_of(place: tuple[Interval, Key], rows: list[Event], more: dict[str, Any]) -> Row:
    (start, end), key = place
    interval = {} if end == FOR_EVER else {"window_start": start, "window_end": end}
    return tuple((interval | dict(key) | measures(rows) | more).items())


def every(size: int, hop: int = 0, offset: int = 0) -> Callable[[Event], list[Interval]]:
    """Return all intervals of this size that hold an event."""
    step = hop or size

    def of(event: Event) -> list[Interval]:
        starts = range((event.at - offset) // step * step + offset, event.at - size, -step)
        return [(start, start + size) for start in starts]

    return of


def days_of_the_sale(event: Event) -> list[Interval]:
    """A day in Shanghai: of a correction, that of its sale."""
    at = event.sold_at if event.sign < 0 and event.sold_at is not None else event.at
    start = (at + SHANGHAI) // DAY * DAY - SHANGHAI
    return [(start, start + DAY)]


def hours_of_the_sale_found(event: Event) -> list[Interval]:
    return every(60)(event if event.found is None else replace(event, at=event.found))


def all_windows() -> dict[str, Windows]:
    """Return the windows of the machine's job (tests/state/test_machine.py), by name."""

    def by_sku(event: Event) -> dict[str, Any]:
        return {"sku": event.sku}

    def by_order(event: Event) -> dict[str, Any]:
        return {"order_id": event.order, "size": event.size}

    def by_nothing(event: Event) -> dict[str, Any]:
        return {}

    return {
        each.name: each
        for each in (
            Windows("tumbling", by_order, every(60, offset=7), lateness=5),
            Windows("early", by_sku, every(60), lateness=10, early=15),
            Windows("hopping", by_sku, every(60, 25)),
            Windows("hops_so_far", by_sku, every(60, 25), early=10),
            Sessions("session", by_sku, every(1), lateness=3, gap=30),
            Sessions("visits_so_far", by_sku, every(1), early=10, gap=30),
            Windows("ever", by_nothing, lambda event: [(NEVER, FOR_EVER)]),
            Windows("found", by_sku, hours_of_the_sale_found, lateness=45),
            Windows("days", by_sku, days_of_the_sale, lateness=2 * DAY, early=DAY),
        )
    }


@dataclass
class Model:
    """A whole job. What it tells is a bag of rows by output; rejects are (partition, position, reason)."""

    windows: dict[str, Windows] = field(default_factory=all_windows)
    newest: dict[int, int] = field(default_factory=dict)
    idle: set[int] = field(default_factory=set)
    watermark: int = NEVER
    seen: dict[str, int] = field(default_factory=dict)
    sold: dict[str, int] = field(default_factory=dict)  # by order
    ledger: Counter[str] = field(default_factory=Counter)

    def push(self, partition: int, position: int, events: list[Event]) -> dict[str, Counter[Any]]:
        told: dict[str, Counter[Any]] = {}
        for number, event in enumerate(events):
            self.ledger["messages"] += 1
            fate = self.fate(partition, event, told)
            self.ledger[fate] += 1
            if fate != "aggregated":
                told.setdefault("rejects", Counter())[partition, position + number, fate] += 1
        self.reach(told)
        return told

    def fate(self, partition: int, event: Event, told: dict[str, Counter[Any]]) -> str:
        """Say what became of a message."""
        if event.broken:
            return "truncated_json"
        if event.quantity <= 0:
            return "non_positive_quantity"
        if event.id in self.seen and self.watermark <= self.seen[event.id] + WITHIN:
            return "duplicate"
        self.seen[event.id] = event.at
        sold = self.sold.get(event.order)
        remembered = sold is not None and self.watermark <= sold + REMEMBER
        if event.sign > 0 and not remembered:
            self.sold[event.order] = event.at
        if event.sign < 0 and remembered:
            event = replace(event, found=sold)
        self.reach(told)
        taken = [each.take(event) for each in self.windows.values()]
        self.idle.discard(partition)
        self.newest[partition] = max(self.newest.get(partition, NEVER), event.at)
        self.observe()
        return "aggregated" if all(taken) else "late"

    def observe(self) -> None:
        waited_for = [newest for partition, newest in self.newest.items() if partition not in self.idle]
        if waited_for and min(waited_for) != NEVER:
            self.watermark = max(self.watermark, min(waited_for) - DISORDER)

    def mark_idle(self, partition: int) -> dict[str, Counter[Any]]:
        self.newest.setdefault(partition, NEVER)
        self.idle.add(partition)
        self.observe()
        return self.reach({})

    def declare(self, partition: int) -> dict[str, Counter[Any]]:
        if self.newest.setdefault(partition, NEVER) == NEVER:
            self.idle.discard(partition)
        return {}

    def advance(self, watermark: int) -> dict[str, Counter[Any]]:
        self.watermark = max(self.watermark, watermark)
        return self.reach({})

    def reach(self, told: dict[str, Counter[Any]]) -> dict[str, Counter[Any]]:
        for name, window in self.windows.items():
            if rows := Counter(window.reach(self.watermark)):
                told[name] = told.get(name, Counter()) + rows
        return told
