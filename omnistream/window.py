"""window: event-time windows of exact aggregates, keyed by any columns.

The meaning is in ``tests/reference/window.py``; the C++ engine is ``cpp/src/window.cpp`` and what it names.
"""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa

from omnistream import _core
from omnistream.spec import JobSpec


class Windows:
    """All windows of a job; each row goes to every one of them."""

    def __init__(self, job: JobSpec) -> None:
        columns = job.columns
        self._windows = {
            spec.name: _core.Window({**spec.to_core(job.time.column, columns), "zone": spec.zone()})
            for spec in job.windows
        }
        self._specs = job.windows
        self.aggregated = 0  # rows that every window took
        self.late = 0  # rows that at least one window refused

    def run(self, clean: _core.CleanBatch) -> list[_core.Batch]:
        """Aggregate the rows; return rejects for those that came late."""
        refused: defaultdict[int, list[str]] = defaultdict(list)
        for name, window in self._windows.items():
            for row in window.push(clean):
                refused[row].append(name)
        self.late += len(refused)
        self.aggregated += clean.rows - len(refused)
        by_windows: defaultdict[str, list[int]] = defaultdict(list)
        for row in sorted(refused):
            by_windows[", ".join(refused[row])].append(row)
        return [
            _core.rejects(clean.batch, rows, "window", "late", names) for names, rows in by_windows.items()
        ]

    def close(self, watermark_ms: int) -> dict[str, list[_core.Batch]]:
        """Return one batch for each window interval that the watermark has made final."""
        return {name: window.advance(watermark_ms) for name, window in self._windows.items()}

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the Arrow schema of each window's results."""
        return {name: pa.record_batch(window.empty_result()).schema for name, window in self._windows.items()}

    @property
    def open_windows(self) -> int:
        """Intervals that are not final yet."""
        return sum(window.open_windows for window in self._windows.values())

    @property
    def groups(self) -> int:
        """Keys held in open intervals."""
        return sum(window.groups for window in self._windows.values())

    @property
    def state_bytes(self) -> int:
        """Memory of all open intervals."""
        return sum(window.memory_bytes for window in self._windows.values())

    def explain(self) -> str:
        """One line per window."""
        return "; ".join(spec.explain() for spec in self._specs) or "none"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, _core.Batch]:
        """Return the state of all windows, of all partitions or of one; parts are named ``window.part``."""
        return {
            f"{name}.{part}": batch
            for name, window in self._windows.items()
            for part, batch in window.snapshot(owner).items()
        }

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        for name, window in self._windows.items():
            window.restore(_parts_of(name, parts))

    def drop(self, owner: int) -> None:
        """Remove the groups of one partition."""
        for window in self._windows.values():
            window.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """Add the groups that `from_owner` had in another pipeline."""
        for name, window in self._windows.items():
            window.take(_parts_of(name, parts), from_owner, to)


def _parts_of(name: str, parts: dict[str, object]) -> dict[str, object]:
    prefix = f"{name}."
    return {part.removeprefix(prefix): batch for part, batch in parts.items() if part.startswith(prefix)}
