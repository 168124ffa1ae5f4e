"""Reads tables of a job file and collects every mistake, so that one run of ``check`` shows them all.

Each mistake is one line: the file, the key, what is wrong, the fix. A reader never raises for a mistake: it
notes it and returns a harmless value, so that whatever comes later in the file is read, too.
"""

from __future__ import annotations

import datetime as dt
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

_DURATION_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SIZE_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b)", re.IGNORECASE)
# Durations are added to event times of years 1..9999 in int64 milliseconds: no such sum overflows.
LONGEST_DURATION_MS = 10_000 * 366 * _DURATION_MS["d"]


def quoted(value: object) -> str:
    """Return a value as it stands in TOML, near enough to be found there."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quoted(each) for each in value) + "]"
    if isinstance(value, dict):
        return "a table"
    return str(value)


def one_of(names: Iterable[str]) -> str:
    """Return ``"a", "b" or "c"``."""
    texts = [quoted(name) for name in names]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1] if texts else "nothing"


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return the fix for a name that is not known: the nearest one, or all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {quoted(near[0])}?"
    return f"write {one_of(known)}" if known else "remove it"


def duration_ms(text: str) -> int | None:
    """``"30s"``, ``"1.5h"`` in milliseconds; None when it is no duration of whole milliseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        return None
    exact = Decimal(match[1]) * _DURATION_MS[match[2]]
    return int(exact) if exact == exact.to_integral_value() and exact <= LONGEST_DURATION_MS else None


def size_bytes(text: str) -> int | None:
    """``"4 MiB"`` in bytes; None when it is no size."""
    match = _SIZE.fullmatch(text.strip())
    return None if match is None else int(Decimal(match[1]) * _SIZE_BYTES[match[2].upper()])


def exact_number(value: object) -> Decimal | None:
    """Return a number as it is written: ``0.1`` is a tenth, not the nearest binary fraction."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


class Problems:
    """The mistakes of one file, in the order they were found."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: list[str] = []

    def add(self, place: str, what: str, fix: str) -> None:
        """Note one mistake; ``place`` is a key path such as ``source.path``."""
        line = f"{self.file}: {place}: {what}; {fix}" if place else f"{self.file}: {what}; {fix}"
        self.lines.append(" ".join(line.splitlines()))


