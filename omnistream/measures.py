"""Measures: what a window computes, as in ``"sum(quantity) as units where event_type = 'paid'"``.

The grammar, whole::

    measure   = call [ "as" NAME ] [ "where" condition ] [ "as" NAME ]
    call      = "count" | OPERATION "(" [ COLUMN ] ")" | RETAIL
    condition = COLUMN "=" TEXT  |  COLUMN "in" "(" TEXT { "," TEXT } ")"

OPERATION is one of `OPERATIONS`, RETAIL one of `RETAIL`, TEXT stands in single or double quotes (a doubled
quote is one quote). ``count`` counts rows, ``count(column)`` counts values that are not null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from omnistream.mistakes import did_you_mean, one_of, quoted

Operation = Literal["count", "sum", "min", "max", "mean", "std", "variance", "distinct"]
OPERATIONS: tuple[str, ...] = get_args(Operation)

# A sum of float64 depends on the order of rows, and no result here may.
_EXACT = ("int32", "int64", "decimal")
_ORDERED = (*_EXACT, "float64", "timestamp")
_FITTING: dict[str, tuple[str, ...]] = {
    "sum": _EXACT,
    "mean": _EXACT,
    "std": _EXACT,
    "variance": _EXACT,
    "min": _ORDERED,
    "max": _ORDERED,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """The rows that a measure takes: those in ``plus`` weigh +1, in ``minus`` -1, others are left out."""

    column: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """One output column of a window. An empty ``column`` counts rows."""

    name: str
    op: Operation
    column: str = ""
    condition: Condition | None = None

    def to_core(self) -> dict[str, Any]:
        """Return the measure as the C++ core takes it."""
        condition = self.condition
        return {
            "name": self.name,
            "op": self.op,
            "column": self.column,
            "condition": condition
            and {"column": condition.column, "plus": list(condition.plus), "minus": list(condition.minus)},
        }

    def result_type(self, columns: Mapping[str, str]) -> str:
        """Return the type of the output column, for input columns of these types."""
        if self.op in ("count", "distinct"):
            return "int64"
        if self.op in ("mean", "std", "variance"):
            return "float64"
        kind = columns[self.column]
        return "int64" if self.op == "sum" and kind == "int32" else kind


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Which event types the retail measures count as sold, returned and cancelled."""

    column: str = "event_type"
    sold: tuple[str, ...] = ("paid",)
    returned: tuple[str, ...] = ("returned",)
    cancelled: tuple[str, ...] = ("cancelled",)

    def retail_measures(self) -> dict[str, MeasureSpec]:
        """Return the named measures of `RETAIL` for these event types."""
        sold = Condition(self.column, self.sold)
        net = Condition(self.column, self.sold, (*self.returned, *self.cancelled))
        measures = [
            MeasureSpec("units_sold", "sum", "quantity", sold),
            MeasureSpec("units_returned", "sum", "quantity", Condition(self.column, self.returned)),
            MeasureSpec("units_cancelled", "sum", "quantity", Condition(self.column, self.cancelled)),
            MeasureSpec("units_net", "sum", "quantity", net),
            MeasureSpec("gross_amount", "sum", "gross_amount", sold),
            MeasureSpec("net_amount", "sum", "amount", net),
            MeasureSpec("orders", "distinct", "order_id", sold),
        ]
        return {measure.name: measure for measure in measures}


RETAIL: tuple[str, ...] = tuple(Lifecycle().retail_measures())


class MeasureError(ValueError):
    """A measure that cannot be read: what is wrong and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[^\W\d]\w*)|(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign>[(),=]))"""
)
_EXAMPLE = "write one such as \"sum(quantity) as units where event_type in ('paid', 'created')\""


