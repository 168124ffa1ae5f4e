"""The memory that there is: the machine's, or that of the control groups around the process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from omnistream import pipeline as stages
from omnistream.errors import MemoryLimitError
from omnistream.job import parse_job
from omnistream.memory import default_limit_bytes, memory_bytes
from omnistream.pipeline import Pipeline
from omnistream.spec import StateSpec

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
MIB = 2**20


def system(folder: Path, groups: str, limits: dict[str, str]) -> Path:
    """Write the files of /proc and /sys that say what there is."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for place, limit in limits.items():
        file = folder / "sys/fs/cgroup" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    return folder


@pytest.mark.parametrize(
    ("groups", "limits", "there_is"),
    [
        ("0::/\n", {"memory.max": str(512 * MIB)}, 512 * MIB),
        ("0::/\n", {"memory.max": "max"}, MACHINE),
        (
            "0::/pods/one\n",
            {"pods/one/memory.max": "max", "pods/memory.max": str(300 * MIB), "memory.max": str(400 * MIB)},
            300 * MIB,
        ),
        (
            "5:devices:/\n4:memory:/a/b\n0::/\n",
            {"memory/a/b/memory.limit_in_bytes": str(200 * MIB), "memory/memory.limit_in_bytes": str(2**63)},
            200 * MIB,
        ),
        # The host's path, inside a container that sees its own group as the root.
        ("4:memory:/host/x\n", {"memory/memory.limit_in_bytes": str(100 * MIB)}, 100 * MIB),
        ("", {}, MACHINE),
    ],
)
def test_the_least_limit_around_the_process(
    groups: str, limits: dict[str, str], there_is: int, tmp_path: Path
) -> None:
    assert memory_bytes(system(tmp_path, groups, limits)) == there_is


def test_without_linux_it_is_the_machine(tmp_path: Path) -> None:
    assert memory_bytes(tmp_path) == MACHINE
    assert 0 < default_limit_bytes() <= 0.75 * MACHINE


def test_a_job_that_sets_no_limit_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    job = parse_job(
        {"schema": {"use": "order_flat"}, "window": [{"name": "w", "size": "1h", "measures": ["count"]}]}
    )
    assert Pipeline(job).push([]) == {}
    monkeypatch.setattr(stages, "default_limit_bytes", lambda: 1)
    with pytest.raises(
        MemoryLimitError, match=r"more than three quarters of the memory that there is \(0.0 MiB"
    ):
        Pipeline(job).push([])
    # What the job says goes before.
    assert Pipeline(replace(job, state=StateSpec(2**40))).push([]) == {}
