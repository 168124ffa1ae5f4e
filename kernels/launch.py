"""Where kernels run: one face for a GPU and for the host launcher, so that a stage's driver is written once.

A driver (``decode.py``, ``clean.py``, ... beside the sources) takes a `Launcher`. It makes its arrays with
``launcher.xp``, which is CuPy on a GPU and stands for it on the host (`HostMemory`), uses what that has of
NumPy (``empty``, ``cumsum``, ``flatnonzero``; CuPy runs those scans with CUB), and starts kernels with
``launch``::

    launcher.launch("decode", "find_lines", tiles, TILE_THREADS, block, np.int64(size), ends)

Arguments are arrays, None for a null pointer, and NumPy scalars of just the size that the kernel takes.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shlex
import subprocess
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from omnistream.cache import cache_dir
from omnistream.errors import DeviceError
from omnistream.kernels import load
from omnistream.kernels.copies import Copies, CudaCopies, HostCopies
from omnistream.kernels.host_memory import HostArray, HostMemory
from omnistream.kernels.memory import HostPool, Pool, open_pool

_KERNEL = re.compile(rb'^extern "C" __global__ void(?: __launch_bounds__\([^)]*\))?\s+(\w+)\(', re.MULTILINE)
_HOST = Path(__file__).resolve().parent
# Enough to fill a GPU several times; kernels loop over what is left.
MOST_BLOCKS = 8192
NULL = np.uint64(0)


class Launcher(Protocol):
    """A device that has the kernels.

    Attributes
    ----------
    xp
        The array module of its memory: NumPy's interface.
    pool
        Where its arrays come from, and how much they may take.
    """

    xp: Any
    name: str  # as explain() shows it
    pool: Pool

    def launch(self, stage: str, kernel: str, blocks: int, threads: int, *arguments: Any) -> None:
        """Start a kernel; a later call on the same launcher sees what it wrote. No blocks: nothing to do."""

    def bind(self) -> None:
        """Make the device the calling thread's."""

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a copy in host memory; waits for what was launched before."""

    def to_device(self, array: np.ndarray[Any, Any]) -> Any:
        """Return a copy in the device's memory."""

    def pinned(self, size_bytes: int) -> np.ndarray[Any, Any]:
        """Return bytes of the host that copies reach without a detour, and which no pager moves."""

    def copies(self) -> Copies:
        """Return a new queue of copies, which run beside the kernels."""

    def load(self, stages: Iterable[str]) -> None:
        """Make the kernels of stages ready, so that what keeps them from running is known beforehand."""

    def wait(self) -> None:
        """Wait for the end of what was launched."""


