"""Features: what a model is told of a key, as in ``"mean(units_sold, 7) as units_week"``.

The grammar, whole::

    feature = FUNCTION [ "(" [ MEASURE [ "," MEASURE ] ] [ "," DAYS ] ")" ] [ "as" NAME ]

FUNCTION is one of `OPS` or of the user's own (see `feature`), MEASURE an int64 or decimal measure of a daily
window, DAYS how far back it looks. The functions are in ``kernels/derive.py``: one definition each, compiled
for the CPU and for CUDA. Their meaning is in ``tests/reference/features.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from omnistream.errors import OmnistreamError
from omnistream.kernels import derive as kernels
from omnistream.mistakes import Table, did_you_mean, quoted
from omnistream.schema import DECIMAL_SCALE

Unit = Literal["measure", "ratio", "plain"]
Function = TypeVar("Function", bound=Callable[..., float])

LONGEST_DAYS = 3_660


class FeatureError(ValueError):
    """A feature that cannot be read or compiled: what is wrong and the fix."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.what = what
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Op:
    """A function of features.

    Attributes
    ----------
    element : callable
        See ``kernels/derive.py`` for what it is called with.
    measures : int
        How many it takes: 0, 1 or 2.
    takes_days : bool
        Whether a number of days must be written.
    unit : {"measure", "ratio", "plain"}
        What its `scale` is: lanes of the first measure that make one; that over the second's; or 1.
    """

    element: Callable[..., float]
    measures: int
    takes_days: bool
    unit: Unit

    def scale(self, first: int, second: int) -> float:
        """Return the scale for measures of which so many lanes make one."""
        return {"measure": float(first), "ratio": first / second, "plain": 1.0}[self.unit]


OPS: dict[str, Op] = {
    "lag": Op(kernels.lag, 1, True, "measure"),
    "mean": Op(kernels.rolling_mean, 1, True, "measure"),
    "std": Op(kernels.rolling_std, 1, True, "measure"),
    "active": Op(kernels.active_share, 1, True, "plain"),
    "since": Op(kernels.days_since, 1, True, "plain"),
    "ratio": Op(kernels.ratio, 2, True, "ratio"),
    "markdown": Op(kernels.markdown, 2, True, "ratio"),
    "weekday_sin": Op(kernels.weekday_sin, 0, False, "plain"),
    "weekday_cos": Op(kernels.weekday_cos, 0, False, "plain"),
}

# Of measures of one closed window: there is one row, and no day before it.
MEASURE_OPS: dict[str, Op] = {
    "ratio": Op(kernels.ratio, 2, False, "ratio"),
    "markdown": Op(kernels.markdown, 2, False, "ratio"),
}

# A start for a daily window of units_sold, gross_amount and net_amount: level, trend, spread, how often it
# sells, what it sells for and how much of that is given away.
STANDARD = (
    "weekday_sin",
    "weekday_cos",
    "lag(units_sold, 1)",
    "lag(units_sold, 7)",
    "lag(units_sold, 14)",
    "mean(units_sold, 7)",
    "mean(units_sold, 28)",
    "std(units_sold, 28)",
    "active(units_sold, 28)",
    "since(units_sold, 28)",
    "ratio(gross_amount, units_sold, 28) as price_28",
    "markdown(net_amount, gross_amount, 28) as markdown_28",
)


def measure(*, measures: int = 2, unit: Unit = "measure") -> Callable[[Function], Function]:
    """Mark a function as one that measures of a closed window may name; `feature` without days.

    It takes the same arguments: ``first[0, key]`` and ``second[0, key]`` are the measures of the row, and
    `weekday` that of the window's start, 0 for sessions.
    """
    return feature(measures=measures, unit=unit)