class _Reader:
    """The tokens of one expression, taken from the left."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str]] = []
        self.next = 0
        at = 0
        end = len(text.rstrip())
        while at < end:
            match = _TOKEN.match(text, at)
            if match is None:
                raise MeasureError(
                    f"{quoted(text)} cannot be read from {quoted(text[at:].strip())} on", _EXAMPLE
                )
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            at = match.end()

    def skip(self, *tokens: str) -> bool:
        """Take these tokens when they come next."""
        here = [token for kind, token in self.tokens[self.next : self.next + len(tokens)] if kind != "text"]
        if here != list(tokens):
            return False
        self.next += len(tokens)
        return True

    def expect(self, kind: str, meaning: str) -> str:
        """Take the next token, which must be of this kind (or this sign)."""
        found = self.tokens[self.next] if self.next < len(self.tokens) else ("", "")
        if found[0] != kind and found != ("sign", kind):
            what = quoted(found[1]) if found[1] else "its end"
            raise MeasureError(f"{quoted(self.text)} has {what} where {meaning} belongs", _EXAMPLE)
        self.next += 1
        return found[1]

    def done(self) -> bool:
        return self.next == len(self.tokens)

    def condition(self) -> Condition:
        column = self.expect("name", "a column")
        if self.skip("="):
            return Condition(column, (self._quoted_text(),))
        if not self.skip("in", "("):
            self.expect("=", 'a "=" or an "in (...)"')
        values = [self._quoted_text()]
        while self.skip(","):
            values.append(self._quoted_text())
        self.expect(")", 'a ")"')
        return Condition(column, tuple(dict.fromkeys(values)))

    def _quoted_text(self) -> str:
        token = self.expect("text", "a text in quotes")
        return token[1:-1].replace(token[0] * 2, token[0])


def parse_condition(text: str) -> Condition:
    """``event_type = 'paid'`` or ``event_type in ('paid', 'created')``."""
    reader = _Reader(text)
    condition = reader.condition()
    if not reader.done():
        raise MeasureError(f"{quoted(text)} goes on after the condition", _EXAMPLE)
    return condition


def named_measure(
    op: str,
    column: str = "",
    name: str = "",
    condition: Condition | None = None,
    lifecycle: Lifecycle | None = None,
) -> MeasureSpec:
    """Return a measure from its parts, named ``sum_quantity`` by default; ``op`` may be a retail measure."""
    retail = (lifecycle or Lifecycle()).retail_measures()
    if op in retail:
        if column or condition is not None:
            raise MeasureError(
                f"{quoted(op)} takes neither a column nor a condition",
                "set its event types under [lifecycle]",
            )
        taken = retail[op].condition
        if taken is not None and not taken.plus and not taken.minus:
            raise MeasureError(f"{quoted(op)} counts no event type", "name one under [lifecycle]")
        return replace(retail[op], name=name or op)
    if op not in OPERATIONS:
        raise MeasureError(f"{quoted(op)} is not a measure", did_you_mean(op, (*OPERATIONS, *RETAIL)))
    if not column and op != "count":
        raise MeasureError(f"{quoted(op)} needs a column", f'write "{op}(quantity)", say')
    return MeasureSpec(name or (f"{op}_{column}" if column else op), op, column, condition)  # type: ignore[arg-type]


def parse_measure(text: str, lifecycle: Lifecycle | None = None) -> MeasureSpec:
    """Read one measure expression.

    Parameters
    ----------
    text : str
        ``"count"``, ``"sum(quantity) as units where event_type = 'paid'"``, ``"units_net"``: see the module.
    lifecycle : Lifecycle, optional
        What the retail measures count as sold, returned and cancelled.

    Raises
    ------
    MeasureError
        When the expression cannot be read; its text says what is allowed.

    Examples
    --------
    >>> parse_measure("sum(quantity) as units")
    MeasureSpec(name='units', op='sum', column='quantity', condition=None)
    """
    reader = _Reader(text)
    op = reader.expect("name", "a measure")
    column, name, condition = "", "", None
    if reader.skip("(") and not reader.skip(")"):
        column = reader.expect("name", "a column")
        reader.expect(")", 'a ")"')
    if reader.skip("as"):
        name = reader.expect("name", "a name")
    if reader.skip("where"):
        condition = reader.condition()
    if not name and reader.skip("as"):
        name = reader.expect("name", "a name")
    if not reader.done():
        raise MeasureError(
            f"{quoted(text)} goes on after its end: {quoted(reader.tokens[reader.next][1])}", _EXAMPLE
        )
    return named_measure(op, column, name, condition, lifecycle)


def misfit(measure: MeasureSpec, columns: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what is wrong, and the fix, where a measure does not fit columns of these types."""
    if measure.column:
        kind = columns.get(measure.column)
        if kind is None:
            return f"{quoted(measure.column)} is not a column", did_you_mean(measure.column, list(columns))
        fitting = _FITTING.get(measure.op)
        if kind == "float64" and (measure.op == "distinct" or (fitting and kind not in fitting)):
            return (
                f"{measure.op} of {quoted(measure.column)}, a float64, would not be exact",
                'make it type = "decimal" in the schema',
            )
        if fitting and kind not in fitting:
            able = [name for name, each in columns.items() if each in fitting]
            return (
                f"{measure.op} of {quoted(measure.column)}, which is a {kind}, makes no sense",
                f"take a column of type {one_of(fitting)}" + (f": {one_of(able)}" if able else ""),
            )
    if measure.condition is not None:
        column = measure.condition.column
        kind = columns.get(column)
        if kind is None:
            return f"{quoted(column)} is not a column", did_you_mean(column, list(columns))
        if kind != "dictionary":
            return (
                f"a condition on {quoted(column)}, which is a {kind}, cannot be tested",
                'make it type = "dictionary" in the schema',
            )
    return None
