"""window: first, last, tops and sketches, their ties and their stated errors."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from tests.conformance.test_window import NET, event
from tests.conformance.test_window_kinds import run, spec
from tests.engines import CpuEngine, ReferenceEngine
from tests.strategies import HOUR_MS, START_MS


def test_first_and_last_go_by_event_time_and_then_by_value(engine: Any) -> None:
    """The worked example of docs/semantics.md."""
    sales = [(5, "b", 7), (1, "c", 3), (9, "a", 2), (1, "b", 4), (9, "B", 8)]
    messages = [event(START_MS + minute, quantity, sku=sku) for minute, sku, quantity in sales]
    chosen = [
        {"name": f"{op}_{column}", "op": op, "column": column}
        for op in ("first", "last")
        for column in ("sku", "quantity")
    ]
    closed, _, _ = run(engine, [messages], spec(keys=[], measures=chosen), HOUR_MS)
    assert {
        name: closed[0][0][name] for name in ("first_sku", "first_quantity", "last_sku", "last_quantity")
    } == {
        "first_sku": "b",
        "first_quantity": 3,
        "last_sku": "a",
        "last_quantity": 8,
    }


def test_tops_count_rows_or_add_up_and_break_ties_by_value(engine: Any) -> None:
    """The worked example of docs/semantics.md."""
    sales = [("c", 1, "paid"), ("a", 5, "paid"), ("b", 2, "paid"), ("b", 3, "paid"), ("c", 1, "returned")]
    messages = [event(START_MS, quantity, kind=kind, sku=sku) for sku, quantity, kind in sales]
    chosen = [
        {"name": f"{name}_{rank}{end}", "op": op, "column": "sku", "argument": rank, **more}
        for name, more in (
            ("often", {}),
            ("units", {"by": "quantity"}),
            ("net", {"by": "quantity", "condition": NET}),
        )
        for rank in (0, 1, 2)
        for op, end in (("top", ""), ("top_weight", "_weight"))
    ]
    closed, _, _ = run(engine, [messages], spec(keys=[], measures=chosen), HOUR_MS)
    row = closed[0][0]

    def ranked(name: str) -> list[Any]:
        return [(row[f"{name}_{rank}"], row[f"{name}_{rank}_weight"]) for rank in (0, 1, 2)]

    assert ranked("often") == [("b", 2), ("c", 2), ("a", 1)]
    assert ranked("units") == [("a", 5), ("b", 5), ("c", 2)]
    assert ranked("net") == [("a", 5), ("b", 5), (None, None)]  # the net of c is none


def test_a_weight_that_does_not_fit_is_an_error() -> None:
    messages = [event(START_MS, 2**63 - 1, "0"), event(START_MS, 1, "0")]
    chosen = [{"name": "best", "op": "top", "column": "sku", "by": "quantity"}]
    with pytest.raises(Exception, match=r"'best' overflows"):
        run(CpuEngine(), [messages], spec(measures=chosen), 0)


@pytest.mark.parametrize("count", [10, 1_000, 10_000, 30_000])
def test_an_approximate_distinct_count_is_near(count: int) -> None:
    """Within four standard errors of 1.6 %, for any column, and the same in any order and any batches."""
    numbers = list(range(count))
    chosen = [
        {"name": f"approx_{column}", "op": "approx_distinct", "column": column}
        for column in ("sku", "quantity")
    ]
    wanted = spec(keys=[], measures=chosen)
    messages = [
        event(START_MS + number % HOUR_MS, number * number, sku=f"sku-{number}") for number in numbers
    ]
    closed, _, _ = run(CpuEngine(), [messages], wanted, HOUR_MS)
    for name in ("approx_sku", "approx_quantity"):
        assert abs(closed[0][0][name] - count) <= 4 * 1.04 / math.sqrt(4096) * count + 0.5
    random.Random(7).shuffle(messages)
    third = len(messages) // 3
    parts = [messages[:third], messages[third:], messages[:third]]
    assert run(CpuEngine(), parts, wanted, HOUR_MS)[0] == closed


def test_quantiles_are_within_their_error_and_in_any_order() -> None:
    rng = random.Random(11)
    values = [rng.choice([1, -1]) * int(rng.lognormvariate(8, 4)) for _ in range(20_000)]
    quantiles = [0, 10_000, 250_000, 500_000, 900_000, 999_000, 1_000_000]
    chosen = [
        {"name": f"q{each}", "op": "quantile", "column": "quantity", "argument": each} for each in quantiles
    ]
    wanted = spec(keys=[], measures=chosen)
    messages = [event(START_MS, value) for value in values]
    closed, _, _ = run(CpuEngine(), [messages], wanted, 0)
    values.sort()
    for each in quantiles:
        exact = values[max(math.ceil(each * len(values) / 1_000_000), 1) - 1]
        assert abs(closed[0][0][f"q{each}"] - exact) <= abs(exact) / 256
    parts = [messages[10_000:], messages[:10_000][::-1]]
    assert run(CpuEngine(), parts, wanted, 0)[0] == closed


def test_many_groups_with_many_items() -> None:
    rng = random.Random(3)
    messages = [
        event(
            START_MS + rng.randrange(3 * HOUR_MS),
            rng.choice([None, 1, 2, 3000, -70_000]),
            sku=f"s{rng.randrange(40)}",
        )
        for _ in range(1_500)
    ]
    chosen = [
        {"name": "last_sku", "op": "last", "column": "sku"},
        {"name": "first_quantity", "op": "first", "column": "quantity"},
        {"name": "approx", "op": "approx_distinct", "column": "sku"},
        {"name": "q", "op": "quantile", "column": "quantity", "argument": 700_000},
        *({"name": f"top_{rank}", "op": "top", "column": "sku", "argument": rank} for rank in (0, 1, 30, 60)),
        {"name": "weight", "op": "top_weight", "column": "quantity", "by": "quantity"},
    ]
    for keys in ([], ["sku"], ["quantity"]):
        for kind in ({"kind": "tumbling"}, {"kind": "hopping", "hop_ms": HOUR_MS // 2}, {"kind": "global"}):
            wanted = spec(keys=keys, measures=chosen, **kind)
            expected = run(ReferenceEngine(), [messages], wanted, HOUR_MS)
            assert (
                run(CpuEngine(), [messages[:700], messages[700:]], wanted, HOUR_MS, restart=True) == expected
            )
