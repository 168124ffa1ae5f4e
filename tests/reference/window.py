"""window: exact aggregates of event-time windows."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import math
import zoneinfo
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.reference.clean import END, NONE
from tests.reference.decode import INT64, SCALE, Row

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
Interval = tuple[int | None, int | None]  # a global window has no interval
EVER: Interval = (None, None)


@dataclass
class Window:
    """Windows of one kind. Results are ordered by key: nulls first, strings by their bytes."""

    spec: dict[str, Any]
    open: dict[Interval, dict[tuple[Any, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    closed_ms: int = NONE
    aggregated: int = 0
    late: int = 0

    def windows_of(self, time_ms: int) -> list[Interval]:
        """All windows that hold this time."""
        kind = self.spec.get("kind", "tumbling")
        if kind == "global":
            return [EVER]
        if kind == "calendar":
            return [calendar_window(time_ms, self.spec)]
        size_ms, offset_ms = self.spec["size_ms"], self.spec.get("offset_ms", 0)
        hop_ms = self.spec["hop_ms"] if kind == "hopping" else size_ms
        start_ms = (time_ms - offset_ms) // hop_ms * hop_ms + offset_ms
        starts_ms = range(start_ms, time_ms - size_ms, -hop_ms)
        return [(start_ms, start_ms + size_ms) for start_ms in starts_ms]

    def is_final(self, window: Interval, watermark_ms: int) -> bool:
        end_ms = window[1]
        if end_ms is None:
            return watermark_ms == END
        return end_ms + self.spec.get("allowed_lateness_ms", 0) <= watermark_ms

    def push(self, survivors: Iterable[tuple[Row, int]]) -> list[int]:
        """Take rows in; return the places of those that came late: that no window could take any more."""
        late = []
        for place, (row, watermark_ms) in enumerate(survivors):
            met_ms = max(watermark_ms, self.closed_ms)
            windows = self.windows_of(row.values[self.spec["time_column"]])
            taking = [window for window in windows if not self.is_final(window, met_ms)]
            if not taking:
                late.append(place)
                continue
            key = tuple(row.values[name] for name in self.spec["keys"])
            for window in taking:
                self.open.setdefault(window, {}).setdefault(key, []).append(row.values)
            self.aggregated += 1
        self.late += len(late)
        return late

    def advance(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what has become final: a list of result rows for each window, by start."""
        self.closed_ms = max(self.closed_ms, watermark_ms)
        return [self.close(each) for each in sorted(self.open) if self.is_final(each, self.closed_ms)]

    def close(self, window: Interval) -> list[dict[str, Any]]:
        groups = self.open.pop(window)
        interval = {} if window == EVER else {"window_start": window[0], "window_end": window[1]}
        return [
            {
                **interval,
                **dict(zip(self.spec["keys"], key, strict=True)),
                **{
                    each["name"]: measure(each, groups[key], self.spec["types"])
                    for each in self.spec["measures"]
                },
            }
            for key in sorted(groups, key=lambda key: tuple(map(by_value, key)))
        ]


def calendar_window(time_ms: int, spec: dict[str, Any]) -> Interval:
    """The day, week or month of a time zone that holds this time.

    Each starts at the first instant at which clocks show its first moment or a later one.
    """
    unit, zone, offset_ms = spec["unit"], spec["time_zone"], spec.get("offset_ms", 0)
    today = (EPOCH + dt.timedelta(milliseconds=time_ms)).date()
    days = [today + dt.timedelta(days=number) for number in range(-64, 65)]
    is_first = {
        "day": lambda day: True,
        "week": lambda day: day.weekday() == 0,
        "month": lambda day: day.day == 1,
    }
    firsts = [day for day in days if is_first[unit](day)]
    near = min(range(len(firsts)), key=lambda at: abs(firsts[at] - today))
    starts_ms = [first_instant_ms(day, offset_ms, zone) for day in firsts[max(0, near - 3) : near + 5]]
    last = max(at for at, start_ms in enumerate(starts_ms) if start_ms <= time_ms)
    return starts_ms[last], starts_ms[last + 1]


@functools.cache
def first_instant_ms(day: dt.date, offset_ms: int, zone: str) -> int:
    """The first whole minute at which clocks show this day's midnight plus the offset, or later."""
    shown = dt.datetime.combine(day, dt.time()) + dt.timedelta(milliseconds=offset_ms)
    at = shown.replace(tzinfo=dt.UTC) - dt.timedelta(hours=16)
    while at.astimezone(zoneinfo.ZoneInfo(zone)).replace(tzinfo=None) < shown:
        at += dt.timedelta(minutes=1)
    return (at - EPOCH) // dt.timedelta(milliseconds=1)


def by_value(value: Any) -> tuple[bool, Any]:
    return value is not None, value.encode() if isinstance(value, str) else value or 0


def measure(spec: dict[str, Any], rows: list[dict[str, Any]], types: dict[str, str]) -> Any:
    column, condition = spec.get("column") or "", spec.get("condition") or {}
    weights = [weight(condition, row) for row in rows]
    values = [row[column] if column else 1 for row in rows]
    taken = [(w, v) for w, v in zip(weights, values, strict=True) if w != 0 and v is not None]
    scale = SCALE if types.get(column) == "decimal" else 1
    match spec["op"]:
        case "count":
            return sum(w for w, _ in taken)
        case "sum":
            total = sum(w * v for w, v in taken)
            if total not in INT64:
                raise OverflowError(spec["name"])
            return total
        case "min":
            return min((v for _, v in taken), key=signed, default=None)
        case "max":
            return max((v for _, v in taken), key=signed, default=None)
        case "distinct":
            return len({v for _, v in taken})
    moments = Moments([v for _, v in taken], scale)
    return {"mean": moments.mean, "variance": moments.variance, "std": moments.std}[spec["op"]]()


def weight(condition: dict[str, Any], row: dict[str, Any]) -> int:
    if not condition:
        return 1
    value = row[condition["column"]]
    return (value in condition["plus"]) - (value in condition["minus"])


def signed(value: Any) -> Any:
    return (value, math.copysign(1, value)) if isinstance(value, float) else value  # -0.0 is below 0.0


@dataclass
class Moments:
    """Exact until the end, where they become a float once."""

    values: list[int]
    scale: int

    def mean(self) -> float | None:
        if not self.values:
            return None
        return float(Fraction(sum(self.values), len(self.values) * self.scale))

    def exact_variance(self) -> Fraction:
        n, total, squares = len(self.values), sum(self.values), sum(value * value for value in self.values)
        return Fraction(n * squares - total * total, n * (n - 1) * self.scale * self.scale)

    def variance(self) -> float | None:
        return None if len(self.values) < 2 else float(self.exact_variance())

    def std(self) -> float | None:
        if len(self.values) < 2:
            return None
        variance = self.exact_variance()
        with decimal.localcontext(prec=60):
            quotient = decimal.Decimal(variance.numerator) / decimal.Decimal(variance.denominator)
            return float(quotient.sqrt())
