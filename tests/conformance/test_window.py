"""window: exact aggregates over tumbling windows; every engine gives the reference's results."""

from __future__ import annotations

import math
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream.errors import StateError
from tests.engines import CpuEngine, ReferenceEngine
from tests.strategies import EVENT_TYPES, EVENTS, HOUR_MS, START_MS, batches, events

SCHEMA = EVENTS.to_core()
END_MS = 2**63 - 1
MAX_ULP = 4  # of means, variances and standard deviations

SOLD = {"column": "event_type", "plus": ["paid"], "minus": []}
NET = {"column": "event_type", "plus": ["paid", "created"], "minus": ["returned", "cancelled"]}
NUMBERS = ("quantity", "small", "unit_price", "amount")


def measures() -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = [
        {"name": "rows", "op": "count"},
        {"name": "sold_rows", "op": "count", "condition": SOLD},
        {"name": "net_rows", "op": "count", "condition": NET},
        {"name": "skus_counted", "op": "count", "column": "sku", "condition": NET},
    ]
    for column in NUMBERS:
        out += [
            {"name": f"{op}_{column}", "op": op, "column": column} for op in ("sum", "min", "max", "mean")
        ]
        out += [{"name": f"{op}_{column}", "op": op, "column": column} for op in ("variance", "std")]
        out += [{"name": f"net_{column}", "op": "sum", "column": column, "condition": NET}]
        out += [
            {"name": f"sold_{op}_{column}", "op": op, "column": column, "condition": SOLD}
            for op in ("min", "std")
        ]
    for column in ("weight", "event_time"):
        out += [{"name": f"{op}_{column}", "op": op, "column": column} for op in ("min", "max")]
    for column in ("sku", "size", "quantity", "small", "gift", "event_time", "unit_price"):
        out += [{"name": f"distinct_{column}", "op": "distinct", "column": column}]
    out += [{"name": "distinct_sold", "op": "distinct", "column": "sku", "condition": SOLD}]
    for column in ("sku", "size", "quantity", "small", "gift", "event_time", "unit_price", "weight"):
        out += [{"name": f"{op}_{column}", "op": op, "column": column} for op in ("first", "last")]
    out += [{"name": "last_sold", "op": "last", "column": "sku", "condition": SOLD}]
    for column, by, condition in (
        ("sku", "", None),
        ("sku", "quantity", NET),
        ("size", "amount", None),
        ("size", "", NET),
        ("quantity", "small", SOLD),
        ("gift", "", None),
    ):
        common = {"column": column, "by": by, "condition": condition}
        for rank in (0, 2):
            name = f"{column}_by_{by}_{rank}_{condition and len(condition['minus'])}"
            out += [{"name": f"top_{name}", "op": "top", "argument": rank, **common}]
            out += [{"name": f"weight_{name}", "op": "top_weight", "argument": rank, **common}]
    for column in ("sku", "size", "quantity", "gift", "small"):
        out += [{"name": f"approx_{column}", "op": "approx_distinct", "column": column}]
    for column in NUMBERS:
        for millionths in (0, 250_000, 999_999, 1_000_000):
            out += [
                {
                    "name": f"q{millionths}_{column}",
                    "op": "quantile",
                    "column": column,
                    "argument": millionths,
                }
            ]
    out += [
        {"name": "sold_median", "op": "quantile", "column": "amount", "argument": 500_000, "condition": SOLD}
    ]
    return out


def spec(**changes: Any) -> dict[str, Any]:
    plain = {
        "name": "sales",
        "size_ms": HOUR_MS,
        "offset_ms": 0,
        "allowed_lateness_ms": 0,
        "time_column": "event_time",
        "keys": ["sku"],
        "measures": measures(),
        "types": EVENT_TYPES,
    }
    return plain | changes


def run(
    engine: Any, parts: list[list[bytes]], spec: dict[str, Any], max_disorder_ms: int, every: int = 1
) -> tuple[list[Any], list[Any], dict[str, int]]:
    """Return the windows in the order in which they closed, the late rows, and the counts before the end."""
    decoder, watermark = engine.decoder(SCHEMA), engine.watermark(max_disorder_ms)
    cleaner, window = engine.cleaner([], "event_time", watermark, None), engine.window(spec)
    closed: list[Any] = []
    late: list[Any] = []
    for number, part in enumerate(parts):
        decoded, overflowed = engine.add_amounts(decoder.messages(part), EVENT_TYPES)
        late += window.push(cleaner.clean(decoded, 0, overflowed))
        if number % every == 0:
            closed += window.advance(watermark.value_ms)
    counts = window.counts
    closed += window.advance(END_MS)
    return [result.rows for result in closed], late, counts


def assert_same_windows(got: list[list[dict[str, Any]]], expected: list[list[dict[str, Any]]]) -> None:
    assert [len(window) for window in got] == [len(window) for window in expected]
    for row, meant in zip(chain(*got), chain(*expected), strict=True):
        assert list(row) == list(meant)
        for name, value in meant.items():
            rounded = isinstance(value, float) and not name.endswith("_weight")
            if rounded and isinstance(row[name], float):
                assert abs(row[name] - value) <= MAX_ULP * math.ulp(value), name
            else:
                assert repr(row[name]) == repr(value), name


KEYS = [
    [],
    ["sku"],
    ["size"],
    ["gift", "small"],
    ["quantity", "sku", "size"],
    ["event_time"],
    ["event_type", "sku"],
]


