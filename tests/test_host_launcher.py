"""The host launcher stands for a GPU, so it is held to what CUDA promises: barriers, warps, atomics."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnistream.errors import DeviceError
from omnistream.kernels import load
from omnistream.kernels.launch import HostLauncher, blocks_for, host_library, kernel_names

ROOT = Path(__file__).parent.parent

KERNELS = """
#include "device.cuh"

namespace omnistream {

extern "C" __global__ void sum(const u32* values, u32 count, u64* total) {
    __shared__ u64 parts[64];
    u64 part = 0;
    for (u32 i = first_item(); i < count; i += all_threads()) part += values[i];
    parts[threadIdx.x] = part;
    __syncthreads();
    for (u32 step = blockDim.x / 2; step > 0; step /= 2) {
        if (threadIdx.x < step) parts[threadIdx.x] += parts[threadIdx.x + step];
        __syncthreads();
    }
    if (threadIdx.x == 0) atomicAdd(total, parts[0]);
}

extern "C" __global__ void warps(const u32* values, u32* sums, u32* same, u32* odd, i64* turned) {
    const u32 i = threadIdx.x;
    u32 sum = values[i];
    for (u32 delta = 1; delta < 32; delta *= 2) {
        const u32 before = __shfl_up_sync(0xffffffffu, sum, delta);
        if (i % 32 >= delta) sum += before;
    }
    sums[i] = sum;
    same[i] = __match_any_sync(0xffffffffu, values[i] % 3);
    odd[i] = 0;
    if (i % 2 != 0) odd[i] = __ballot_sync(0xaaaaaaaau, values[i] > 7);
    turned[i] = __shfl_xor_sync(0xffffffffu, -static_cast<i64>(i) << 33, 31);
}

// Half of the threads return before the barrier that the others meet at.
extern "C" __global__ void leave(u32* out) {
    __shared__ u32 count;
    if (threadIdx.x == 0) count = 0;
    __syncthreads();
    if (threadIdx.x % 2 != 0) return;
    atomicAdd(&count, 1u);
    __syncthreads();
    out[threadIdx.x / 2] = count;
}

extern "C" __global__ void stuck(u32* out) {
    if (threadIdx.x == 0) {
        __syncwarp(3u);
    } else {
        __syncthreads();
    }
    out[0] = 1;
}

extern "C" __global__ void beyond(u32* out, u32 at) { out[at] = 1; }

}  // namespace omnistream
"""


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> HostLauncher:
    (tmp_path / "proof.cu").write_text(KERNELS)
    monkeypatch.setattr(load, "FOLDER", tmp_path)
    host_library.cache_clear()
    return HostLauncher()


def array(launcher: HostLauncher, count: int, dtype: Any = np.uint32) -> Any:
    return launcher.xp.zeros(count, dtype)


@pytest.mark.parametrize("order", [0, 1])
def test_barriers_warps_and_atomics(launcher: HostLauncher, order: int) -> None:
    launcher.order = order
    assert kernel_names("proof") == ["beyond", "leave", "stuck", "sum", "warps"]
    values = np.arange(10_001, dtype=np.uint32)
    given = launcher.to_device(values)
    total = array(launcher, 1, np.uint64)
    launcher.launch("proof", "sum", 7, 64, given, np.uint32(len(values)), total)
    assert int(total[0]) == values.sum()

    out = [array(launcher, 64, dtype) for dtype in (np.uint32, np.uint32, np.uint32, np.int64)]
    launcher.launch("proof", "warps", 1, 64, given, *out)
    sums, same, odd, turned = map(launcher.to_host, out)
    rows = values[:64].reshape(2, 32)
    assert (sums.reshape(2, 32) == rows.cumsum(axis=1)).all()
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for warp in range(2):
        for lane in range(32):
            alike = rows[warp] % 3 == rows[warp, lane] % 3
            assert same[warp * 32 + lane] == bits[alike].sum()
            expected = bits[(np.arange(32) % 2 == 1) & (rows[warp] > 7)].sum() if lane % 2 else 0
            assert odd[warp * 32 + lane] == expected
            assert turned[warp * 32 + lane] == -(warp * 32 + (lane ^ 31)) << 33

    left = array(launcher, 16)
    launcher.launch("proof", "leave", 1, 32, left)
    assert bool((left == 16).all())


def test_what_a_gpu_would_not_forgive_is_an_error(launcher: HostLauncher) -> None:
    out = array(launcher, 32)
    with pytest.raises(
        DeviceError, match="stuck: threads of block 0 wait for each other at different places"
    ):
        launcher.launch("proof", "stuck", 1, 32, out)
    with pytest.raises(DeviceError, match="stuck takes 1 arguments, not 2"):
        launcher.launch("proof", "stuck", 1, 32, out, None)
    with pytest.raises(DeviceError, match="beyond: argument 1 has 4 bytes, not 8"):
        launcher.launch("proof", "beyond", 1, 1, out, np.uint64(0))
    with pytest.raises(DeviceError, match="no kernel nothing"):
        launcher.launch("proof", "nothing", 1, 1)
    with pytest.raises(TypeError, match="whose size is known; not int"):
        launcher.launch("proof", "beyond", 1, 1, out, 0)
    launcher.launch("proof", "beyond", 0, 1, out, 0)  # no blocks, no launch
    assert not bool(out.any())
    with pytest.raises(TypeError, match="whose size is known; not ndarray"):
        launcher.launch("proof", "beyond", 1, 1, np.zeros(1, np.uint32), np.uint32(0))
    with pytest.raises(TypeError, match="contiguous"):
        launcher.launch("proof", "beyond", 1, 1, out[::2], np.uint32(0))
    assert [blocks_for(items, 256) for items in (0, 1, 256, 257, 2**31)] == [0, 1, 1, 2, 8192]


def test_a_source_that_does_not_compile_is_an_error(launcher: HostLauncher) -> None:
    (load.FOLDER / "proof.cu").write_text(KERNELS.replace("u64 part = 0;", "u64 part = nowhere;"))
    with pytest.raises(DeviceError, match=r"(?s)proof\.cu does not compile for the host.*nowhere"):
        launcher.launch("proof", "sum", 1, 1)


OVERFLOW = """
import sys
from pathlib import Path

import numpy as np

from omnistream.kernels import load
from omnistream.kernels.launch import HostLauncher

load.FOLDER = Path(sys.argv[1])
launcher = HostLauncher()
out = launcher.xp.zeros(4096, np.uint32)
launcher.launch("proof", "beyond", 1, 1, out, np.uint32(sys.argv[2]))
print("done", int(out.sum()))
"""


def sanitizers() -> str:
    """Return what to preload into a Python that loads libraries built with sanitizers."""
    names = [
        subprocess.run(
            [os.environ.get("CXX", "c++"), f"-print-file-name=lib{name}.so"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name in ("asan", "ubsan")
    ]
    return " ".join(names)


@pytest.mark.parametrize(("at", "found"), [(4095, False), (4096, True)])
def test_a_store_beyond_an_array_is_found(launcher: HostLauncher, at: int, found: bool) -> None:
    environment = {
        "LD_PRELOAD": sanitizers(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMNISTREAM_HOST_SANITIZE": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", OVERFLOW, str(load.FOLDER), str(at)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | environment,
    )
    assert ("heap-buffer-overflow" in done.stderr) is found, done.stderr
    assert (done.stdout == "done 1\n") is not found
