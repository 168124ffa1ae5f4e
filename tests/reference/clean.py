"""clean: rules as data, duplicates within a bound, and the watermark."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.reference.decode import Row, reject

NONE = -(2**63)  # a watermark before all time
END = 2**63 - 1  # and after it


class Watermark:
    """The least of the partitions' newest event times, less the bound on disorder. It never moves back."""

    def __init__(self, max_disorder_ms: int) -> None:
        self.max_disorder_ms = max_disorder_ms
        self.newest: dict[tuple[str, int], int] = {}
        self.idle: set[tuple[str, int]] = set()
        self.value_ms = NONE
        self.max_event_time_ms = NONE

    def declare(self, source: str, partition: int) -> None:
        if self.newest.setdefault((source, partition), NONE) == NONE:
            self.idle.discard((source, partition))

    def set_idle(self, source: str, partition: int) -> None:
        self.declare(source, partition)
        self.idle.add((source, partition))
        self.refresh()

    def observe(self, source: str, partition: int, time_ms: int) -> None:
        who = (source, partition)
        self.newest[who] = max(self.newest.get(who, NONE), time_ms)
        self.idle.discard(who)
        self.max_event_time_ms = max(self.max_event_time_ms, time_ms)
        self.refresh()

    def advance(self, value_ms: int) -> None:
        self.value_ms = max(self.value_ms, value_ms)

    def refresh(self) -> None:
        active = [newest for who, newest in self.newest.items() if who not in self.idle]
        if active and min(active) != NONE:
            self.advance(max(NONE, min(active) - self.max_disorder_ms))


class Duplicates:
    """Keys, each remembered until the watermark has passed its event time by more than `within_ms`."""

    def __init__(self, key: list[str], within_ms: int) -> None:
        self.key = key
        self.within_ms = within_ms
        self.accepted: dict[tuple[Any, ...], int] = {}

    def seen(self, values: dict[str, Any], time_ms: int, watermark_ms: int) -> bool:
        key = tuple(values[name] for name in self.key)
        if key in self.accepted and watermark_ms <= self.accepted[key] + self.within_ms:
            return True
        self.accepted[key] = time_ms
        return False


def breaks(rule: dict[str, Any], values: dict[str, Any], now_ms: int) -> bool:
    value = values[rule["column"]]
    if rule["kind"] == "required":
        return value is None
    if value is None:
        return False
    match rule["kind"]:
        case "less_than":
            other = values[rule["other"]]
            return other is not None and value < other
        case "range":
            floating = isinstance(value, float)
            low = rule.get("low_float", -math.inf) if floating else rule.get("low", NONE)
            high = rule.get("high_float", math.inf) if floating else rule.get("high", END)
            return not low <= value <= high
        case "ahead":
            return value > now_ms + rule["high"]
        case "behind":
            return value < now_ms - rule["low"]
        case "allowed":
            return value not in rule["values"]
    raise ValueError(rule["kind"])


@dataclass
class Cleaner:
    rules: list[dict[str, Any]]
    time_column: str
    watermark: Watermark
    duplicates: Duplicates | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def clean(
        self, rows: list[Row], now_ms: int, overflowed: Iterable[int] = ()
    ) -> tuple[list[tuple[Row, int]], list[dict[str, Any]]]:
        """Return the survivors, each with the watermark that it met, and the rejects.

        `overflowed` are the places of rows whose amount int64 cannot hold.
        """
        survivors = []
        rejects = []
        verdicts: dict[int, bool] = {}  # by message of this batch: is it a duplicate
        for place, row in enumerate(rows):
            self.counts["rows"] += 1
            broken = next((rule for rule in self.rules if breaks(rule, row.values, now_ms)), None)
            if broken is not None:
                self.counts["rejected"] += 1
                rejects.append(
                    reject(row.message, row.line, "clean", broken["reason"], broken["column"], None)
                )
                continue
            if place in overflowed:
                self.counts["rejected"] += 1
                rejects.append(reject(row.message, row.line, "clean", "amount_overflow", None, None))
                continue
            time_ms = row.values[self.time_column]
            who = id(row.message)
            if self.duplicates is not None:
                if who not in verdicts:
                    verdicts[who] = self.duplicates.seen(row.values, time_ms, self.watermark.value_ms)
                if verdicts[who]:
                    self.counts["duplicates"] += 1
                    rejects.append(reject(row.message, row.line, "clean", "duplicate", None, None))
                    continue
            survivors.append((row, self.watermark.value_ms))
            self.watermark.observe(row.message.source, row.message.partition, time_ms)
        return survivors, rejects