def feature(
    *, measures: int = 1, takes_days: bool = False, unit: Unit = "measure"
) -> Callable[[Function], Function]:
    """Mark a function as one that features of a job may name.

    The function is compiled by Numba for the device of the job. It takes ``(first, second, key, known,
    weekday, days, scale)`` and returns a number; ``kernels/derive.py`` says what each is. It sees closed days
    alone, and at least the last `days` of them.

    Parameters
    ----------
    measures : int
        How many measures it takes: 0, 1 or 2.
    takes_days : bool
        Whether a number of days is written after them.
    unit : {"measure", "ratio", "plain"}
        What `scale` is, see `Op`.
    """

    def mark(function: Function) -> Function:
        function.__omnistream_feature__ = Op(function, measures, takes_days, unit)  # type: ignore[attr-defined]
        return function

    return mark


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One number of a vector. ``first`` and ``second`` are measures, empty where the function takes none."""

    name: str
    op: str
    first: str = ""
    second: str = ""
    days: int = 1

    def column(self, op: Op, places: Mapping[str, int], types: Mapping[str, str]) -> kernels.Column:
        """Return the column of a kernel: `places` in the history and `types` of the measures."""
        first = self.first or next(iter(places))
        second = self.second or first
        scales = [10**DECIMAL_SCALE if types[measure] == "decimal" else 1 for measure in (first, second)]
        return kernels.Column(op.element, places[first], places[second], self.days, op.scale(*scales))


_CALL = re.compile(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*(?:as\s+([^\W\d]\w*))?\s*")
_EXAMPLE = 'write one such as "mean(units_sold, 7) as units_week"'


def parse_feature(text: str, ops: Mapping[str, Op] | None = None) -> FeatureSpec:
    """Read one feature.

    Raises
    ------
    FeatureError
        When it cannot be read.
    """
    known = OPS if ops is None else ops
    match = _CALL.fullmatch(text)
    if match is None:
        raise FeatureError(f"{quoted(text)} is no feature", _EXAMPLE)
    function, inside, name = match.groups()
    op = known.get(function)
    if op is None:
        raise FeatureError(
            f"{quoted(function)} is not a function of features", did_you_mean(function, [*known])
        )
    given = [each.strip() for each in inside.split(",")] if inside and inside.strip() else []
    wanted = op.measures + op.takes_days
    if len(given) != wanted:
        parts = ["MEASURE"] * op.measures + ["DAYS"] * op.takes_days
        shown = f"{function}({', '.join(parts)})" if parts else function
        raise FeatureError(f"{quoted(text)} has {len(given)} arguments, not {wanted}", f"write {shown}")
    measures, days = given[: op.measures], 1
    if op.takes_days:
        days = int(given[-1]) if given[-1].isdecimal() else 0
        if not 1 <= days <= LONGEST_DAYS:
            raise FeatureError(f"{quoted(given[-1])} is no number of days from 1 to {LONGEST_DAYS}", _EXAMPLE)
    usual = "_".join([*(measures or [function]), *([function] if measures else []), *given[op.measures :]])
    first, second, *_ = [*measures, "", ""]
    return FeatureSpec(name or usual, function, first, second, days)


def load_functions(path: str | Path, check: bool = True) -> dict[str, Op]:
    """Return the features that a Python file marks with `feature`. The file is run, as an import would.

    Parameters
    ----------
    path : path
    check : bool
        Whether to compile each, to see that it can be.

    Raises
    ------
    FeatureError
        When the file cannot be run, marks nothing, or a function does not compile.
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"omnistream_functions_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FeatureError(f"{path} is no Python file", "name it something.py")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise FeatureError(f"{path} cannot be run ({type(error).__name__}: {error})", "mend it") from error
    marked = [getattr(value, "__omnistream_feature__", None) for value in vars(module).values()]
    found = {op.element.__name__: op for op in marked if op is not None}
    if not found:
        raise FeatureError(f"{path} marks no function", "put @omnistream.features.feature() above one")
    for name, op in found.items():
        if name in OPS:
            raise FeatureError(f"{path}: {name} is built in", "give the function another name")
        if check:
            check_function(op, str(path))
    return found