@given(
    batches(events(max_size=16)),
    st.sampled_from(KEYS),
    st.sampled_from([HOUR_MS, 7 * 60_000, 24 * HOUR_MS, 1]),
    st.sampled_from([0, 1, -1, 30 * 60_000, 10**15]),
    st.sampled_from([0, 1, HOUR_MS]),
    st.sampled_from([0, HOUR_MS]),
)
def test_any_window(
    parts: list[list[bytes]],
    keys: list[str],
    size_ms: int,
    offset_ms: int,
    lateness_ms: int,
    disorder_ms: int,
) -> None:
    names = {*keys, "window_start", "window_end"}
    wanted = spec(
        keys=keys,
        size_ms=size_ms,
        offset_ms=offset_ms,
        allowed_lateness_ms=lateness_ms,
        measures=[each for each in measures() if each["name"] not in names],
    )
    expected, late, counts = run(ReferenceEngine(), parts, wanted, disorder_ms)
    got, got_late, got_counts = run(CpuEngine(), parts, wanted, disorder_ms)
    assert got_late == late
    assert got_counts == counts
    assert_same_windows(got, expected)


@given(batches(events(max_size=16)), st.integers(1, 4), st.sampled_from([0, HOUR_MS]))
def test_any_batching_and_any_moment_of_closing(
    parts: list[list[bytes]], every: int, disorder_ms: int
) -> None:
    whole = [[message for part in parts for message in part]]
    for engine in (ReferenceEngine(), CpuEngine()):
        closed, late, counts = run(engine, parts, spec(), disorder_ms, every)
        at_once, late_at_once, counts_at_once = run(engine, whole, spec(), disorder_ms)
        assert closed == at_once
        assert late == late_at_once
        for name in ("aggregated", "late"):
            assert counts[name] == counts_at_once[name]


def event(time_ms: int, quantity: int | None, price: str = "1", kind: str = "paid", sku: str = "a") -> bytes:
    number = "null" if quantity is None else quantity
    line = f'{{"sku":"{sku}","qty":{number},"price":{price}}}'
    return f'{{"event_type":"{kind}","event_time":{time_ms},"lines":[{line}]}}'.encode()


def test_what_a_window_holds(engine: Any) -> None:
    parts = [
        [
            event(START_MS, 2, "10.50"),
            event(START_MS + HOUR_MS - 1, 4, "0.25"),
            event(START_MS + HOUR_MS, 9, "1"),
            event(START_MS + 5, 1, "3", kind="returned"),
            event(START_MS + 6, None, "3", kind="created"),
        ]
    ]
    chosen = [
        {"name": "rows", "op": "count"},
        {"name": "quantities", "op": "count", "column": "quantity"},
        {"name": "net_units", "op": "sum", "column": "quantity", "condition": NET},
        {"name": "prices", "op": "sum", "column": "unit_price"},
        {"name": "mean_price", "op": "mean", "column": "unit_price"},
        {"name": "std_quantity", "op": "std", "column": "quantity"},
        {"name": "distinct_quantity", "op": "distinct", "column": "quantity"},
    ]
    closed, late, counts = run(engine, parts, spec(measures=chosen), HOUR_MS)
    assert late == []
    assert counts["aggregated"] == 5
    first = closed[0][0]
    assert {name: value for name, value in first.items() if name != "std_quantity"} == {
        "window_start": START_MS,
        "window_end": START_MS + HOUR_MS,
        "sku": "a",
        "rows": 4,
        "quantities": 3,
        "net_units": 5,
        "prices": 167_500,
        "mean_price": 4.1875,
        "distinct_quantity": 3,
    }
    assert first["std_quantity"] == pytest.approx(1.5275252316519468, rel=1e-15)
    second = closed[1][0]
    assert (second["net_units"], second["std_quantity"]) == (9, None)


def test_late_rows(engine: Any) -> None:
    """A window is final at its end plus the allowed lateness, seen from the watermark that the row met."""
    parts = [
        [event(START_MS, 1), event(START_MS + HOUR_MS + 99, 1), event(START_MS + 1, 2)],
        [event(START_MS + HOUR_MS + 100, 1), event(START_MS + 2, 3), event(START_MS + HOUR_MS, 4)],
    ]
    closed, late, counts = run(engine, parts, spec(allowed_lateness_ms=100), 0)
    assert [row["quantity"] for row in late] == [3]
    assert [window[0]["sum_quantity"] for window in closed] == [3, 6]
    assert (counts["aggregated"], counts["late"]) == (5, 1)


def test_order_of_keys(engine: Any) -> None:
    skus = ["é", "b", "", "a", "ab", "B", "鞋", "😀", "\uffff"]
    parts = [[event(START_MS, 1, sku=sku) for sku in skus] + [event(START_MS, 1).replace(b'"a"', b"null")]]
    closed, _, _ = run(engine, parts, spec(), 0)
    assert [row["sku"] for row in closed[0]] == [None, *sorted(skus, key=str.encode)]


def test_a_sum_that_does_not_fit_is_an_error(engine: Any) -> None:
    parts = [[event(START_MS, 2**63 - 1, "0"), event(START_MS, 1, "0")]]
    chosen = [{"name": "units", "op": "sum", "column": "quantity"}]
    with pytest.raises((OverflowError, StateError), match="units"):
        run(engine, parts, spec(measures=chosen), 0)


def test_moments_of_large_numbers_are_exact(engine: Any) -> None:
    """Where a sum of squares in floating point would lose every digit."""
    parts = [[event(START_MS, 10**15 + number, "0") for number in (1, 2, 3, 4)]]
    chosen = [{"name": each, "op": each, "column": "quantity"} for each in ("mean", "variance", "std")]
    closed, _, _ = run(engine, parts, spec(measures=chosen), 0)
    row = closed[0][0]
    assert row["mean"] == 10**15 + 2.5
    assert row["variance"] == pytest.approx(5 / 3, rel=1e-15)
    assert row["std"] == pytest.approx(math.sqrt(5 / 3), rel=1e-15)
