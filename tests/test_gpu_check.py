"""``make gpu-check``: its rehearsal without a GPU takes every step that it can and claims nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnistream.device import probe_cuda

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, str(ROOT / "bench" / "gpu_check.py")]


def test_the_rehearsal_takes_every_step_and_claims_no_figure() -> None:
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
    assert len(report["figures"]) >= 6
    assert all(figure["rehearsal"] is True for figure in report["figures"].values())
    assert sorted(results.iterdir()) == before


@pytest.mark.skipif(not probe_cuda().missing, reason="this machine has a GPU: run make gpu-check there")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    done = subprocess.run(COMMAND, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ)
    report = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, report["passed"], report["figures"]) == (1, False, {})
    assert [*report["steps"]] == ["build", "device"]
    assert "To rehearse: make gpu-check REHEARSE=1" in report["steps"]["device"]["text"]
