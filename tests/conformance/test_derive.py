"""derive: daily demand over a rolling horizon, and safety stock from it."""

from __future__ import annotations

import json
import math
from itertools import chain
from statistics import mean, stdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines import CpuEngine, ReferenceEngine
from tests.strategies import EVENT_TYPES, EVENTS, HOUR_MS, START_MS

SCHEMA = EVENTS.to_core()
DAY_MS = 24 * HOUR_MS
MAX_ULP = 4

DAILY = {
    "name": "daily",
    "size_ms": DAY_MS,
    "time_column": "event_time",
    "types": EVENT_TYPES,
    "measures": [
        {"name": "units", "op": "sum", "column": "quantity"},
        {"name": "value", "op": "sum", "column": "unit_price"},
    ],
}
Sale = tuple[int, str | None, str, int]  # day, sku, size, units


def spec(**changes: Any) -> dict[str, Any]:
    plain = {
        "horizon_days": 4,
        "keys": ["sku"],
        "demand": "units",
        "z": 1.645,
        "lead_time_days": 7.0,
        "types": EVENT_TYPES | {"units": "int64", "value": "decimal"},
    }
    return plain | changes


def run(engine: Any, sales: list[Sale], spec: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Push sales through a daily window; return what each day changed, and all keys as of each day."""
    lines = [
        {
            "event_time": START_MS + day * DAY_MS,
            "lines": [{"sku": sku, "size": size, "qty": units, "price": units / 4}],
        }
        for day, sku, size, units in sorted(sales, key=lambda sale: sale[0])
    ]
    cleaner = engine.cleaner([], "event_time", engine.watermark(0), None)
    window = engine.window(DAILY | {"keys": spec["keys"]})
    window.push(
        cleaner.clean(engine.decoder(SCHEMA).messages([json.dumps(line).encode() for line in lines]), 0)
    )
    demand = engine.demand(spec)
    changed, current = [], []
    for day in window.advance(2**63 - 1):
        changed.append(demand.push(day).rows)
        current.append(demand.current().rows)
    return changed, current


def assert_same_statistics(got: list[Any], expected: list[Any]) -> None:
    assert [len(day) for day in got] == [len(day) for day in expected]
    for row, meant in zip(chain(*got), chain(*expected), strict=True):
        assert list(row) == list(meant)
        for name, value in meant.items():
            if isinstance(value, float):
                assert abs(row[name] - value) <= MAX_ULP * math.ulp(value), name
            else:
                assert row[name] == value, name


SALES = st.lists(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from(["a", "b", "é", None]),
        st.sampled_from(["36", "37"]),
        st.one_of(st.integers(-3, 9), st.just(0), st.integers(0, 10**9)),
    ),
    max_size=24,
)


@given(
    SALES,
    st.sampled_from([["sku"], ["sku", "size"], []]),
    st.sampled_from(["units", "value"]),
    st.sampled_from([1, 2, 4, 28]),
)
def test_any_demand(sales: list[Sale], keys: list[str], measure: str, horizon_days: int) -> None:
    wanted = spec(keys=keys, demand=measure, horizon_days=horizon_days)
    changed, current = run(ReferenceEngine(), sales, wanted)
    got_changed, got_current = run(CpuEngine(), sales, wanted)
    assert_same_statistics(got_changed, changed)
    assert_same_statistics(got_current, current)


def test_days_without_a_row_are_days_without_demand(engine: Any) -> None:
    changed, current = run(
        engine, [(0, "a", "36", 4), (2, "a", "36", 2), (2, "b", "36", 5), (3, "b", "36", 1)], spec()
    )
    assert [[row["sku"] for row in day] for day in changed] == [["a"], ["a", "b"], ["b"]]
    assert (changed[0][0]["days"], changed[0][0]["std"], changed[0][0]["safety_stock"]) == (1, 0.0, 0.0)
    second = changed[1][0]
    assert (second["day"], second["days"], second["demand"]) == (START_MS + 2 * DAY_MS, 3, 2)
    assert second["mean"] == pytest.approx(mean([4, 0, 2]), rel=1e-15)
    assert second["std"] == pytest.approx(stdev([4, 0, 2]), rel=1e-15)
    assert second["safety_stock"] == pytest.approx(1.645 * stdev([4, 0, 2]) * math.sqrt(7), rel=1e-15)
    last = current[2]
    assert [(row["sku"], row["days"], row["demand"]) for row in last] == [("a", 4, 0), ("b", 2, 1)]
    assert last[0]["mean"] == pytest.approx(mean([4, 0, 2, 0]), rel=1e-15)


def test_keys_without_demand_are_forgotten_and_start_anew(engine: Any) -> None:
    sales = [(0, "a", "36", 4), (3, "b", "36", 1), (4, "b", "36", 1), (9, "a", "36", 6)]
    changed, current = run(engine, sales, spec())
    assert [[row["sku"] for row in day] for day in current] == [["a"], ["a", "b"], ["b"], ["a"]]
    assert (changed[3][0]["days"], changed[3][0]["mean"]) == (1, 6.0)


def test_the_horizon_rolls(engine: Any) -> None:
    sales = [(day, "a", "36", units) for day, units in enumerate([9, 1, 2, 3, 5, 8])]
    changed, _ = run(engine, sales, spec())
    assert [day[0]["days"] for day in changed] == [1, 2, 3, 4, 4, 4]
    assert changed[5][0]["mean"] == pytest.approx(mean([2, 3, 5, 8]), rel=1e-15)
    assert changed[5][0]["std"] == pytest.approx(stdev([2, 3, 5, 8]), rel=1e-15)