def blocks_for(items: int, threads: int) -> int:
    """Return a grid for one thread an item, up to what fills a device."""
    return min(-(-items // threads), MOST_BLOCKS)


class CudaLauncher:
    """Kernels on a GPU, in the default stream, in which Numba's run too.

    Parameters
    ----------
    arch : str
        Of the GPU, such as ``sm_90``.
    index : int
        Its number. CuPy has a current device for each thread: this one's, until it binds another.
    limit_bytes : int, optional
        How much memory arrays may take; by default as much as there is.

    Raises
    ------
    DeviceError
        When CuPy or the libraries that it loads are missing.
    """

    def __init__(self, arch: str, index: int = 0, limit_bytes: int | None = None) -> None:
        try:
            import cupy
            import cupyx
        except ImportError as error:
            raise DeviceError(f"CuPy does not load: {error}; pip install 'omnistream[gpu]'") from error
        self.xp = cupy
        self.name = "cuda"
        self.arch = arch
        self.index = index
        self._pinned = cupyx.empty_pinned
        self._current = cupy.cuda.runtime.getDevice
        self._function = functools.cache(self._load)
        self.bind()
        self.pool: Pool = open_pool(cupy, index, limit_bytes)

    def bind(self) -> None:
        """Make the GPU this thread's current one."""
        self.xp.cuda.Device(self.index).use()

    def _load(self, stage: str, kernel: str) -> Any:
        return load.module(stage, self.arch).get_function(kernel)

    def launch(self, stage: str, kernel: str, blocks: int, threads: int, *arguments: Any) -> None:
        """Start a kernel on the current stream."""
        if not blocks:
            return
        if self._current() != self.index:
            raise DeviceError(f"{stage}: GPU {self.index} is not the one that this thread is bound to")
        given = tuple(NULL if each is None else _checked(each, self.xp.ndarray) for each in arguments)
        self._function(stage, kernel)((blocks,), (threads,), given)

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a copy in host memory; waits for what was launched before."""
        return np.asarray(self.xp.asnumpy(array))

    def to_device(self, array: np.ndarray[Any, Any]) -> Any:
        """Return a copy on the GPU; the array may change at once."""
        return self.xp.asarray(array)

    def pinned(self, size_bytes: int) -> np.ndarray[Any, Any]:
        """Return page-locked bytes, of CuPy's pool of them."""
        pinned: np.ndarray[Any, Any] = self._pinned(size_bytes, np.uint8)
        return pinned

    def copies(self) -> Copies:
        """Return a new stream."""
        return CudaCopies(self.xp)

    def load(self, stages: Iterable[str]) -> None:
        """Compile and load modules that are not there yet."""
        for stage in stages:
            load.module(stage, self.arch)

    def wait(self) -> None:
        """Wait for the current stream."""
        self.xp.cuda.get_current_stream().synchronize()


class HostLauncher:
    """The same kernels on one thread of the CPU: for tests, sanitizers and rehearsals, not for speed.

    Parameters
    ----------
    order : {0, 1}
        Threads and blocks run in the order of their numbers, or backwards. Results must not differ.
    sanitize : bool, optional
        Build with AddressSanitizer and UndefinedBehaviorSanitizer; the process must have their library
        loaded (see tests/test_host_launcher.py). By default: when OMNISTREAM_HOST_SANITIZE is set.
    limit_bytes : int, optional
        How much memory arrays may take; by default as much as there is.
    """

    def __init__(self, order: int = 0, sanitize: bool | None = None, limit_bytes: int | None = None) -> None:
        memory = HostMemory(limit_bytes)
        self.xp: Any = memory
        self.pool: Pool = HostPool(memory)
        self.name = "cuda-host"
        # What copies, and kernels where there are copies, did and waited for.
        self.trace: deque[str] = deque(maxlen=4096)
        self._queues = 0
        self.order = order
        self.sanitize = bool(os.environ.get("OMNISTREAM_HOST_SANITIZE")) if sanitize is None else sanitize

    def launch(self, stage: str, kernel: str, blocks: int, threads: int, *arguments: Any) -> None:
        """Run a kernel to its end."""
        if not blocks:
            return
        values = [_value(each) for each in arguments]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        sizes = (ctypes.c_size_t * len(values))(*map(ctypes.sizeof, values))
        text = ctypes.create_string_buffer(256)
        function = host_library(stage, self.sanitize).omnistream_launch
        if self._queues:
            self.trace.append(kernel)
        if function(kernel.encode(), blocks, threads, len(values), sizes, pointers, self.order, text, 256):
            raise DeviceError(f"{stage}: {text.value.decode()}")

    def bind(self) -> None:
        """Nothing to do: any thread may use it, one at a time."""

    def to_host(self, array: Any) -> np.ndarray[Any, Any]:
        """Return a copy outside of this launcher's memory."""
        copy: np.ndarray[Any, Any] = array.get()
        return copy

    def to_device(self, array: np.ndarray[Any, Any]) -> Any:
        """Return a copy in this launcher's memory."""
        return self.xp.asarray(array)

    def pinned(self, size_bytes: int) -> np.ndarray[Any, Any]:
        """Return bytes."""
        return np.empty(size_bytes, np.uint8)

    def copies(self) -> Copies:
        """Return a new queue, whose copies are made as late as its waits allow."""
        self._queues += 1
        return HostCopies(f"queue {self._queues}", self.trace)

    def load(self, stages: Iterable[str]) -> None:
        """Build what is not there yet."""
        for stage in stages:
            host_library(stage, self.sanitize)

    def wait(self) -> None:
        """Nothing is under way: `launch` returns at the end."""


def _checked(argument: Any, kind: type[Any]) -> Any:
    """Return what a kernel may be given. CuPy by itself ignores strides, and sends a NumPy array by value."""
    if isinstance(argument, kind):
        if not argument.flags.c_contiguous:
            raise TypeError("kernels take contiguous arrays")
    elif not isinstance(argument, np.generic):
        raise TypeError(
            "kernels take arrays of the device and NumPy scalars, whose size is known; "
            f"not {type(argument).__name__}"
        )
    return argument


def _value(argument: Any) -> Any:
    if argument is None:
        return ctypes.c_void_p(0)
    given = _checked(argument, HostArray)
    if isinstance(given, HostArray):
        return ctypes.c_void_p(given.data.ptr)
    return (ctypes.c_char * given.nbytes).from_buffer_copy(given.tobytes())


# ---- building for the host ----


def kernel_names(stage: str) -> list[str]:
    """Return the kernels of a stage, those of its headers included."""
    return sorted({name.decode() for text in load.sources(stage).values() for name in _KERNEL.findall(text)})


@functools.cache
def host_library(stage: str, sanitize: bool = False) -> ctypes.CDLL:
    """Build a stage for the host launcher, or find what was built before.

    Raises
    ------
    DeviceError
        When there is no C++20 compiler (``$CXX``, else ``c++``), or it refuses the source.
    """
    path = build_for_host(stage, sanitize)
    library = ctypes.CDLL(str(path))
    library.omnistream_launch.argtypes = [
        ctypes.c_char_p,
        ctypes.c_uint,
        ctypes.c_uint,
        ctypes.c_size_t,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_size_t,
    ]
    return library


def build_for_host(stage: str, sanitize: bool) -> Path:
    """Build a stage as a shared library for the host launcher, or find what was built before."""
    names = kernel_names(stage)
    text = "\n".join(
        [
            '#include "host/launch.hpp"',
            f'#include "{stage}.cu"',
            "namespace {",
            "const std::vector<omnistream::host::Kernel> kKernels = {",
            *(f'omnistream::host::Caller<omnistream::{name}>::kernel("{name}"),' for name in names),
            "};",
            "}",
            'extern "C" __attribute__((visibility("default")))',
            "int omnistream_launch(const char* name, unsigned blocks, unsigned threads,",
            "std::size_t count, const std::size_t* sizes, void** arguments, int order, char* text,",
            "std::size_t text_bytes) {",
            "return omnistream::host::launch(kKernels, name, blocks, threads, count, sizes, arguments,",
            "order, text, text_bytes);",
            "}",
            "",
        ]
    )
    # Hidden, so that no name (``read``, ``Grid``) is taken from another library of the process.
    flags = ["-std=c++20", "-shared", "-fPIC", "-fvisibility=hidden", "-g1", f"-I{load.FOLDER}", f"-I{_HOST}"]
    flags += ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wno-sign-conversion", "-Werror"]
    flags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1"] if sanitize else ["-O2"]
    compiler = [*shlex.split(os.environ.get("CXX", "c++")), *flags]
    digest = hashlib.sha256("\0".join([*compiler[:-1], text]).encode())
    for name, source in load.sources(stage).items():
        digest.update(Path(name).name.encode() + b"\0" + source)
    for header in ("launch.hpp", "cuda.hpp"):
        digest.update((_HOST / "host" / header).read_bytes())
    path = cache_dir() / "host" / f"{stage}-{digest.hexdigest()[:16]}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(f".{os.getpid()}")
    try:
        subprocess.run(
            [*compiler, "-x", "c++", "-", "-o", str(made)],
            input=text,
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        raise DeviceError(f"the host launcher needs a C++20 compiler; {compiler[0]} is not found") from error
    except subprocess.CalledProcessError as error:
        raise DeviceError(f"{stage}.cu does not compile for the host:\n{error.stderr[:4000]}") from error
    made.replace(path)
    return path