class Table:
    """One table of the file. Whatever key nobody asked for is unknown, says `finish`."""

    def __init__(self, values: object, place: str, problems: Problems) -> None:
        self.place = place
        self.problems = problems
        self._asked: list[str] = []
        self.values: dict[str, Any] = {}
        if isinstance(values, dict):
            self.values = values
        else:
            problems.add(place, f"{quoted(values)} is not a table", f"write [{place}] and its keys below it")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def at(self, key: str) -> str:
        """Return the key path of one of this table's keys."""
        return f"{self.place}.{key}" if self.place else key

    def add(self, key: str, what: str, fix: str) -> None:
        """Note a mistake in the value of ``key``."""
        self.problems.add(self.at(key), what, fix)

    def take(self, key: str) -> Any:
        """Any value, or None."""
        self._asked.append(key)
        return self.values.get(key)

    def text(
        self, key: str, default: str | None = None, choices: Sequence[str] = (), example: str = ""
    ) -> str:
        """Return a string; with no ``default`` it must be there. "" stands for a mistake that was noted."""
        value = self.take(key)
        if value is None:
            if default is None:
                self.add(
                    key, "is missing", f"add {key} = {quoted(example or (choices[0] if choices else '...'))}"
                )
            return default or ""
        if not isinstance(value, str) or not value:
            self.add(
                key, f"{quoted(value)} is not a text", f"write {quoted(example or (choices or ['...'])[0])}"
            )
            return default or ""
        if choices and value not in choices:
            self.add(key, f"{quoted(value)} is not known", did_you_mean(value, choices))
            return default or ""
        return value

    def texts(self, key: str, default: Sequence[str] = (), single: bool = False) -> tuple[str, ...]:
        """Return a list of strings; where ``single``, one string will do."""
        value = self.take(key)
        if value is None:
            return tuple(default)
        if single and isinstance(value, str):
            value = [value]
        if not isinstance(value, list | tuple) or not all(isinstance(each, str) and each for each in value):
            self.add(key, f"{quoted(value)} is not a list of texts", f'write {key} = ["...", "..."]')
            return tuple(default)
        repeated = sorted({each for each in value if value.count(each) > 1})
        if repeated:
            self.add(key, f"{quoted(repeated[0])} is there twice", "name it once")
        return tuple(dict.fromkeys(value))

    def duration(self, key: str, default: str | None, example: str, positive: bool = False) -> int:
        """Return a duration in ms; with no ``default`` it must be there."""
        value = self.take(key)
        if value is None:
            if default is None:
                self.add(key, "is missing", f"add {key} = {quoted(example)}")
            value = default or example
        length = duration_ms(value) if isinstance(value, str) else None
        if length is None:
            self.add(
                key,
                f"{quoted(value)} is not a duration",
                f"write one such as {quoted(example)} (ms, s, m, h, d)",
            )
        elif positive and length == 0:
            self.add(
                key, f"{quoted(value)} is not longer than zero", f"write a duration such as {quoted(example)}"
            )
        return length or (1 if positive else 0)

    def size(self, key: str, default: str) -> int:
        """Return a number of bytes, as an integer or as ``"4 MiB"``."""
        value = self.take(key)
        value = default if value is None else value
        size = size_bytes(value) if isinstance(value, str) else value
        if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
            self.add(
                key,
                f"{quoted(value)} is not a size",
                f"write one such as {quoted(default)} (B, KiB, MiB, GiB)",
            )
            return size_bytes(default) or 1
        return size

    def number(self, key: str, default: str, low: str = "", high: str = "") -> Decimal:
        """Return a number strictly between ``low`` and ``high``, each where given."""
        value = self.take(key)
        number = exact_number(default if value is None else value)
        if number is None or isinstance(value, str):
            self.add(key, f"{quoted(value)} is not a number", f"write one such as {default}")
            return Decimal(default)
        if (low and number <= Decimal(low)) or (high and number >= Decimal(high)):
            bounds = f"between {low} and {high}" if high else f"more than {low}"
            self.add(key, f"{number} is not {bounds}", f"write a number such as {default}")
            return Decimal(default)
        return number

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return a whole number of ``low`` to ``high``."""
        value = self.take(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            self.add(key, f"{quoted(value)} is not a whole number", f"write one such as {default}")
        elif not low <= value <= high:
            self.add(key, f"{value} is not within {low} to {high}", f"write a number such as {default}")
        else:
            return value
        return default

    def table(self, key: str) -> Table | None:
        """Return the table below ``key``, or None."""
        value = self.take(key)
        return None if value is None else Table(value, self.at(key), self.problems)

    def tables(self, key: str) -> list[Table]:
        """Return an array of tables; a table with a name shows it in its key path: ``window[0] "sales"``."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, list | tuple):
            header = re.sub(r"\[\d+\]( \"[^\"]*\")?", "", self.at(key))
            self.add(key, f"{quoted(value)} is not a list of tables", f"write [[{header}]] with two brackets")
            return []
        tables = []
        for index, each in enumerate(value):
            name = each.get("name", each.get("output")) if isinstance(each, dict) else None
            label = f" {quoted(name)}" if isinstance(name, str) else ""
            tables.append(Table(each, f"{self.at(key)}[{index}]{label}", self.problems))
        return tables

    def finish(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self.values:
            if key not in self._asked:
                self.add(key, "is not a known key", did_you_mean(key, list(dict.fromkeys(self._asked))))


def moment_ms(value: object) -> int | None:
    """Return a TOML date or time, or its ISO text, in epoch ms; without an offset it is UTC."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    if not isinstance(value, dt.datetime):
        return None
    if value.tzinfo is None:
        value = value.replace(tzinfo=dt.UTC)
    return (value - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(milliseconds=1)


def some_of(columns: Mapping[str, str]) -> str:
    """Return the fix for a column that is not there, where any will do."""
    return f"write some of {one_of(list(columns))}"


def need_column(
    table: Table, key: str, column: str, columns: Mapping[str, str], types: Sequence[str]
) -> None:
    """Note a column that is not there or of another type. With no schema to look in, nothing is said."""
    if not column or not columns:
        return
    kind = columns.get(column)
    able = [name for name, each in columns.items() if each in types]
    if kind is None:
        table.add(key, f"{quoted(column)} is not a column of the schema", did_you_mean(column, able))
    elif kind not in types:
        fix = f"take {one_of(able)}" if able else f"give the schema a column of type {types[0]}"
        table.add(key, f"{quoted(column)} is a {kind}, not {' or '.join(types)}", fix)
