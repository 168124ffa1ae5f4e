"""How much memory a job may take before the system would end it: what the machine has, or its container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# The state's share by default; the rest is for what is being worked on, and for tables that grow.
SHARE_OF_STATE = 0.75


def default_limit_bytes() -> int:
    """Return how much memory state may take when the job does not say."""
    return int(memory_bytes() * SHARE_OF_STATE)


def memory_bytes(system: Path = Path("/")) -> int:
    """Return the memory of the machine, or of the least of the control groups that this process is in."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_group_limits_bytes(system)])


def _group_limits_bytes(system: Path) -> Iterator[int]:
    """Yield the limits of the process's control groups, of version 1 and 2, and of those around them."""
    try:
        groups = (system / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # no Linux
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root = system / "sys/fs/cgroup" / ("memory" if controllers else "")
        name = "memory.limit_in_bytes" if controllers else "memory.max"
        # In a container the path may be the host's, and the root is all that is seen.
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(root):
                break
            try:
                limit = (folder / name).read_text().strip()
            except OSError:
                continue
            if limit.isdecimal():
                yield int(limit)
