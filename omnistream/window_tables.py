"""Reads the windows of a job: their intervals, what they tell and when, and their measures."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Mapping
from typing import Any

from omnistream.measures import (
    MOST_TOP,
    Condition,
    Lifecycle,
    MeasureError,
    MeasureSpec,
    misfit,
    named_measure,
    parse_condition,
    parse_measure,
)
from omnistream.mistakes import Table, need_column, quoted
from omnistream.spec import (
    DAY_MS,
    INTERVAL_COLUMNS,
    REJECTS,
    ROWS,
    SALE_TIME,
    SalesSpec,
    WindowSpec,
    early_columns,
)
from omnistream.time_zone import zone_offsets

# A calendar window is a tumbling one, to those who write jobs.
_KEYS_OF_KIND = {
    "tumbling": ("size", "offset", "time_zone", "allowed_lateness"),
    "hopping": ("size", "offset", "hop", "allowed_lateness"),
    "session": ("gap", "allowed_lateness"),
    "global": ("ttl",),
}
_CALENDAR_SIZE = re.compile(r"1\s*(?:(day|week|month)|d)")
_SHORTEST_DAYS = {"day": 1, "week": 7, "month": 28}
KEY_TYPES = ("dictionary", "string", "int32", "int64", "bool", "timestamp")


class Outputs:
    """The outputs read so far by name, with the types of their columns; None where a mistake hides them."""

    def __init__(self, row_columns: dict[str, str]) -> None:
        self.columns: dict[str, dict[str, str] | None] = {ROWS: row_columns or None}

    def claim(self, table: Table) -> str:
        """Return the name of a new output."""
        name = table.text("name", example="sales")
        if name == REJECTS:
            table.add("name", '"rejects" is where rejected rows go', "take another name")
        elif name in self.columns:
            table.add("name", f"{quoted(name)} is taken", "give every window and derive a name of its own")
        return name


def read_window(table: Table, outputs: Outputs, lifecycle: Lifecycle, sales: SalesSpec | None) -> WindowSpec:
    """Read one [[window]] and claim its output; mistakes go to the table's problems."""
    columns = outputs.columns[ROWS] or {}
    before = len(table.problems.lines)
    name = outputs.claim(table)
    interval = _read_interval(table)
    early_ms = _read_emission(table)
    original_time, corrections = _read_correction(table, interval["kind"], lifecycle, sales, columns)
    keys = table.texts("keys", single=True)
    for key in keys:
        need_column(table, "keys", key, columns, KEY_TYPES)
    read = [_measure_text(table, text, lifecycle) for text in table.texts("measures", single=True)]
    read += [_measure_table(each, lifecycle) for each in table.tables("measure")]
    measures = [(place, measure) for place, measure in read if measure is not None]
    if not read and "measures" not in table:
        table.add("measures", "is missing", 'add measures = ["count", "units_net"]')
    table.finish()
    taken = {*(() if interval["kind"] == "global" else INTERVAL_COLUMNS), *keys}
    taken |= set(early_columns(interval["kind"])) if early_ms else set()
    for place, measure in measures:
        mistake = misfit(measure, columns) if columns else None
        if mistake:
            table.problems.add(place, *mistake)
        for column in measure.output_columns(columns):
            if column in taken:
                table.problems.add(
                    place,
                    f"another column is named {quoted(column)}",
                    f'name it: "... as {measure.name}_2"',
                )
            taken.add(column)
    window = WindowSpec(
        early_ms=early_ms,
        original_time=original_time,
        corrections=corrections,
        name=name,
        keys=keys,
        measures=tuple(measure for _, measure in measures),
        **interval,
    )
    if name:
        sound = columns and len(table.problems.lines) == before
        outputs.columns.setdefault(name, window.output_columns(columns) if sound else None)
    return window


def _read_interval(table: Table) -> dict[str, Any]:
    """Return what a `WindowSpec` says of its intervals."""
    kind: Any = table.text("kind", default="tumbling", choices=tuple(_KEYS_OF_KIND))
    own = _KEYS_OF_KIND[kind]
    for key in ("size", "hop", "offset", "time_zone", "gap", "ttl", "allowed_lateness"):
        if key not in own and table.take(key) is not None:
            other = {"hop": "hopping", "gap": "session", "ttl": "global"}.get(key)
            fix = f"add kind = {quoted(other)}, or remove it" if other else "remove it"
            table.add(key, f"makes no sense with kind = {quoted(kind)}", fix)
    if kind == "global":
        if "ttl" not in table:
            return {"kind": kind, "size_ms": 0}
        # A key that goes when it has been silent for so long, and may come again, is a session.
        ttl_ms = table.duration("ttl", None, "90d", positive=True)
        return {"kind": "session", "size_ms": 0, "gap_ms": ttl_ms}
    allowed_lateness_ms = table.duration("allowed_lateness", "0s", "10m")
    if kind == "session":
        gap_ms = table.duration("gap", None, "30m", positive=True)
        return {"kind": kind, "size_ms": 0, "gap_ms": gap_ms, "allowed_lateness_ms": allowed_lateness_ms}
    offset_ms = table.duration("offset", "0s", "6h")
    size = _CALENDAR_SIZE.fullmatch(str(table.values.get("size", "")))
    if kind == "tumbling" and ((size and size[1]) or "time_zone" in table):
        calendar = _read_calendar(table, (size[1] or "day") if size else "", offset_ms)
        return {**calendar, "allowed_lateness_ms": allowed_lateness_ms}
    size_ms = table.duration("size", None, "1m", positive=True)
    hop_ms = table.duration("hop", None, "10s", positive=True) if kind == "hopping" else 0
    if hop_ms > size_ms > 1:
        table.add("hop", "is longer than size, so that no window holds what lies between", "shorten it")
    if size_ms > 1 and offset_ms >= (hop_ms or size_ms):
        key = "hop" if hop_ms else "size"
        table.add("offset", f"is not shorter than {key}", "write the part of it that is left over")
    return {
        "kind": kind,
        "size_ms": size_ms,
        "hop_ms": hop_ms,
        "offset_ms": offset_ms,
        "allowed_lateness_ms": allowed_lateness_ms,
    }


