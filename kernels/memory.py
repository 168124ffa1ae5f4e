"""A device's memory: one pool with a limit, and what to do when it is short.

All arrays of a launcher come from one pool: CuPy's, or RMM's where cuDF has been imported, so that the two
share what is free. A driver that meets `MemoryError` leaves its state as it was; `in_parts` then gives back
what the pool keeps for later, and tries again with halves of the work. What cannot be halved any more ends
with a `DeviceError` that says how much there was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from omnistream.errors import DeviceError
from omnistream.kernels.host_memory import HostMemory

Work = TypeVar("Work")
Done = TypeVar("Done")


class Pool(Protocol):
    """Where a launcher's arrays come from.

    Attributes
    ----------
    name : str
    limit_bytes : int or None
        None: as much as the device has.
    """

    name: str
    limit_bytes: int | None

    @property
    def used_bytes(self) -> int:
        """What arrays take."""

    def give_back(self) -> None:
        """Give to the device what no array takes."""


class HostPool:
    """The host launcher's."""

    name = "host"

    def __init__(self, memory: HostMemory) -> None:
        self._memory = memory
        self.limit_bytes = memory.limit_bytes

    @property
    def used_bytes(self) -> int:
        """What arrays take."""
        return self._memory.used_bytes

    def give_back(self) -> None:
        """Nothing is kept."""


class CupyPool:
    """CuPy's own pool, on the current GPU."""

    name = "CuPy"

    def __init__(self, cupy: Any, limit_bytes: int | None) -> None:
        self._pool = cupy.get_default_memory_pool()
        self.limit_bytes = limit_bytes
        cupy.cuda.set_allocator(self._pool.malloc)
        if limit_bytes is not None:  # else what CUPY_GPU_MEMORY_LIMIT says
            self._pool.set_limit(size=limit_bytes)

    @property
    def used_bytes(self) -> int:
        """What arrays take."""
        return int(self._pool.used_bytes())

    def give_back(self) -> None:
        """Free the blocks that no array takes."""
        self._pool.free_all_blocks()


class RmmPool:
    """RMM's resource of a GPU, which cuDF's columns come from, too."""

    name = "RMM"

    def __init__(self, cupy: Any, index: int, limit_bytes: int | None) -> None:
        import rmm
        from rmm.allocators.cupy import rmm_cupy_allocator

        upstream = rmm.mr.get_per_device_resource(index)
        if isinstance(upstream, rmm.mr.LimitingResourceAdaptor):
            upstream = upstream.get_upstream()  # of an earlier pipeline
        if isinstance(upstream, rmm.mr.CudaMemoryResource):
            # Each array would be a call of the driver that waits for the GPU.
            upstream = rmm.mr.CudaAsyncMemoryResource()
        self.limit_bytes = limit_bytes
        self._resource = rmm.mr.LimitingResourceAdaptor(upstream, limit_bytes or sys.maxsize)
        rmm.mr.set_per_device_resource(index, self._resource)
        cupy.cuda.set_allocator(rmm_cupy_allocator)

    @property
    def used_bytes(self) -> int:
        """What arrays and cuDF's columns take, of what was made from now on."""
        return int(self._resource.get_allocated_bytes())

    def give_back(self) -> None:
        """RMM does so when it is asked for more than is free."""


def open_pool(cupy: Any, index: int, limit_bytes: int | None) -> Pool:
    """Make the current GPU's arrays come from one pool."""
    if "cudf" in sys.modules:
        return RmmPool(cupy, index, limit_bytes)
    return CupyPool(cupy, limit_bytes)


# ---- when it is short


def in_parts(
    pool: Pool,
    what: str,
    work: Work,
    run: Callable[[Work], Done],
    halves: Callable[[Work], tuple[Work, Work] | None],
) -> Iterator[Done]:
    """Run the work: whole, or where memory is short in parts, in their order.

    Parameters
    ----------
    pool : Pool
    what : str
        Begins the error.
    run : callable
        Raises MemoryError having changed nothing.
    halves : callable
        Returns two parts, or None when there is only one.

    Raises
    ------
    DeviceError
        When even a part that cannot be halved is too much.
    """
    waiting = [work]
    while waiting:
        part = waiting.pop()
        done = _tried(run, part)
        if done is not None:
            yield done[0]
            continue
        pool.give_back()
        two = _tried(halves, part)
        if two is None or two[0] is None:
            raise too_short(pool, what)
        waiting += reversed(two[0])


def _tried(run: Callable[[Work], Done], part: Work) -> tuple[Done] | None:
    """Return what it returns, or None where memory is short; by then the arrays of its frames are gone."""
    try:
        return (run(part),)
    except MemoryError:
        return None


def too_short(pool: Pool, what: str) -> DeviceError:
    """Return the error for work that does not fit."""
    limit = "all of it" if pool.limit_bytes is None else f"the limit is {_mib(pool.limit_bytes)}"
    return DeviceError(
        f"{what}: the device's memory is short: {_mib(pool.used_bytes)} in use, {limit}; "
        'allow it more, send smaller batches, or use device = "cpu"'
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.1f} MiB"
