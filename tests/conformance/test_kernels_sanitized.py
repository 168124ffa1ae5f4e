"""Kernels under AddressSanitizer and UndefinedBehaviorSanitizer.

The conformance tests once more, in a process whose host launcher builds with both.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_host_launcher import sanitizers

ROOT = Path(__file__).parent.parent.parent
TESTS = ["test_encode_device.py", "test_window_device.py"]


@pytest.mark.parametrize("name", TESTS)
def test_kernels_keep_to_their_arrays(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name(name))],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ
        | {
            "LD_PRELOAD": sanitizers(),
            "ASAN_OPTIONS": "detect_leaks=0",
            "OMNISTREAM_HOST_SANITIZE": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