def _read_emission(table: Table) -> int:
    """Return the interval of early results, 0 for final ones only."""
    emit = table.text("emit", default="final", choices=("final", "early"))
    if emit == "final":
        if table.take("every") is not None:
            table.add("every", 'makes no sense with emit = "final"', 'add emit = "early", or remove it')
        return 0
    return table.duration("every", None, "10s", positive=True)


def _read_correction(
    table: Table, kind: str, lifecycle: Lifecycle, sales: SalesSpec | None, columns: Mapping[str, str]
) -> tuple[str, Condition | None]:
    """Return the column that says when the sale was, and which rows correct one; neither by default."""
    correct = table.text("correct", default="where_it_occurs", choices=("where_it_occurs", "original_sale"))
    if correct == "where_it_occurs":
        if table.take("original_time") is not None:
            table.add("original_time", "is not used", 'add correct = "original_sale", or remove it')
        return "", None
    original_time = SALE_TIME
    if sales is None or "original_time" in table:
        original_time = table.text("original_time", example="sold_at")
        need_column(table, "original_time", original_time, columns, ("timestamp",))
    need_column(table, "correct", lifecycle.column, columns, ("dictionary",))
    if kind in ("session", "global"):
        table.add("correct", f"a {kind} window is of no fixed time", "remove it, or take another kind")
    if not (*lifecycle.returned, *lifecycle.cancelled):
        table.add("correct", "no event type is a correction", "name some under [lifecycle]")
    return original_time, Condition(lifecycle.column, (*lifecycle.returned, *lifecycle.cancelled))


def _read_calendar(table: Table, unit: str, offset_ms: int) -> dict[str, Any]:
    table.take("size")
    if not unit:
        what = f"{quoted(table.values.get('size', ''))} is not a day, a week or a month of a time zone"
        table.add("size", what, 'write "1 day", "1 week" or "1 month", or remove time_zone')
        unit = "day"
    if offset_ms >= _SHORTEST_DAYS[unit] * DAY_MS:
        table.add("offset", f"is not shorter than every {unit}", "write the part of it that is left over")
    time_zone = table.text("time_zone", default="UTC", example="Asia/Shanghai")
    try:
        zone_offsets(time_zone)
    except (KeyError, ValueError, OSError):
        near = difflib.get_close_matches(time_zone, zoneinfo.available_timezones(), n=1)
        fix = f"did you mean {quoted(near[0])}?" if near else 'write one such as "Asia/Shanghai"'
        if not zoneinfo.available_timezones():
            fix = "this system has none: pip install tzdata"
        table.add("time_zone", f"{quoted(time_zone)} is not a time zone", fix)
    return {"kind": "calendar", "size_ms": 0, "unit": unit, "time_zone": time_zone, "offset_ms": offset_ms}


def _measure_text(table: Table, text: str, lifecycle: Lifecycle) -> tuple[str, MeasureSpec | None]:
    place = table.at("measures")
    try:
        return place, parse_measure(text, lifecycle)
    except MeasureError as error:
        table.problems.add(place, error.what, error.fix)
        return place, None


def _measure_table(table: Table, lifecycle: Lifecycle) -> tuple[str, MeasureSpec | None]:
    """One [[window.measure]]: the same parts, spelled out."""
    op, column = table.text("op", example="sum"), table.text("column", default="")
    name, where = table.text("name", default=""), table.text("where", default="")
    arguments: list[str] = []
    if op == "top":
        arguments = [str(table.integer("count", 1, 1, MOST_TOP))]
        by = table.text("by", default="")
        arguments += [by] if by else []
    elif op == "quantile":
        value = table.take("quantile")
        arguments = [str(value)] if value is not None else []
    table.finish()
    condition: Condition | None = None
    try:
        condition = parse_condition(where) if where else None
        measure = named_measure(op, column, name, condition, lifecycle, arguments) if op else None
        return table.place, measure
    except MeasureError as error:
        table.problems.add(table.place, error.what, error.fix)
        return table.place, None
