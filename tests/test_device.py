"""Which device is taken, what is said when it cannot be, and `omnistream doctor`."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream.cache import cache_dir
from omnistream.cli import main
from omnistream.device import SMALLEST_BATCH_BYTES, TRIALS, Costs, Missing, choose_device, fall_back
from omnistream.doctor import describe, examine
from omnistream.errors import DeviceError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver that answers as the environment says."""
    folder = tmp_path_factory.mktemp("driver")
    source = ROOT / "tests" / "data" / "fake_libcuda.c"
    command = ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(folder / "libcuda.so.1"), str(source)]
    subprocess.run(command, check=True)
    return folder


def probe(driver: Path, **answers: int) -> dict[str, Any]:
    """Return the findings of doctor with the fake driver, and what choosing a device says."""
    code = """
import json, logging, sys
sys.modules["cupy"] = None
from omnistream.device import choose_device
from omnistream.doctor import examine
from omnistream.errors import DeviceError
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
auto = [choose_device("auto") for _ in range(3)]
try:
    choose_device("cuda")
except DeviceError as error:
    print(error)
print(json.dumps(examine() | {"auto": auto[0].name}))
"""
    environment = os.environ | {"LD_LIBRARY_PATH": str(driver)}
    environment |= {f"FAKE_{name.upper()}": str(value) for name, value in answers.items()}
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    ).stdout.splitlines()
    *said, findings = printed
    return json.loads(findings) | {"said": said}


@pytest.mark.parametrize(
    ("answers", "what"),
    [
        ({"init": 100}, "the NVIDIA driver does not start: no CUDA device is visible (CUDA error 100)"),
        ({"init": 999}, "the NVIDIA driver does not start: cuInit fails (CUDA error 999)"),
        ({"count": 0}, "the driver shows no GPU"),
        ({"capability": 75}, "the GPU is too old: Fake GPU is sm_75, and the kernels need sm_80"),
        ({"version": 11080}, "the driver knows CUDA 11.8, and the kernels need 12.0"),
        ({}, "CuPy is not installed"),
    ],
)
def test_what_is_missing_is_said(fake_driver: Path, answers: dict[str, int], what: str) -> None:
    findings = probe(fake_driver, **answers)
    assert findings["missing"][0]["what"] == what
    assert findings["auto"] == "cpu"
    assert findings["cuda_usable"] is False
    *warnings, error = findings["said"]
    assert error.startswith(f'device = "cuda": {what}; ')
    assert len(warnings) <= 1
    if "init" not in answers and "count" not in answers:  # then the machine is known to have a GPU
        (warning,) = warnings
        assert warning.startswith(f"device cpu: {what}; ")


def test_the_fix_names_the_packages_of_the_driver(fake_driver: Path) -> None:
    new, old = probe(fake_driver), probe(fake_driver, version=12040)
    assert new["missing"][0]["fix"] == "pip install 'omnistream[gpu]'"
    assert old["missing"][0]["fix"] == "pip install 'omnistream[gpu12]'"
    (gpu,) = new["gpus"]
    assert (gpu["name"], gpu["arch"], gpu["memory_bytes"]) == ("Fake GPU", "sm_90", 16 << 30)
    assert (new["driver_cuda"], gpu["multiprocessors"]) == ("13.0", 108)
    assert "GPU 0           Fake GPU, sm_90, 16.0 GiB" in describe(new)


def test_auto_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    missing = Missing("a compiler fails in this test", "mend it")
    with caplog.at_level(logging.WARNING, "omnistream"):
        devices = {fall_back("auto", missing) for _ in range(3)}
    assert [device.name for device in devices] == ["cpu"]
    assert [record.message for record in caplog.records] == [
        "device cpu: a compiler fails in this test; mend it"
    ]
    with pytest.raises(DeviceError, match="a compiler fails in this test; mend it, or use device"):
        fall_back("cuda", missing)


def test_the_cpu_needs_no_look_at_the_machine() -> None:
    assert choose_device("cpu").name == "cpu"


def test_doctor_prints_what_it_finds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    findings = examine()
    for each in findings["missing"]:
        assert f"{each['what']}; {each['fix']}" in shown
    assert f"numpy           {findings['packages']['numpy']} (arrays)" in shown
    assert main(["doctor", "--json", "--require", "cuda"]) == (0 if findings["cuda_usable"] else 1)
    printed = json.loads(capsys.readouterr().out)
    assert printed["missing"] == findings["missing"]
    assert printed["cuda_usable"] == (not printed["missing"])


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OMNISTREAM_CACHE_DIR", str(tmp_path))
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "decode-sm_90.cubin").write_bytes(bytes(7))
    assert examine()["compile_cache"] == {"path": str(tmp_path), "files": 1, "size_bytes": 7}
    monkeypatch.delenv("OMNISTREAM_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "omnistream"


@given(
    st.integers(SMALLEST_BATCH_BYTES, 1 << 30),
    st.lists(st.floats(1e-6, 1.0), min_size=2 * TRIALS, max_size=2 * TRIALS),
)
def test_the_device_that_was_faster_gets_the_batch(size_bytes: int, seconds: list[float]) -> None:
    costs = Costs()
    taken: dict[str, list[float]] = {"cpu": [], "cuda": []}
    for each in seconds:
        device = costs.choose("decode", size_bytes)
        taken[device.name].append(each)
        costs.observe("decode", device.name, size_bytes, each)
    assert [len(each) for each in taken.values()] == [TRIALS, TRIALS]
    chosen = costs.choose("decode", size_bytes)
    assert min(taken[chosen.name]) == min(seconds)
    assert " ms" in chosen.reason
    assert costs.choose("clean", size_bytes).reason == f"batch 1 of {TRIALS} to measure it by"


def test_small_batches_stay() -> None:
    assert Costs().choose("decode", SMALLEST_BATCH_BYTES - 1).name == "cpu"