def check_function(op: Op, place: str) -> None:
    """Compile a user's function for the types it will be called with.

    Raises
    ------
    FeatureError
        Says what Numba does not take; a `DeviceError` when there is no Numba.
    """
    name = op.element.__name__
    parameters = [*inspect.signature(op.element).parameters]
    wanted = list(inspect.signature(kernels.lag).parameters)
    if len(parameters) != len(wanted):
        what = f"{place}: {name} takes ({', '.join(parameters)})"
        raise FeatureError(what, f"let it take ({', '.join(wanted)})")
    try:
        returned = kernels.compile_element(op.element)
    except OmnistreamError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in lines if not line.startswith("Failed in")), type(error).__name__)
        raise FeatureError(
            f"{place}: Numba cannot compile {name}: {reason}", "use numbers, arrays and the module math alone"
        ) from error
    if returned not in ("float64", "float32", "int64", "int32", "uint64", "bool"):
        raise FeatureError(f"{place}: {name} returns {returned}", "return a number on every path")


def read_features(
    table: Table, window: str, measures: Sequence[str] | None, base: Path
) -> tuple[tuple[FeatureSpec, ...], str, str]:
    """Read the keys ``features`` and ``functions`` of a derive table.

    Parameters
    ----------
    window : str
        The name of the daily window.
    measures : sequence of str or None
        Those of the window that features can look at; None when a mistake hides them.

    Returns
    -------
    tuple of FeatureSpec, the path of the functions and the SHA-256 of what it holds
    """
    return _read(table, "features", OPS, STANDARD, window, measures, base)


def read_measures(
    table: Table, window: str, measures: Sequence[str] | None, base: Path
) -> tuple[tuple[FeatureSpec, ...], str, str]:
    """Read the keys ``measures`` and ``functions`` of a derive table, as `read_features`."""
    return _read(table, "measures", MEASURE_OPS, (), window, measures, base)


def _read(
    table: Table,
    key: str,
    builtin: Mapping[str, Op],
    default: Sequence[str],
    window: str,
    measures: Sequence[str] | None,
    base: Path,
) -> tuple[tuple[FeatureSpec, ...], str, str]:
    texts = table.texts(key, default=default, single=True)
    if not texts and table.take(key) in (None, []):
        table.add(key, "is missing", 'write one such as "ratio(net_amount, units_net) as price"')
    written = table.text("functions", default="")
    table.finish()
    path, digest, ops = "", "", dict(builtin)
    try:
        if written:
            path = os.path.normpath(base / Path(written).expanduser())
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
            own = load_functions(path)
            # Of one row there are no days to look back at.
            ops |= {name: op for name, op in own.items() if key == "features" or not op.takes_days}
    except OSError as error:
        table.add(
            "functions", f"{quoted(path)} cannot be read ({error.strerror})", "write the path of a file"
        )
        return (), path, digest
    except FeatureError as error:
        table.add("functions", error.what, error.fix)
        return (), path, digest
    features: dict[str, FeatureSpec] = {}
    for text in texts:
        try:
            each = parse_feature(text, ops)
        except FeatureError as error:
            table.add(key, error.what, error.fix)
            continue
        if each.name in features:
            table.add(key, f"two are named {quoted(each.name)}", f'write "{text} as ..."')
        features[each.name] = each
        for used in (each.first, each.second):
            if used and measures is not None and used not in measures:
                what = f"{quoted(used)} is not an int64 or decimal measure of {quoted(window)}"
                table.add(key, what, did_you_mean(used, measures))
    if features and not measures_used(features.values()):
        table.add(key, "look at no measure", _EXAMPLE)
    return tuple(features.values()), path, digest


def measures_used(features: Iterable[FeatureSpec]) -> list[str]:
    """Return the measures that features name, each once, in their order."""
    return list(dict.fromkeys(name for each in features for name in (each.first, each.second) if name))
