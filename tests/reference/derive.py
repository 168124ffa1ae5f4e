"""derive: demand per key over a rolling horizon, and the safety stock that it asks for."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from tests.reference.decode import DAY_MS, SCALE
from tests.reference.window import Moments, by_value


@dataclass
class Demand:
    """Daily windows in, statistics out. Days without a row of a key are days of no demand."""

    spec: dict[str, Any]
    days: dict[tuple[Any, ...], dict[int, int]] = field(default_factory=dict)  # key: day: demand
    today: int | None = None  # the start of the last day, ms

    def push(self, day: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the statistics of the keys that had a row on this day, in its order."""
        if not day:
            return []
        if self.today is not None:
            self.forget(day[0]["window_start"] - DAY_MS)
        self.today = day[0]["window_start"]
        changed = []
        for row in day:
            key = tuple(row[name] for name in self.spec["keys"])
            self.days.setdefault(key, {})[self.today] = row[self.spec["demand"]]
            changed.append(self.statistics(key))
        return changed

    def forget(self, last: int) -> None:
        """Forget the keys without any demand in the horizon that ends on the day `last`."""
        first = last - (self.spec["horizon_days"] - 1) * DAY_MS
        for key, demands in list(self.days.items()):
            if not any(demand for day, demand in demands.items() if first <= day <= last):
                del self.days[key]

    def current(self) -> list[dict[str, Any]]:
        """Return the statistics of all keys as of the last day, by key."""
        if self.today is None:
            return []
        self.forget(self.today)
        return [self.statistics(key) for key in sorted(self.days, key=lambda key: tuple(map(by_value, key)))]

    def statistics(self, key: tuple[Any, ...]) -> dict[str, Any]:
        demands, horizon = self.days[key], self.spec["horizon_days"]
        days = min(horizon, (self.today - min(demands)) // DAY_MS + 1)
        series = [demands.get(self.today - back * DAY_MS, 0) for back in range(days)]
        moments = Moments(series, SCALE if self.spec["types"][self.spec["demand"]] == "decimal" else 1)
        std = moments.std() or 0.0
        return {
            "day": self.today,
            **dict(zip(self.spec["keys"], key, strict=True)),
            "days": days,
            "demand": series[0],
            "mean": moments.mean(),
            "std": std,
            "safety_stock": self.spec["z"] * std * math.sqrt(self.spec["lead_time_days"]),
        }
