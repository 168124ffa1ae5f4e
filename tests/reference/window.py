"""window: exact aggregates of event-time windows."""

from __future__ import annotations

import decimal
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.reference.clean import NONE
from tests.reference.decode import INT64, SCALE, Row


@dataclass
class Window:
    """A tumbling window. Results are ordered by key: nulls first, strings by their bytes."""

    spec: dict[str, Any]
    open: dict[int, dict[tuple[Any, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    closed_ms: int = NONE
    aggregated: int = 0
    late: int = 0

    def final_ms(self, start_ms: int) -> int:
        return start_ms + self.spec["size_ms"] + self.spec.get("allowed_lateness_ms", 0)

    def push(self, survivors: Iterable[tuple[Row, int]]) -> list[int]:
        """Take rows in; return the places of those that came late."""
        late = []
        size_ms, offset_ms = self.spec["size_ms"], self.spec.get("offset_ms", 0)
        for place, (row, watermark_ms) in enumerate(survivors):
            time_ms = row.values[self.spec["time_column"]]
            start_ms = (time_ms - offset_ms) // size_ms * size_ms + offset_ms
            if self.final_ms(start_ms) <= max(watermark_ms, self.closed_ms):
                late.append(place)
                continue
            key = tuple(row.values[name] for name in self.spec["keys"])
            self.open.setdefault(start_ms, {}).setdefault(key, []).append(row.values)
            self.aggregated += 1
        self.late += len(late)
        return late

    def advance(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what has become final: a list of result rows for each window, by start."""
        self.closed_ms = max(self.closed_ms, watermark_ms)
        final = sorted(start_ms for start_ms in self.open if self.final_ms(start_ms) <= self.closed_ms)
        return [self.close(start_ms) for start_ms in final]

    def close(self, start_ms: int) -> list[dict[str, Any]]:
        groups = self.open.pop(start_ms)
        return [
            {
                "window_start": start_ms,
                "window_end": start_ms + self.spec["size_ms"],
                **dict(zip(self.spec["keys"], key, strict=True)),
                **{
                    each["name"]: measure(each, groups[key], self.spec["types"])
                    for each in self.spec["measures"]
                },
            }
            for key in sorted(groups, key=lambda key: tuple(map(by_value, key)))
        ]


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
