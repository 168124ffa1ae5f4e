"""The host launcher's memory: NumPy's arrays, held back as those of a GPU are.

A GPU's array is no array of the host: NumPy does not read it, the two do not mix, a reduction leaves its
one number there, and memory runs out. Drivers that forgot any of it would pass on plain NumPy and fail on
CuPy. So `HostMemory` stands for the module ``cupy`` and `HostArray` for ``cupy.ndarray``, and they have
nothing that those lack. What `empty` returns is full of rubbish, and every allocation counts against a limit.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

# Of NumPy what CuPy, from 13.3 on, has under the same name and with the same arguments; compared by hand.
_FUNCTIONS = frozenset(
    {
        "arange", "argmax", "argsort", "ascontiguousarray", "atleast_1d", "concatenate", "cumsum",
        "flatnonzero", "full", "maximum", "minimum", "ones", "repeat", "searchsorted", "stack", "where",
        "zeros",
    }
)  # fmt: skip
_METHODS = frozenset({"all", "any", "astype", "copy", "max", "min", "ravel", "reshape", "sum", "view"})
_ATTRIBUTES = frozenset({"dtype", "flags", "nbytes", "ndim", "shape", "size", "strides"})
_DTYPES = frozenset(
    {"bool_", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
)
# CuPy's pool gives memory in pieces of this size.
_PIECE_BYTES = 512
_RUBBISH = 0xA5


class _Allocation:
    """A piece of memory, counted for as long as an array uses it."""

    __slots__ = ("__weakref__",)


class HostMemory:
    """What a launcher's ``xp`` offers to drivers.

    Parameters
    ----------
    limit_bytes : int, optional
        More than this is refused with `MemoryError`, as by the pools of CuPy and RMM.
    """

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.peak_bytes = 0

    def __getattr__(self, name: str) -> Any:
        if name in _DTYPES:
            return getattr(np, name)
        if name not in _FUNCTIONS:
            raise AttributeError(f"drivers use no {name} yet: see that CuPy has it, then list it")
        return functools.partial(self.call, getattr(np, name))

    def empty(self, shape: Any, dtype: Any = float) -> HostArray:
        """Return an array full of rubbish."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        rubbish = np.full(size, _RUBBISH, np.uint8).view(dtype).reshape(shape)
        return HostArray(self, rubbish, self._allocated(size))

    def asarray(self, values: Any, dtype: Any = None) -> HostArray:
        """Copy an array of the host; one that is in this memory stays."""
        if isinstance(values, HostArray):
            return values if dtype is None else values.astype(dtype)
        array = np.array(values, dtype, copy=True)
        return HostArray(self, array, self._allocated(array.nbytes))

    # ---- what the arrays share

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call NumPy with the arrays that these arguments wrap."""
        given: list[HostArray] = []
        plain = [_unwrapped(each, given) for each in arguments]
        result = function(*plain, **{name: _unwrapped(each, given) for name, each in named.items()})
        return self._wrapped(result, given)

    def _wrapped(self, result: Any, given: list[HostArray] | tuple[()] = ()) -> Any:
        if isinstance(result, tuple):
            return tuple(self._wrapped(each, given) for each in result)
        array = np.asarray(result)
        for each in given:
            if array is each._array:
                return each
            if array.size and np.may_share_memory(array, each._array):
                return HostArray(self, array, each._allocation)
        return HostArray(self, array, self._allocated(array.nbytes))

    def _allocated(self, size_bytes: int) -> _Allocation:
        pieces = -(-size_bytes // _PIECE_BYTES) * _PIECE_BYTES
        if self.limit_bytes is not None and self.used_bytes + pieces > self.limit_bytes:
            raise MemoryError(f"{pieces} bytes, {self.used_bytes} in use, limit {self.limit_bytes}")
        self.used_bytes += pieces
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        made = _Allocation()
        weakref.finalize(made, self._free, pieces)
        return made

    def _free(self, pieces: int) -> None:
        self.used_bytes -= pieces


class HostArray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array in this memory: operators and a few methods, and no way to the host but `get`."""

    __slots__ = ("__weakref__", "_allocation", "_array", "_memory")

    def __init__(self, memory: HostMemory, array: np.ndarray[Any, Any], allocation: _Allocation) -> None:
        self._memory = memory
        self._array = array
        self._allocation = allocation

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **named: Any) -> Any:
        if method != "__call__":
            return NotImplemented
        return self._memory.call(ufunc, *inputs, **named)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("this array is in a device's memory: take it to the host with Launcher.to_host")

    def __getattr__(self, name: str) -> Any:
        if name in _ATTRIBUTES:
            return getattr(self._array, name)
        if name not in _METHODS:
            raise AttributeError(f"drivers use no ndarray.{name} yet: see that CuPy has it, then list it")
        return functools.partial(self._memory.call, getattr(np.ndarray, name), self)

    def __getitem__(self, key: Any) -> HostArray:
        wrapped: HostArray = self._memory.call(lambda array, at: array[at], self, key)
        return wrapped

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[_unwrapped(key, [])] = _unwrapped(value, [])

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[HostArray]:
        return (self[place] for place in range(len(self)))

    def __int__(self) -> int:
        return int(self._array.item())

    def __float__(self) -> float:
        return float(self._array.item())

    def __bool__(self) -> bool:
        return bool(self._array.item())

    @property
    def data(self) -> SimpleNamespace:
        """Where it lies: ``array.data.ptr``."""
        return SimpleNamespace(ptr=self._array.ctypes.data)

    def get(self, out: np.ndarray[Any, Any] | None = None) -> np.ndarray[Any, Any]:
        """Copy to the host."""
        if out is None:
            return self._array.copy()
        out[...] = self._array
        return out

    def set(self, values: np.ndarray[Any, Any]) -> None:
        """Copy from the host."""
        if values.dtype != self._array.dtype or values.shape != self._array.shape:
            raise ValueError(f"{values.dtype} {values.shape} into {self._array.dtype} {self._array.shape}")
        self._array[...] = values


def _unwrapped(value: Any, given: list[HostArray]) -> Any:
    """Return what NumPy takes, noting the arrays in it; one that is on the host is refused."""
    if isinstance(value, HostArray):
        given.append(value)
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("an array of the host among those of a device: bring it there with to_device")
    if isinstance(value, (list, tuple)):
        return type(value)(_unwrapped(each, given) for each in value)
    return value
