"""The host launcher's memory is as strict as a GPU's, so that drivers cannot pass here and fail there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from omnistream.kernels.host_memory import HostArray, HostMemory


def test_arrays_compute_as_numpy_does() -> None:
    xp, plain = HostMemory(), np.arange(10, dtype=np.int64)
    array = xp.asarray(plain)
    sums = xp.zeros(11, np.int64)
    xp.cumsum(array * 2 + 1, dtype=np.int64, out=sums[1:])
    assert sums.get().tolist() == [0, *(plain * 2 + 1).cumsum().tolist()]
    array[array > 7] = 0
    assert [int(each) for each in array] == [0, 1, 2, 3, 4, 5, 6, 7, 0, 0]
    assert (int(array.sum()), bool(array.any()), len(array), array.nbytes) == (28, True, 10, 80)
    both = xp.concatenate([array[xp.flatnonzero(array == 7)], array[:2]])
    assert both.get().tolist() == [7, 0, 1]
    assert isinstance(array.sum(), HostArray)  # one number, still there


@pytest.mark.parametrize(
    "mistake",
    [
        lambda array: np.asarray(array),
        lambda array: np.cumsum(array),
        lambda array: array + np.ones(4),
        lambda array: np.ones(4) + array,
        lambda array: array[np.zeros(1, np.int64)],
        lambda array: array.__setitem__(slice(None), np.ones(4)),
    ],
)
def test_the_host_and_the_device_do_not_mix(mistake: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"to_host|to_device|no implementation found"):
        mistake(HostMemory().zeros(4))


def test_what_was_not_compared_with_cupy_is_not_there() -> None:
    xp = HostMemory()
    with pytest.raises(AttributeError, match="drivers use no lexsort yet"):
        _ = xp.lexsort
    with pytest.raises(AttributeError, match=r"drivers use no ndarray\.tofile yet"):
        _ = xp.zeros(1).tofile
    assert (xp.empty(3, np.uint8).get() == 0xA5).all()  # nobody relies on zeros


def test_memory_runs_out_and_comes_back() -> None:
    xp = HostMemory(limit_bytes=4096)
    first = xp.empty(512, np.int64)
    with pytest.raises(MemoryError, match="512 bytes, 4096 in use, limit 4096"):
        xp.empty(1, np.uint8)
    view = first[10:20]
    del first
    assert xp.used_bytes == 4096  # the view holds all of it
    del view
    assert (xp.used_bytes, xp.peak_bytes) == (0, 4096)
    xp.empty(512, np.int64)
