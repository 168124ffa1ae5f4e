"""Rules of cleaning as users write them: the bounds that the core gets."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest

from omnistream.job import parse_job
from tests.job_documents import flat


def rule_of(rule: dict[str, Any]) -> dict[str, Any]:
    return parse_job(flat(clean={"rule": [rule]})).rules[0].to_core()


@pytest.mark.parametrize(
    ("rule", "core"),
    [
        (
            {"check": "price_below_cost"},
            {"kind": "less_than", "column": "unit_price", "other": "unit_cost", "reason": "price_below_cost"},
        ),
        (
            {"check": "positive_quantity"},
            {
                "kind": "range",
                "column": "quantity",
                "low": 1,
                "high": 2**63 - 1,
                "reason": "non_positive_quantity",
            },
        ),
        (
            {"check": "price_range", "low": Decimal("0.01"), "high": 999},
            {
                "kind": "range",
                "column": "unit_price",
                "low": 100,
                "high": 9_990_000,
                "reason": "price_out_of_range",
            },
        ),
        ({"check": "price_range", "low": 0.1}, {"low": 1_000}),
        (
            {"check": "discount_range"},
            {
                "kind": "range",
                "column": "discount",
                "low": 0,
                "high": 10_000,
                "reason": "discount_out_of_range",
            },
        ),
        ({"check": "discount_range", "high": 0.5}, {"low": 0, "high": 5_000}),
        (
            {"check": "event_time_ahead", "by": "5m"},
            {"kind": "ahead", "column": "event_time", "high": 300_000, "reason": "event_time_ahead"},
        ),
        (
            {"check": "event_time_behind", "by": "30d"},
            {"kind": "behind", "column": "event_time", "low": 2_592_000_000, "reason": "event_time_behind"},
        ),
        (
            {"check": "required", "column": "store_id"},
            {"kind": "required", "column": "store_id", "reason": "missing_value"},
        ),
        (
            {"check": "allowed", "column": "event_type"},
            {
                "kind": "allowed",
                "values": ["created", "paid", "shipped", "delivered", "cancelled", "returned"],
                "reason": "value_not_allowed",
            },
        ),
        ({"check": "allowed", "column": "channel", "values": ["web"]}, {"values": ["web"]}),
        (
            {"check": "less_than", "column": "unit_cost", "other": "discount", "reason": "odd"},
            {"kind": "less_than", "column": "unit_cost", "other": "discount", "reason": "odd"},
        ),
        (
            {"check": "range", "column": "quantity", "high": 99},
            {"low": -(2**63), "high": 99, "reason": "quantity_out_of_range"},
        ),
        (
            {"check": "range", "column": "event_time", "low": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
            {"kind": "range", "low": 1_767_225_600_000},
        ),
        ({"check": "range", "column": "event_time", "low": dt.date(2026, 1, 1)}, {"low": 1_767_225_600_000}),
    ],
)
def test_rules_compile_to_lane_units(rule: dict[str, Any], core: dict[str, Any]) -> None:
    assert {key: rule_of(rule)[key] for key in core} == core


def test_bounds_of_a_float_column_stand_apart() -> None:
    schema = {
        "field": [
            {"name": "at", "path": "at", "type": "timestamp", "required": True},
            {"name": "weight", "path": "w", "type": "float64"},
        ]
    }
    rules = [
        {"check": "range", "column": "weight", "low": 0.5},
        {"check": "positive_quantity", "column": "weight"},
    ]
    job = parse_job({"schema": schema, "time": {"column": "at"}, "clean": {"rule": rules}})
    assert (job.rules[0].low_float, job.rules[0].high_float) == (0.5, math.inf)
    assert job.rules[1].low_float == 5e-324
