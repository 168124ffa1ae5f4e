"""Measures: what a window computes, as in ``"sum(quantity) as units where event_type = 'paid'"``.

The grammar, whole::

    measure   = call [ "as" NAME ] [ "where" condition ] [ "as" NAME ]
    call      = "count" | OPERATION "(" [ COLUMN { "," ARGUMENT } ] ")" | RETAIL
    condition = COLUMN "=" TEXT  |  COLUMN "in" "(" TEXT { "," TEXT } ")"

OPERATION is one of `OPERATIONS`, RETAIL one of `RETAIL`, TEXT stands in single or double quotes (a doubled
quote is one quote). ``count`` counts rows, ``count(column)`` counts values that are not null. An ARGUMENT is
a number or a column: ``top(sku, 3)``, ``top(sku, 3, quantity)``, ``quantile(quantity, 0.9)``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, get_args

from omnistream.mistakes import did_you_mean, exact_number, one_of, quoted

Operation = Literal[
    "count",
    "sum",
    "min",
    "max",
    "mean",
    "std",
    "variance",
    "distinct",
    "approx_distinct",
    "first",
    "last",
    "top",
    "quantile",
]
OPERATIONS: tuple[str, ...] = get_args(Operation)

# A sum of float64 depends on the order of rows, and no result here may.
_EXACT = ("int32", "int64", "decimal")
_ORDERED = (*_EXACT, "float64", "timestamp")
# Quantiles are known to a millionth, tops to so many values.
_MILLION = 1_000_000
MOST_TOP = 100
_FITTING: dict[str, tuple[str, ...]] = {
    "sum": _EXACT,
    "mean": _EXACT,
    "std": _EXACT,
    "variance": _EXACT,
    "min": _ORDERED,
    "max": _ORDERED,
    "quantile": _EXACT,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """The rows that a measure takes: those in ``plus`` weigh +1, in ``minus`` -1, others are left out."""

    column: str
    plus: tuple[str, ...]
    minus: tuple[str, ...] = ()

    def to_core(self) -> dict[str, Any]:
        """Return the condition as the C++ core takes it."""
        return {"column": self.column, "plus": list(self.plus), "minus": list(self.minus)}


@dataclass(frozen=True, slots=True)
class MeasureSpec:
    """One measure of a window: an output column, or two for each rank of a top.

    Attributes
    ----------
    column : str
        Empty: it counts rows.
    top : int
        How many values a ``top`` lists.
    by : str
        The column whose sum ranks them; empty: by how often they come.
    quantile : Decimal
        Which ``quantile``, in steps of a millionth.
    """

    name: str
    op: Operation
    column: str = ""
    condition: Condition | None = None
    top: int = field(default=0, repr=False)
    by: str = field(default="", repr=False)
    quantile: Decimal = field(default=Decimal(0), repr=False)

    def to_core(self) -> list[dict[str, Any]]:
        """Return the measure as the C++ core takes it: one for each output column."""
        core: dict[str, Any] = {
            "name": self.name,
            "op": self.op,
            "column": self.column,
            "condition": self.condition and self.condition.to_core(),
        }
        if self.op == "quantile":
            return [{**core, "argument": int(self.quantile * _MILLION)}]
        if self.op != "top":
            return [core]
        return [
            {**core, "name": name, "op": op, "by": self.by, "argument": rank}
            for rank in range(self.top)
            for name, op in zip(self._names_of(rank), ("top", "top_weight"), strict=True)
        ]

    def _names_of(self, rank: int) -> tuple[str, str]:
        return f"{self.name}_{rank + 1}", f"{self.name}_{rank + 1}_weight"

    def output_columns(self, columns: Mapping[str, str]) -> dict[str, str]:
        """Return the names and types of the output columns, for input columns of these types."""
        if self.op in ("count", "distinct", "approx_distinct"):
            return {self.name: "int64"}
        if self.op in ("mean", "std", "variance", "quantile"):
            return {self.name: "float64"}
        kind = columns.get(self.column, "int64")
        if self.op == "sum" and kind == "int32":
            kind = "int64"
        if self.op != "top":
            return {self.name: kind}
        weight = "decimal" if columns.get(self.by) == "decimal" else "int64"
        return {
            name: type_
            for rank in range(self.top)
            for name, type_ in zip(self._names_of(rank), (kind, weight), strict=True)
        }


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
    r"""\s*(?:(?P<name>[^\W\d]\w*)|(?P<number>\d+(?:\.\d+)?)|(?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign>[(),=]))"""
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

    def argument(self) -> str:
        """Take a number or a name."""
        kind = self.tokens[self.next][0] if self.next < len(self.tokens) else ""
        return self.expect("number" if kind == "number" else "name", "a number or a column")

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
    arguments: Sequence[str] = (),
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
    name = name or (f"{op}_{column}" if column else op)
    more: dict[str, Any] = {}
    if op == "top":
        count = arguments[0] if arguments else "1"
        if not count.isdecimal() or not 1 <= int(count) <= MOST_TOP:
            raise MeasureError(
                f"top of {quoted(count)} values makes no sense",
                f'write "top(sku, 3)", {MOST_TOP} at the most',
            )
        more = {"top": int(count), "by": arguments[1] if len(arguments) > 1 else ""}
        arguments = arguments[2:]
    elif op == "quantile":
        given = arguments[0] if arguments else "0.5"
        quantile = exact_number(given)
        if quantile is None or not 0 <= quantile <= 1 or quantile * _MILLION % 1 != 0:
            raise MeasureError(
                f"{quoted(given)} is not a quantile",
                "write a number from 0 to 1, with six decimals at the most",
            )
        more = {"quantile": quantile}
        arguments = arguments[1:]
    if arguments:
        raise MeasureError(f"{quoted(op)} does not take {quoted(arguments[0])}", "remove it")
    return MeasureSpec(name, op, column, condition, **more)  # type: ignore[arg-type]


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
    arguments: list[str] = []
    if reader.skip("(") and not reader.skip(")"):
        column = reader.expect("name", "a column")
        while reader.skip(","):
            arguments.append(reader.argument())
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
    return named_measure(op, column, name, condition, lifecycle, arguments)


def misfit(measure: MeasureSpec, columns: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what is wrong, and the fix, where a measure does not fit columns of these types."""
    if measure.column:
        kind = columns.get(measure.column)
        if kind is None:
            return f"{quoted(measure.column)} is not a column", did_you_mean(measure.column, list(columns))
        fitting = _FITTING.get(measure.op)
        counted = measure.op in ("distinct", "approx_distinct", "top")
        if kind == "float64" and (counted or (fitting and kind not in fitting)):
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
    if measure.by:
        kind = columns.get(measure.by)
        if kind is None:
            return f"{quoted(measure.by)} is not a column", did_you_mean(measure.by, list(columns))
        if kind not in _EXACT:
            return (
                f"a sum of {quoted(measure.by)}, which is a {kind}, ranks nothing",
                f"take a column of type {one_of(_EXACT)}",
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
