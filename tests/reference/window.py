"""window: exact aggregates of event-time windows."""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import math
import zoneinfo
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.reference import sketch
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
    # Early results: by window and key, how many rows it had when it was told last, and its revision.
    told: dict[tuple[Interval, tuple[Any, ...]], tuple[int, int]] = field(default_factory=dict)
    stepped: list[list[dict[str, Any]]] = field(default_factory=list)

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
            if self.spec.get("early_ms"):
                self.stepped += self.step(met_ms)
            windows = self.windows_of(placed_by(row.values, self.spec))
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
        stepped, self.stepped = self.stepped, []
        return stepped + self.step(max(self.closed_ms, watermark_ms))

    def step(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what is final; when the watermark has passed a multiple of `early_ms`, tell what changed."""
        early_ms = self.spec.get("early_ms", 0)
        tells = early_ms and watermark_ms // early_ms > self.closed_ms // early_ms
        self.closed_ms = watermark_ms
        final = [each for each in sorted(self.open) if self.is_final(each, watermark_ms)]
        results = [self.tell(each, self.open.pop(each), True) for each in final]
        if tells:
            results += [
                rows for each in sorted(self.open) if (rows := self.tell(each, self.open[each], False))
            ]
        return results

    def tell(
        self, window: Interval, groups: dict[tuple[Any, ...], list[dict[str, Any]]], final: bool
    ) -> list[dict[str, Any]]:
        """The results of a window by key; early ones of what has changed only."""
        rows = []
        for key in sorted(groups, key=lambda key: tuple(map(by_value, key))):
            rows_told, revision = self.told.get((window, key), (0, 0))
            if not final and rows_told == len(groups[key]):
                continue
            self.told[window, key] = (len(groups[key]), revision + 1)
            more = {"revision": revision + 1, "final": final} if self.spec.get("early_ms") else {}
            rows.append(result(self.spec, window, key, groups[key]) | more)
        return rows

    @property
    def open_windows(self) -> int:
        return len(self.open)

    @property
    def groups(self) -> int:
        return sum(map(len, self.open.values()))


@dataclass
class Session:
    """From a key's first row to a gap after its last."""

    key: tuple[Any, ...]
    first_ms: int
    last_ms: int
    rows: list[dict[str, Any]]
    rows_told: int = 0
    told: dict[int, int] = field(default_factory=dict)  # by start under which it was told: the revision


@dataclass
class SessionWindow:
    """Sessions: rows of a key that are less than a gap apart. Results are ordered by end, then by key.

    With early results, what was told under a start that is no longer the session's is retracted before the
    next word on the session.
    """

    spec: dict[str, Any]
    sessions: list[Session] = field(default_factory=list)
    closed_ms: int = NONE
    aggregated: int = 0
    late: int = 0
    stepped: list[list[dict[str, Any]]] = field(default_factory=list)

    def is_final(self, session: Session, watermark_ms: int) -> bool:
        end_ms = session.last_ms + self.spec["gap_ms"]
        return end_ms + self.spec.get("allowed_lateness_ms", 0) <= watermark_ms

    def push(self, survivors: Iterable[tuple[Row, int]]) -> list[int]:
        """Take rows in; return the places of those that came late: too late for any session to take them."""
        late = []
        for place, (row, watermark_ms) in enumerate(survivors):
            met_ms = max(watermark_ms, self.closed_ms)
            if self.spec.get("early_ms"):
                self.stepped += self.step(met_ms)
            time_ms = row.values[self.spec["time_column"]]
            key = tuple(row.values[name] for name in self.spec["keys"])
            mine = Session(key, time_ms, time_ms, [row.values])
            joined = [
                each for each in self.sessions if self.joins(each, mine) and not self.is_final(each, met_ms)
            ]
            if not joined and self.is_final(mine, met_ms):
                late.append(place)
                continue
            for each in joined:
                self.sessions.remove(each)
                mine.first_ms = min(mine.first_ms, each.first_ms)
                mine.last_ms = max(mine.last_ms, each.last_ms)
                mine.rows += each.rows
                mine.rows_told += each.rows_told
                mine.told |= each.told
            self.sessions.append(mine)
            self.aggregated += 1
        self.late += len(late)
        return late

    def joins(self, session: Session, row: Session) -> bool:
        """Whether a row, as a session of its own, and this session overlap."""
        gap_ms = self.spec["gap_ms"]
        near = row.first_ms < session.last_ms + gap_ms and session.first_ms < row.last_ms + gap_ms
        return near and key_of(session) == key_of(row)

    def advance(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what has become final, as one list."""
        stepped, self.stepped = self.stepped, []
        return stepped + self.step(max(self.closed_ms, watermark_ms))

    def step(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what is final; when the watermark has passed a multiple of `early_ms`, tell what changed."""
        early_ms = self.spec.get("early_ms", 0)
        tells = early_ms and watermark_ms // early_ms > self.closed_ms // early_ms
        self.closed_ms = watermark_ms
        final = [each for each in self.sessions if self.is_final(each, watermark_ms)]
        self.sessions = [each for each in self.sessions if each not in final]
        changed = [each for each in self.sessions if len(each.rows) != each.rows_told] if tells else []
        return [rows for rows in (self.tell(final, True), self.tell(changed, False)) if rows]

    def tell(self, sessions: list[Session], final: bool) -> list[dict[str, Any]]:
        rows = []
        for each in sorted(sessions, key=lambda each: (each.last_ms, key_of(each))):
            end_ms = each.last_ms + self.spec["gap_ms"]
            here = result(self.spec, (each.first_ms, end_ms), each.key, each.rows)
            revision = each.told.pop(each.first_ms, 0) + 1
            if self.spec.get("early_ms"):
                for start_ms, before in sorted(each.told.items()):
                    gone = result(self.spec, (start_ms, end_ms), each.key, [])
                    rows.append(gone | {"revision": before + 1, "final": True, "retracted": True})
                here |= {"revision": revision, "final": final, "retracted": False}
            rows.append(here)
            each.told, each.rows_told = {each.first_ms: revision}, len(each.rows)
        return rows

    @property
    def open_windows(self) -> int:
        return len(self.sessions)

    @property
    def groups(self) -> int:
        return len(self.sessions)


def placed_by(row: dict[str, Any], spec: dict[str, Any]) -> int:
    """The time whose windows hold a row: of a correction the original sale's, where it is known."""
    original = row[spec["original_time"]] if spec.get("original_time") else None
    corrects = original is not None and weight(spec["corrections"], row) != 0
    return original if corrects else row[spec["time_column"]]


def window(spec: dict[str, Any]) -> Window | SessionWindow:
    return SessionWindow(spec) if spec.get("kind") == "session" else Window(spec)


def key_of(session: Session) -> tuple[Any, ...]:
    return tuple(map(by_value, session.key))


def result(
    spec: dict[str, Any], window: Interval, key: tuple[Any, ...], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    interval = {} if window == EVER else {"window_start": window[0], "window_end": window[1]}
    measures = {each["name"]: measure(each, rows, spec) for each in spec["measures"]}
    return {**interval, **dict(zip(spec["keys"], key, strict=True)), **measures}


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


def measure(spec: dict[str, Any], rows: list[dict[str, Any]], window: dict[str, Any]) -> Any:
    types = window["types"]
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
        case "approx_distinct":
            return sketch.estimate_distinct(v for _, v in taken)
        case "first" | "last":
            times = [row[window["time_column"]] for row in rows]
            kept = [
                (time_ms, v)
                for time_ms, w, v in zip(times, weights, values, strict=True)
                if w and v is not None
            ]
            pick = min if spec["op"] == "first" else max  # so of one time the smallest, or the largest
            return pick(kept, key=lambda each: (each[0], by_value(signed(each[1]))), default=(0, None))[1]
        case "top" | "top_weight":
            totals: Counter[Any] = Counter()
            for row, w, v in zip(rows, weights, values, strict=True):
                added = row[spec["by"]] if spec.get("by") else 1
                if w != 0 and v is not None and added is not None:
                    totals[v] += w * added
            ranked = sorted(totals.items(), key=lambda each: (-each[1], by_value(each[0])))
            ranked = [each for each in ranked if each[1] > 0]
            place = spec.get("argument", 0)
            return ranked[place][spec["op"] == "top_weight"] if place < len(ranked) else None
        case "quantile":
            quantile = Fraction(spec.get("argument", 0), 1_000_000)
            middle = sketch.quantile([v for _, v in taken], quantile)
            return None if middle is None else float(middle / scale)
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
