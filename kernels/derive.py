"""derive on both devices: demand statistics, safety stock and feature vectors, one key a thread.

An element is a plain Python function of one key. It is written once; `Kernels` compiles it with Numba for the
CPU (``njit``, parallel over the keys) or for CUDA (``cuda.jit``), and with ``NUMBA_ENABLE_CUDASIM=1`` in the
environment the CUDA side runs in Numba's simulator, thread by thread. The exact engine is
``cpp/src/demand.cpp``; what floats may be off by is `MAX_ULP`.

A history is an int64 array ``[measures, days ago, keys]`` of lanes (a decimal counts 1/10000). Day 0 is the
last closed day, so a vector made from it is of the day after: no element sees an event of its own day.
Neighbouring threads read neighbouring keys.

Numba takes an int64 and a uint64 together for a float64, and the simulator warns of a wrap. So sums are of
limbs of 32 bits in uint64 lanes, of which no step overflows, with constants of their type.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Literal

import numpy as np

from omnistream.errors import DeviceError, StateError

Target = Literal["cpu", "cuda"]

# Results are within this many units in the last place of the true value, as are those of the C++ engine.
MAX_ULP = 4
# Vectors are rounded to float32 once, from a float64 within MAX_ULP.
MAX_ULP_FLOAT32 = 1

_LIMB = np.uint64(0xFFFFFFFF)
_LIMB_BITS = np.uint64(32)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_LIMB_SIZE = 4294967296.0
_HIGHEST = 1 << 31  # the high half of an int64 is below it, and not below its negative
_THREADS_PER_BLOCK = 128
# Fewer keys than this take less time than waking the other cores.
_PARALLEL_FROM_KEYS = 2048


# ---- elements: exact moments ----


def magnitude(value):
    """Return the absolute value of an int64 as limbs (high, low); 2**63 fits, too."""
    if value >= 0:
        return np.uint64(value >> 32), np.uint64(value & 0xFFFFFFFF)
    below = ~value  # |value| - 1
    low = (below & 0xFFFFFFFF) + 1
    return np.uint64((below >> 32) + (low >> 32)), np.uint64(low & 0xFFFFFFFF)


def add_square(high, low, s0, s1, s2, s3):
    """Add ``(high * 2**32 + low)**2`` to four limbs, which are not carried: 2**31 such sums fit."""
    square = low * low
    s0 += square & _LIMB
    s1 += square >> _LIMB_BITS
    cross = high * low
    s1 += (cross & _LIMB) << _ONE
    s2 += (cross >> _LIMB_BITS) << _ONE
    square = high * high
    s2 += square & _LIMB
    s3 += square >> _LIMB_BITS
    return s0, s1, s2, s3


def carried(s0, s1, s2, s3):
    """Return five limbs below 2**32 of four that were added up."""
    s1 += s0 >> _LIMB_BITS
    s2 += s1 >> _LIMB_BITS
    s3 += s2 >> _LIMB_BITS
    return s0 & _LIMB, s1 & _LIMB, s2 & _LIMB, s3 & _LIMB, s3 >> _LIMB_BITS


def exact_sum(values, key, days):
    """Return the sum of the last `days` days as (high, low): ``high * 2**32 + low``, 0 <= low < 2**32."""
    high = np.int64(0)
    low = np.int64(0)
    for ago in range(days):
        value = values[ago, key]
        high += value >> 32
        low += value & 0xFFFFFFFF
    return high + (low >> 32), low & 0xFFFFFFFF


def mean_and_std(values, key, days, scale):
    """Return mean, sample standard deviation (0 of fewer than two days) and whether a moment overflows.

    The moments are exact: the sum must fit 64 bits and the sum of squares 128, as in the C++ engine. Each
    result is then rounded four times at the most, and the root halves what the variance is off by.
    """
    if days < 1:
        return np.nan, np.nan, False
    high, low = exact_sum(values, key, days)
    overflow = high < -_HIGHEST or high >= _HIGHEST
    mean = (high * _LIMB_SIZE + low) / (days * scale)
    s0, s1, s2, s3 = _ZERO, _ZERO, _ZERO, _ZERO
    for ago in range(days):
        upper, lower = magnitude(values[ago, key])
        s0, s1, s2, s3 = add_square(upper, lower, s0, s1, s2, s3)
    s0, s1, s2, s3, s4 = carried(s0, s1, s2, s3)
    overflow = overflow or s4 != _ZERO
    if overflow or days < 2:
        return mean, 0.0, overflow
    # days * squares - sum**2, which is never negative, in five limbs.
    count = np.uint64(days)
    p0, p1, p2, p3, p4 = carried(s0 * count, s1 * count, s2 * count, s3 * count)
    upper, lower = magnitude((high << 32) + low)
    s0, s1, s2, s3 = add_square(upper, lower, _ZERO, _ZERO, _ZERO, _ZERO)
    s0, s1, s2, s3, s4 = carried(s0, s1, s2, s3)
    base = _LIMB + _ONE
    d0 = p0 + base - s0
    d1 = p1 + base - s1 - (_ONE - (d0 >> _LIMB_BITS))
    d2 = p2 + base - s2 - (_ONE - (d1 >> _LIMB_BITS))
    d3 = p3 + base - s3 - (_ONE - (d2 >> _LIMB_BITS))
    d4 = p4 - (_ONE - (d3 >> _LIMB_BITS))
    # From the top, so that only the limb that fills the mantissa is rounded for good.
    numerator = np.float64(d4)
    numerator = numerator * _LIMB_SIZE + np.float64(d3 & _LIMB)
    numerator = numerator * _LIMB_SIZE + np.float64(d2 & _LIMB)
    numerator = numerator * _LIMB_SIZE + np.float64(d1 & _LIMB)
    numerator = numerator * _LIMB_SIZE + np.float64(d0 & _LIMB)
    return mean, math.sqrt(numerator / (days * (days - 1.0) * (scale * scale))), False


# ---- elements: safety stock ----


def safety_stock(z, std, lead_time_days):
    """Return ``z * std * sqrt(L)``: normal demand, a lead time that does not vary."""
    return z * std * math.sqrt(lead_time_days)


def safety_stock_varying(z, mean, std, lead_time_days, lead_time_std_days):
    """Return ``z * sqrt(L * std**2 + mean**2 * std_L**2)``: the lead time varies, too, and independently.

    Silver, Pyke & Peterson, *Inventory Management and Production Planning and Scheduling*, 3rd ed.,
    section 7.10.
    """
    demand_part = lead_time_days * (std * std)
    lead_time_part = (mean * lead_time_std_days) * (mean * lead_time_std_days)
    return z * math.sqrt(demand_part + lead_time_part)


def at(values, key):
    """Return the value of a key; an array of one value is of all keys."""
    return values[key] if values.size > 1 else values[0]


def demand_row(history, known, scale, z, lead_time, lead_time_std, key, out, overflowed):
    """Write mean, standard deviation and safety stock of a key to ``out[:, key]``."""
    days = min(known[key], history.shape[1])
    mean, std, overflow = mean_and_std(history[0], key, days, scale)
    overflowed[key] = overflow
    out[0, key] = mean
    out[1, key] = std
    if at(lead_time_std, key) == 0.0:
        out[2, key] = safety_stock(at(z, key), std, at(lead_time, key))
    else:
        out[2, key] = safety_stock_varying(at(z, key), mean, std, at(lead_time, key), at(lead_time_std, key))


def stock_row(mean, std, z, lead_time, lead_time_std, key, out):
    """Write the safety stock of a key whose mean and standard deviation are known."""
    if at(lead_time_std, key) == 0.0:
        out[key] = safety_stock(at(z, key), at(std, key), at(lead_time, key))
    else:
        out[key] = safety_stock_varying(
            at(z, key), at(mean, key), at(std, key), at(lead_time, key), at(lead_time_std, key)
        )


# ---- elements: features ----
#
# All take the same arguments, those of users as well:
#
#   first, second   lanes [days ago, keys] of the measures that the feature names; with one, it comes twice
#   key             the column of the key
#   known           days since the key's first row, at most those of the history; older days hold 0
#   weekday         of the vector's day: 0 is Monday
#   days            the number that the feature was written with; 1 without
#   scale           lanes that make one: 10000 of a decimal; of two measures, the quotient


def lag(first, second, key, known, weekday, days, scale):
    """Value `days` days before; NaN when the key was not known yet."""
    if days > known:
        return np.nan
    return first[days - 1, key] / scale


def rolling_mean(first, second, key, known, weekday, days, scale):
    """Mean over the last days, of those on which the key was known."""
    mean, _, _ = mean_and_std(first, key, min(days, known), scale)
    return mean


def rolling_std(first, second, key, known, weekday, days, scale):
    """Sample standard deviation over the last days; NaN where a moment overflows."""
    _, std, overflow = mean_and_std(first, key, min(days, known), scale)
    return np.nan if overflow else std


def active_share(first, second, key, known, weekday, days, scale):
    """Share of the last days on which the value was not zero."""
    span = min(days, known)
    if span < 1:
        return np.nan
    active = 0
    for ago in range(span):
        if first[ago, key] != 0:
            active += 1
    return active / span


def days_since(first, second, key, known, weekday, days, scale):
    """Days since the value was last not zero, 1 for yesterday; NaN when it never was in these days."""
    for ago in range(min(days, known)):
        if first[ago, key] != 0:
            return ago + 1.0
    return np.nan


def ratio(first, second, key, known, weekday, days, scale):
    """Sum of the first measure over that of the second; NaN when that is zero."""
    span = min(days, known)
    upper, lower = exact_sum(second, key, span)
    divisor = upper * _LIMB_SIZE + lower
    if divisor == 0.0:
        return np.nan
    upper, lower = exact_sum(first, key, span)
    return (upper * _LIMB_SIZE + lower) / divisor / scale


def markdown(first, second, key, known, weekday, days, scale):
    """Share of the second sum that the first lacks: 0.2 when a fifth was given away."""
    return 1.0 - ratio(first, second, key, known, weekday, days, scale)


def weekday_sin(first, second, key, known, weekday, days, scale):
    """Sine of the day of the week, so that Sunday is next to Monday."""
    return math.sin(weekday * (2.0 * math.pi / 7.0))


def weekday_cos(first, second, key, known, weekday, days, scale):
    """Cosine of the day of the week."""
    return math.cos(weekday * (2.0 * math.pi / 7.0))


# In the order in which they call each other.
_ELEMENTS = (
    magnitude, add_square, carried, exact_sum, mean_and_std, safety_stock, safety_stock_varying, at,
    demand_row, stock_row, lag, rolling_mean, rolling_std, active_share, days_since, ratio, markdown,
    weekday_sin, weekday_cos,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """One number of a feature vector: its element, and the places of its measures in the history."""

    element: Callable[..., float]
    first: int
    second: int
    days: int
    scale: float


# ---- compiled for a device ----


class Kernels:
    """The kernels of one device; compiled when first used.

    Parameters
    ----------
    target : {"cpu", "cuda"}

    Raises
    ------
    DeviceError
        When Numba is missing.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._jit = _jit(target)
        self._rows: dict[tuple[Column, ...], Any] = {}
        names = dict(globals())
        for element in _ELEMENTS:
            names[element.__name__] = self._jit(_with_globals(element, names))
        self._elements = names
        self.demand_kernel = self._over_keys(
            "demand_row", "history, known, scale, z, lead, lead_std", "out, overflowed"
        )
        self.stock_kernel = self._over_keys("stock_row", "mean, std, z, lead, lead_std", "out")

    def demand(
        self,
        history: Any,
        known: Any,
        scale: float,
        z: Any,
        lead_time_days: Any,
        lead_time_std_days: Any = 0.0,
    ) -> tuple[Any, Any, Any]:
        """Return mean and standard deviation of daily demand, and safety stock, of each key.

        Parameters
        ----------
        history : int64 array [1, days ago, keys]
            NumPy, or CuPy on CUDA.
        known : int32 array [keys]
            Days since the first demand of each key.
        scale : float
            Lanes that make one: 1 or 10000.
        z, lead_time_days, lead_time_std_days : float or float64 array [keys]

        Raises
        ------
        StateError
            When a sum exceeds 64 bits or a sum of squares 128.
        """
        xp, keys = _module_of(history), len(known)
        out, overflowed = xp.empty((3, keys), xp.float64), xp.zeros(keys, xp.bool_)
        given = [_per_key(xp, value) for value in (z, lead_time_days, lead_time_std_days)]
        self._launch(self.demand_kernel, keys, history, known, float(scale), *given, out, overflowed)
        if keys and bool(overflowed.any()):
            raise StateError(f"demand: the moments of {int(overflowed.sum())} keys overflow")
        return out[0], out[1], out[2]

    def safety_stock(
        self, mean: Any, std: Any, z: Any, lead_time_days: Any, lead_time_std_days: Any = 0.0
    ) -> Any:
        """Return safety stock from statistics of daily demand; each is a float or a float64 array [keys]."""
        xp = _module_of(std)
        given = [_per_key(xp, value) for value in (mean, std, z, lead_time_days, lead_time_std_days)]
        keys = max(value.size for value in given)
        out = xp.empty(keys, xp.float64)
        self._launch(self.stock_kernel, keys, *given, out)
        return out

    def features(self, columns: Iterable[Column], dtype: Any = np.float32) -> Callable[[Any, Any, Any], Any]:
        """Compile feature vectors, or measures of closed windows: those have a history of one row.

        Returns
        -------
        callable
            From a history, the days that each key is known (int32) and the weekday of the vectors' day to
            vectors of the dtype [keys, columns].
        """
        columns = tuple(columns)
        kernel = self.kernel(columns)

        def vectors(history: Any, known: Any, weekday: Any) -> Any:
            out = _module_of(history).empty((len(known), len(columns)), dtype)
            self._launch(kernel, len(known), history, known, weekday, out)
            return out

        return vectors

    def kernel(self, columns: Iterable[Column]) -> Any:
        """Return the one kernel of a feature vector, in which its columns are written out in their order."""
        columns = tuple(columns)
        if columns in self._rows:
            return self._rows[columns]
        names = dict(self._elements)
        lines = [
            "def row(history, known, weekday, key, out):",
            "    days = min(known[key], history.shape[1])",
        ]
        for place, column in enumerate(columns):
            names[f"f{place}"] = self._compiled(column.element)
            measures = f"history[{column.first}], history[{column.second}]"
            rest = f"key, days, weekday, {column.days}, {column.scale!r}"
            lines.append(f"    out[key, {place}] = f{place}({measures}, {rest})")
        names["row"] = self._jit(_written("\n".join(lines), "row", names))
        self._rows[columns] = self._over_keys("row", "history, known, weekday", "out", names)
        return self._rows[columns]

    def _compiled(self, element: Callable[..., float]) -> Any:
        return self._elements[element.__name__] if element in _ELEMENTS else self._jit(element)

    def _over_keys(self, row: str, given: str, written: str, names: dict[str, Any] | None = None) -> Any:
        """Return a kernel that calls `row` for every key."""
        names = {**(names or self._elements)}
        outs = written.split(", ")
        if self.target == "cpu":
            numba = _numba()
            names["prange"] = numba.prange
            text = (
                f"def kernel(keys, {given}, {written}):\n"
                f"    for key in prange(keys):\n        {row}({given}, key, {', '.join(outs)})"
            )
            return numba.njit(parallel=True, error_model="numpy")(_written(text, "kernel", names))
        from numba import cuda

        names["cuda"] = cuda
        text = (
            f"def kernel(keys, {given}, {written}):\n    key = cuda.grid(1)\n"
            f"    if key < keys:\n        {row}({given}, key, {', '.join(outs)})"
        )
        return cuda.jit(_written(text, "kernel", names))

    def _launch(self, kernel: Any, keys: int, *arguments: Any) -> None:
        if keys == 0:
            return
        if self.target == "cpu":
            numba = _numba()
            threads = numba.get_num_threads()
            numba.set_num_threads(threads if keys >= _PARALLEL_FROM_KEYS else 1)
            try:
                kernel(keys, *arguments)
            finally:
                numba.set_num_threads(threads)
            return
        threads = min(_THREADS_PER_BLOCK, keys)
        kernel[(keys + threads - 1) // threads, threads](keys, *arguments)


@functools.cache
def kernels_for(target: Target) -> Kernels:
    """Return the kernels of a device, shared by all who use them: compiling takes seconds."""
    return Kernels(target)


def compile_element(element: Callable[..., float]) -> str:
    """Compile an element of features with the types that it is called with; return the type that it gives."""
    numba, kind = _numba(), "int64[:, ::1]"
    compiled = numba.njit(error_model="numpy")(element)
    compiled.compile(f"({kind}, {kind}, int64, int64, int64, int64, float64)")
    return str(compiled.nopython_signatures[0].return_type)


def _numba() -> Any:
    try:
        import numba
    except ImportError as error:
        raise DeviceError("features need Numba: pip install 'omnistream[numba]'") from error
    return numba


def _jit(target: Target) -> Callable[[Any], Any]:
    """Return what compiles a function that kernels call."""
    numba = _numba()
    if target == "cpu":
        # As on the GPU: a division by zero gives an infinity or NaN, and is no exception.
        return lambda function: numba.njit(error_model="numpy", nogil=True)(function)
    from numba import cuda

    numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # the last batch of a stream is small
    return lambda function: cuda.jit(device=True)(function)


def _with_globals(function: Any, names: dict[str, Any]) -> Any:
    """Return the function looking up others in `names`, where they are compiled for one device."""
    return FunctionType(function.__code__, names, function.__name__)


def _written(text: str, name: str, names: dict[str, Any]) -> Any:
    exec(compile(text, f"<omnistream {name}>", "exec"), names)
    return names[name]


def array_module(target: Target) -> Any:
    """Return what makes arrays for kernels: CuPy on a GPU; NumPy on the CPU and in the simulator."""
    if target == "cpu" or _numba().config.ENABLE_CUDASIM:
        return np
    import cupy

    return cupy


def _module_of(array: Any) -> Any:
    """Return CuPy for an array of CuPy, else NumPy."""
    if type(array).__module__.partition(".")[0] == "cupy":
        import cupy

        return cupy
    return np


def _per_key(xp: Any, value: Any) -> Any:
    return xp.atleast_1d(xp.asarray(value, xp.float64))
