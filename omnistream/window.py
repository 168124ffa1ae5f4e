"""window: event-time windows of exact aggregates, keyed by any columns.

The meaning is in ``tests/reference/window.py``; the C++ engine is ``cpp/src/window.cpp`` and what it names,
the device's is ``kernels/window.py``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from omnistream import _core
from omnistream.clean import CleanRows
from omnistream.placement import LANE_BYTES, Seat
from omnistream.shards import ShardedWindow, is_sharded
from omnistream.spec import JobSpec

if TYPE_CHECKING:
    from omnistream.kernels.columns import CleanRows as Lanes
    from omnistream.kernels.launch import Launcher
    from omnistream.kernels.window import DeviceWindow


HostWindow: TypeAlias = _core.Window | ShardedWindow


def refusals(job: JobSpec) -> dict[str, str]:
    """Return why windows have no kernel, by name; those that have one are not named."""
    from omnistream.kernels.window import refusal

    columns = job.columns
    reasons = {spec.name: refusal(spec.to_core(job.time.column, columns)) for spec in job.windows}
    return {name: reason for name, reason in reasons.items() if reason is not None}


class Windows:
    """All windows of a job; each row goes to every one of them.

    Parameters
    ----------
    job : JobSpec
    seat : Seat
        Of the windows that have a kernel. When it changes they move, with their state.
    dictionaries : mapping of str to _core.Dictionary
        Those of encode.
    """

    def __init__(self, job: JobSpec, seat: Seat, dictionaries: Mapping[str, _core.Dictionary]) -> None:
        columns = job.columns
        required = [field.name for field in job.schema.fields if field.required]
        self._cores = {
            spec.name: {
                **spec.to_core(job.time.column, columns),
                "zone": spec.zone(),
                "required": required,
            }
            for spec in job.windows
        }
        self._shards = job.state.shards
        sharded = any(is_sharded(core, self._shards) for core in self._cores.values())
        self._pool = ThreadPoolExecutor(self._shards, "omnistream-window") if sharded else None
        self._on_host = {name: self._new_on_host(name) for name in self._cores}
        self._on_device: dict[str, DeviceWindow] = {}
        self._specs = job.windows
        self._seat = seat
        self._refusals = refusals(job) if seat.able else {}
        self._columns = columns
        self._dictionaries = dict(dictionaries)
        if seat.fixed:
            self._move(seat.placement.launcher())
        self.aggregated = 0  # rows that every window took
        self.late = 0  # rows that at least one window refused

    def _new_on_host(self, name: str) -> HostWindow:
        core = self._cores[name]
        if self._pool is None or not is_sharded(core, self._shards):
            return _core.Window(core)
        return ShardedWindow(core, self._shards, self._pool)

    def run(self, clean: CleanRows) -> list[_core.Batch]:
        """Aggregate the rows; return rejects for those that came late."""
        with self._seat.turn(clean.rows * len(self._columns) * LANE_BYTES) as launcher:
            self._move(launcher)
            refused = self._push(clean, launcher)
        self.late += len(refused)
        self.aggregated += clean.rows - len(refused)
        by_windows: defaultdict[str, list[int]] = defaultdict(list)
        for row in sorted(refused):
            by_windows[", ".join(refused[row])].append(row)
        return [_late(clean, rows, names) for names, rows in by_windows.items()]

    def _push(self, clean: CleanRows, launcher: Launcher | None) -> Mapping[int, list[str]]:
        """Return which rows came late, and for which windows."""
        refused: defaultdict[int, list[str]] = defaultdict(list)
        lanes = self._lanes(clean, launcher) if launcher is not None and self._on_device else None
        for name in self._cores:
            on_device = self._on_device.get(name)
            if on_device is None:
                late = self._on_host[name].push(_on_host(clean))
            else:
                assert lanes is not None
                late = on_device.push(lanes)
            for row in late:
                refused[row].append(name)
        return refused

    def _lanes(self, clean: CleanRows, launcher: Launcher) -> Lanes:
        """Return the rows on the device; once for all windows."""
        if not isinstance(clean, _core.CleanBatch):
            return clean.lanes()
        from omnistream.kernels.columns import upload

        used = {name: None for window in self._on_device.values() for name in window.columns_used()}
        return upload(launcher, clean, used, self._columns, self._dictionaries)

    def _move(self, launcher: Launcher | None) -> None:
        """Bring the windows that have a kernel to where the next rows are worked on."""
        for name, core in self._cores.items():
            if launcher is None and name in self._on_device:
                window = self._on_host[name] = self._new_on_host(name)
                window.restore({**self._on_device.pop(name).snapshot()})
            elif launcher is not None and name in self._on_host and name not in self._refusals:
                from omnistream.kernels.window import DeviceWindow

                self._on_device[name] = DeviceWindow(launcher, core)
                self._on_device[name].restore(self._on_host.pop(name).snapshot())

    def _each(self) -> Iterator[tuple[str, HostWindow | DeviceWindow]]:
        """Yield the windows in the order of the job."""
        for name in self._cores:
            yield name, self._on_device.get(name) or self._on_host[name]

    def close(self, watermark_ms: int) -> dict[str, list[_core.Batch]]:
        """Return one batch for each window interval that the watermark has made final."""
        return {name: window.advance(watermark_ms) for name, window in self._each()}

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the Arrow schema of each window's results."""
        return {name: pa.record_batch(window.empty_result()).schema for name, window in self._each()}

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """By window: its open intervals, the keys held in them, and their memory."""
        return {
            name: {"open": window.open_windows, "groups": window.groups, "bytes": window.memory_bytes}
            for name, window in self._each()
        }

    @property
    def open_windows(self) -> int:
        """Intervals that are not final yet."""
        return sum(window.open_windows for _, window in self._each())

    @property
    def groups(self) -> int:
        """Keys held in open intervals."""
        return sum(window.groups for _, window in self._each())

    @property
    def state_bytes(self) -> int:
        """Memory of all open intervals."""
        return sum(window.memory_bytes for _, window in self._each())

    def explain(self) -> str:
        """One line per window, with why one stays on the CPU where others do not."""
        shown = []
        for spec in self._specs:
            why = self._refusals.get(spec.name)
            where = f" (on the CPU: {why})" if why else ""
            if isinstance(self._on_host.get(spec.name), ShardedWindow):
                where += f" (keys shared by {self._shards} threads)"
            shown.append(spec.explain() + where)
        return "; ".join(shown) or "none"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, Any]:
        """Return the state of all windows, of all partitions or of one; parts are named ``window.part``."""
        return {
            f"{name}.{part}": batch
            for name, window in self._each()
            for part, batch in window.snapshot(owner).items()
        }

    def freeze(self) -> Callable[[], dict[str, Any]]:
        """Return what gives the `snapshot` of this moment later, once, in any thread; the windows may go on.

        Windows on a device give theirs now.
        """
        frozen = [(name, _freeze(window)) for name, window in self._each()]
        return lambda: {f"{name}.{part}": batch for name, write in frozen for part, batch in write().items()}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        for name, window in self._each():
            if own := _parts_of(name, parts):  # else a window that the job did not have then
                window.restore(own)

    def drop(self, owner: int) -> None:
        """Remove the groups of one partition."""
        for _, window in self._each():
            window.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """Add the groups that `from_owner` had in another pipeline."""
        for name, window in self._each():
            if own := _parts_of(name, parts):
                window.take(own, from_owner, to)


def _freeze(window: HostWindow | DeviceWindow) -> Callable[[], dict[str, Any]]:
    if isinstance(window, (_core.Window, ShardedWindow)):
        return window.freeze().write
    parts = window.snapshot()
    return lambda: parts


def _on_host(clean: CleanRows) -> _core.CleanBatch:
    return clean if isinstance(clean, _core.CleanBatch) else clean.to_host()


def _late(clean: CleanRows, rows: list[int], windows: str) -> _core.Batch:
    if isinstance(clean, _core.CleanBatch):
        return _core.rejects(clean.batch, rows, "window", "late", windows)
    refused: _core.Batch = clean.refuse(rows, "window", "late", windows)
    return refused


def _parts_of(name: str, parts: dict[str, object]) -> dict[str, object]:
    prefix = f"{name}."
    return {part.removeprefix(prefix): batch for part, batch in parts.items() if part.startswith(prefix)}
