"""``make gpu-check``: its rehearsal without a GPU takes every step that it can and claims nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from omnistream.device import probe_cuda

ROOT = Path(__file__).parent.parent
# One of each kind; a window of so many keys, two schemas and both devices have theirs beside it.
FIGURES = {
    "compile all kernels",
    "device memory, read and written",
    "decode order_flat, resident",
    "decode order_flat, from pinned memory",
    "decode order, one CPU core, events",
    "window, 10 keys, uniform",
    "window, 500 keys, Zipf, columns read",
    "window, 500 keys, Zipf, one CPU core",
    "safety stock",
    "features",
    "pipeline, on the device",
    "pipeline, one CPU core, bytes",
}
COMMAND = [sys.executable, str(ROOT / "bench" / "gpu_check.py")]


def gpu_check() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "bench" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["gpu_check"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_rehearsal_takes_every_step_and_claims_no_figure(tmp_path: Path) -> None:
    results = ROOT / "bench" / "results"
    before = sorted(results.iterdir())
    done = subprocess.run([*COMMAND, "--rehearse"], check=False, capture_output=True, text=True, cwd=ROOT)
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert report["rehearsal"] is True
    states = {name: step["state"] for name, step in report["steps"].items()}
    assert [*states] == ["build", "device", "compile", "conformance", "sanitizer", "benchmarks"]
    assert {states[name] for name in ("build", "device", "conformance", "benchmarks")} == {"passed"}
    assert report["steps"]["sanitizer"]["text"]  # says what is missing
    assert all(figure["rehearsal"] is True for figure in report["figures"].values())
    assert FIGURES - set(report["figures"]) == set()
    if states["compile"] == "passed":
        assert {"decode.measure", "window.add_sums"} <= set(report["kernels"])
    if importlib.util.find_spec("cudf") is None:
        assert report["steps"]["benchmarks"]["text"] == "all but; cuDF: cuDF is not installed"
    assert sorted(results.iterdir()) == before

    path = gpu_check().write(report, tmp_path)
    assert json.loads(Path(f"{path}.json").read_text()) == report
    rows = [line for line in Path(f"{path}.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 6 + len(report["steps"]) + len(report["figures"]) + len(report["kernels"])


@pytest.mark.skipif(not probe_cuda().missing, reason="this machine has a GPU: run make gpu-check there")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    done = subprocess.run(COMMAND, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["passed"], report["figures"]) == (1, False, {})
    assert [*report["steps"]] == ["build", "device"]
    assert "To rehearse: make gpu-check REHEARSE=1" in report["steps"]["device"]["text"]
