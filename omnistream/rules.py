"""Clean rules: the checks a job names, compiled to the few kinds that the C++ core knows.

Nulls pass every check but ``required``. Bounds are inclusive. A bound on a decimal column is exact: ``low =
0.01`` is one hundredth, scaled to the column's integers here, once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from omnistream.mistakes import Table, did_you_mean, exact_number, moment_ms, one_of, quoted

EVENT_TYPES = ("created", "paid", "shipped", "delivered", "cancelled", "returned")

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_DECIMAL_SCALE = 10_000
_NUMBERS = ("int32", "int64", "decimal", "float64")
_TEXTS = ("dictionary", "string")


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule: ``kind`` and what follows it are as in the C++ core, in the unit of the column's lane."""

    check: str
    kind: str
    column: str
    reason: str
    other: str = ""
    low: int = INT64_MIN
    high: int = INT64_MAX
    low_float: float = -math.inf
    high_float: float = math.inf
    values: tuple[str, ...] = ()

    def to_core(self) -> dict[str, Any]:
        """Return the rule as the C++ core takes it."""
        return {
            "kind": self.kind,
            "column": self.column,
            "other": self.other,
            "reason": self.reason,
            "low": self.low,
            "high": self.high,
            "low_float": self.low_float,
            "high_float": self.high_float,
            "values": list(self.values),
        }


@dataclass(frozen=True, slots=True)
class _Check:
    """What a check stands for, and its defaults."""

    kind: str
    types: tuple[str, ...]  # of the column
    column: str = ""
    other: str = ""
    reason: str = ""  # "{column}" and "{other}" are filled in
    low: str | None = None
    high: str | None = None
    by: str = ""  # ahead and behind: the example shown when it is missing


CHECKS: dict[str, _Check] = {
    "price_below_cost": _Check(
        "less_than", _NUMBERS, column="unit_price", other="unit_cost", reason="price_below_cost"
    ),
    # one unit of the lane, which is the smallest value above zero that the column can hold
    "positive_quantity": _Check("range", _NUMBERS, column="quantity", reason="non_positive_quantity"),
    "price_range": _Check("range", _NUMBERS, column="unit_price", reason="price_out_of_range"),
    "discount_range": _Check(
        "range", _NUMBERS, column="discount", reason="discount_out_of_range", low="0", high="1"
    ),
    "event_time_ahead": _Check(
        "ahead", ("timestamp",), column="event_time", reason="event_time_ahead", by="5m"
    ),
    "event_time_behind": _Check(
        "behind", ("timestamp",), column="event_time", reason="event_time_behind", by="30d"
    ),
    "required": _Check("required", (), reason="missing_value"),
    "allowed": _Check("allowed", _TEXTS, reason="value_not_allowed"),
    "less_than": _Check("less_than", (*_NUMBERS, "timestamp"), reason="{column}_below_{other}"),
    "range": _Check("range", (*_NUMBERS, "timestamp"), reason="{column}_out_of_range"),
}


def read_rule(table: Table, columns: Mapping[str, str]) -> RuleSpec | None:
    """One ``[[clean.rule]]``; None when a mistake was noted.

    Parameters
    ----------
    table : Table
        The rule's table; its mistakes go to the table's problems.
    columns : mapping
        The types of the columns by name.
    """
    check = table.text("check", choices=tuple(CHECKS))
    if not check:
        return None
    preset = CHECKS[check]
    mistakes = len(table.problems.lines)
    column = table.text("column", default=preset.column or None, example="unit_price")
    kind = _column_type(table, "column", column, columns, preset.types)
    rule = RuleSpec(check, preset.kind, column, "")
    if preset.kind == "less_than":
        other = table.text("other", default=preset.other or None, example="unit_cost")
        _column_type(table, "other", other, columns, (kind,) if kind else ())
        rule = replace(rule, other=other)
    elif check == "positive_quantity":
        rule = replace(rule, low=1, low_float=math.nextafter(0.0, 1.0))
    elif preset.kind == "range":
        low, high = table.take("low"), table.take("high")
        low, high = preset.low if low is None else low, preset.high if high is None else high
        if low is None and high is None:
            table.add("low", "is missing, and so is high", "add low = ..., high = ... or both (inclusive)")
        elif kind:
            rule = _bounded(table, rule, kind, low, high)
    elif preset.kind == "ahead":
        rule = replace(rule, high=table.duration("by", None, preset.by))
    elif preset.kind == "behind":
        rule = replace(rule, low=table.duration("by", None, preset.by))
    elif preset.kind == "allowed":
        values = table.texts("values", default=EVENT_TYPES if column == "event_type" else ())
        if not values and not table.values.get("values"):
            table.add("values", "is missing", 'add values = ["...", "..."]')
        rule = replace(rule, values=values)
    reason = table.text("reason", default=preset.reason.format(column=column, other=rule.other))
    table.finish()
    sound = bool(columns) and len(table.problems.lines) == mistakes
    return replace(rule, reason=reason) if sound else None


def _column_type(
    table: Table, key: str, column: str, columns: Mapping[str, str], types: tuple[str, ...]
) -> str:
    """Return the type of the column, "" when there is none or it does not fit."""
    kind = columns.get(column)
    if not column or not columns:
        return ""
    if kind is None:
        table.add(key, f"{quoted(column)} is not a column of the schema", did_you_mean(column, list(columns)))
        return ""
    if types and kind not in types:
        able = [name for name, each in columns.items() if each in types]
        what = f"{quoted(column)} is a {kind}, not {' or '.join(types)}"
        table.add(key, what, f"take {one_of(able)}" if able else "give the schema such a column")
        return ""
    return kind


def _bounded(table: Table, rule: RuleSpec, kind: str, low: object, high: object) -> RuleSpec:
    """Return the rule with its bounds in the unit of the lane: decimals scaled, times in ms, floats apart."""
    if kind == "float64":
        low_float, high_float = _float(table, "low", low), _float(table, "high", high)
        rule = replace(
            rule,
            low_float=rule.low_float if low_float is None else low_float,
            high_float=rule.high_float if high_float is None else high_float,
        )
    else:
        low_lane, high_lane = _lane(table, "low", kind, low), _lane(table, "high", kind, high)
        rule = replace(
            rule,
            low=rule.low if low_lane is None else low_lane,
            high=rule.high if high_lane is None else high_lane,
        )
    if rule.low > rule.high or rule.low_float > rule.high_float:
        table.add("low", "is above high, so every row would be rejected", "swap the two")
    return rule


def _float(table: Table, key: str, bound: object) -> float | None:
    number = exact_number(bound)
    if number is None and bound is not None:
        table.add(key, f"{quoted(bound)} is not a number", "write one such as 0.5")
    return None if number is None else float(number)


def _lane(table: Table, key: str, kind: str, bound: object) -> int | None:
    if bound is None:
        return None
    if kind == "timestamp":
        moment = moment_ms(bound)
        if moment is None:
            table.add(key, f"{quoted(bound)} is not a date", "write one such as 2026-01-31T00:00:00Z")
        return moment
    number = exact_number(bound)
    if number is None:
        table.add(
            key,
            f"{quoted(bound)} is not a number",
            f"write one such as {'9.99' if kind == 'decimal' else '9'}",
        )
        return None
    lane = number * _DECIMAL_SCALE if kind == "decimal" else number
    if lane != lane.to_integral_value() or not INT64_MIN <= lane <= INT64_MAX:
        fix = "write at most four decimal places" if kind == "decimal" else "write a whole number"
        table.add(
            key, f"{number} is not a value that {quoted(table.values.get('column', kind))} can hold", fix
        )
        return None
    return int(Decimal(lane))
