"""Kernels compiled ahead, without a GPU: NVRTC for the CUDA sources, NVVM for Numba's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from omnistream.cli import main
from omnistream.errors import DeviceError
from omnistream.kernels import load

ROOT = Path(__file__).parent.parent

SUMS = """
#include <cub/block/block_scan.cuh>
#include "width.cuh"

extern "C" __global__ void sums(int* values) {
    using Scan = cub::BlockScan<int, kWidth>;
    __shared__ typename Scan::TempStorage storage;
    Scan(storage).InclusiveSum(values[threadIdx.x], values[threadIdx.x]);
}
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of kernels with one stage, and an empty cache."""
    kernels = tmp_path / "kernels"
    kernels.mkdir()
    (kernels / "sums.cu").write_text(SUMS)
    (kernels / "width.cuh").write_text("constexpr int kWidth = 128;")
    monkeypatch.setattr(load, "FOLDER", kernels)
    monkeypatch.setenv("OMNISTREAM_CACHE_DIR", str(tmp_path / "cache"))
    return kernels


def test_a_stage_is_compiled_once_for_each_architecture(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert load.stages() == ["sums"]
    assert main(["warmup", "--json", "--arch", "sm_80", "sm_90"]) == 0
    kept = json.loads(capsys.readouterr().out)["kernels"]
    assert [(each["stage"], each["arch"]) for each in kept] == [("sums", "sm_80"), ("sums", "sm_90")]
    paths = [Path(each["path"]) for each in kept]
    assert [path.read_bytes()[:4] for path in paths] == [b"\x7fELF"] * 2
    written = [path.stat().st_mtime_ns for path in paths]
    assert main(["warmup", "--arch", "sm_80", "sm_90"]) == 0
    assert capsys.readouterr().out.count(" bytes  ") == 2
    assert [path.stat().st_mtime_ns for path in paths] == written
    assert sorted(paths) == sorted((folder.parent / "cache" / "kernels").iterdir())


def test_a_changed_header_is_compiled_anew(folder: Path) -> None:
    before = load.cubin_path("sums", "sm_90")
    assert sorted(map(Path, load.sources("sums"))) == [folder / "sums.cu", folder / "width.cuh"]
    (folder / "width.cuh").write_text("constexpr int kWidth = 256;")
    assert load.cubin_path("sums", "sm_90") != before != load.cubin_path("sums", "sm_80")


def test_what_does_not_compile_is_an_error_with_its_line(folder: Path) -> None:
    (folder / "sums.cu").write_text('extern "C" __global__ void sums(int* values) { values = wrong; }')
    with pytest.raises(DeviceError, match=r"sums\.cu does not compile for sm_90: .*\(1\).*wrong"):
        load.compile_cubin("sums", "sm_90")
    assert not load.cubin_path("sums", "sm_90").exists()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(["--arch", "hopper"], "hopper is no architecture; write one such as sm_80, sm_90, sm_100")],
)
def test_mistakes_of_the_command(arguments: list[str], what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["warmup", *arguments]) == 1
    assert what in capsys.readouterr().err
    with pytest.raises(DeviceError, match="nothing has no CUDA kernels"):
        load.compile_cubin("nothing", "sm_90")


COMPILE_FOR_NUMBA = """
import sys
from types import SimpleNamespace

import numba.cuda.dispatcher as dispatcher
from numba import cuda, types

from omnistream.features import OPS
from omnistream.kernels import derive

capability = tuple(map(int, sys.argv[1:]))
# Functions that kernels call are compiled for the GPU at hand, and here is none.
dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)

kernels = derive.Kernels("cuda")
history, known, floats = types.int64[:, :, ::1], types.int32[::1], types.float64[::1]
flags = types.boolean[::1]
row = kernels.kernel([derive.Column(op.element, 0, 1, 7, op.scale(10_000, 1)) for op in OPS.values()])
for kernel, arguments in (
    (kernels.demand_kernel, (history, known, types.float64, *[floats] * 3, types.float64[:, ::1], flags)),
    (kernels.stock_kernel, (*[floats] * 5, floats)),
    (row, (history, known, types.int64, types.float32[:, ::1])),
):
    text, returned = cuda.compile_ptx(kernel.py_func, (types.int64, *arguments), cc=capability)
    assert ".entry" in text and returned == types.none
    print(text.count("\\n"))
"""


@pytest.mark.parametrize("capability", [("8", "0"), ("9", "0"), ("10", "0")])
def test_numba_compiles_the_kernels_of_derive(capability: tuple[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", COMPILE_FOR_NUMBA, *capability],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3
