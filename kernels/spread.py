"""Several devices: each has drivers and a thread of its own, and partitions that are its alone.

It is what `omnistream.decode_ahead` does with threads. Blocks are copied and decoded where their partition
is, all devices at once; codes, the watermark and windows are taken in the order of the blocks, so that
results are the same bytes for any number of devices. A key that has rows in partitions of several devices is
added up when its window closes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from omnistream import _core
from omnistream.decode_ahead import AnyBlock
from omnistream.kernels.columns import CleanRows
from omnistream.kernels.decode import Decoded, DeviceDecoder
from omnistream.kernels.launch import Launcher
from omnistream.kernels.window import DeviceWindow

Result = TypeVar("Result")
# Blocks that each device may have decoded before their turn comes.
AHEAD = 2


class Devices:
    """Devices, and the threads that all their work is started in.

    Parameters
    ----------
    launchers : sequence of Launcher
        One for each device.
    """

    def __init__(self, launchers: Sequence[Launcher]) -> None:
        self.launchers = list(launchers)
        self._threads = [
            ThreadPoolExecutor(1, f"omnistream-gpu-{place}", initializer=launcher.bind)
            for place, launcher in enumerate(self.launchers)
        ]

    def __len__(self) -> int:
        return len(self.launchers)

    def place_of(self, owner: int) -> int:
        """Return which device has a partition, by its slot in the watermark."""
        return owner % len(self)

    def start(self, place: int, work: Callable[..., Result], *arguments: Any) -> Future[Result]:
        """Call in a device's thread, behind what was started there before."""
        return self._threads[place].submit(work, *arguments)

    def run(self, place: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """Call in a device's thread, and wait."""
        return self.start(place, work, *arguments).result()

    def close(self) -> None:
        """End the threads when their work is done."""
        for thread in self._threads:
            thread.shutdown()


class SpreadDecoder:
    """A decoder on every device, all of which write codes of the same dictionaries.

    Parameters
    ----------
    devices : Devices
    schema : dict
        As `DeviceDecoder` takes it.
    dictionaries : mapping of str to _core.Dictionary
    watermark : _core.Watermark
        Numbers the partitions.
    """

    def __init__(
        self,
        devices: Devices,
        schema: dict[str, Any],
        dictionaries: Mapping[str, _core.Dictionary],
        watermark: _core.Watermark,
    ) -> None:
        self._devices = devices
        self._watermark = watermark
        self.decoders = [
            devices.run(place, DeviceDecoder, launcher, schema, dictionaries)
            for place, launcher in enumerate(devices.launchers)
        ]

    def ahead(self, blocks: Iterable[AnyBlock]) -> Iterator[tuple[AnyBlock, int, Decoded]]:
        """Yield blocks of NDJSON in their order, each with its device and what that has decoded of it.

        Rows get their codes after that, in the order of the blocks: ``decoders[place].rows``, in the thread
        of the device.
        """
        waiting: deque[tuple[AnyBlock, int, Future[Decoded]]] = deque()
        try:
            for block in blocks:
                owner = self._watermark.slot(block.source, block.partition)
                place = self._devices.place_of(owner)
                waiting.append((block, place, self._devices.start(place, self._decode, place, block)))
                if len(waiting) > AHEAD * len(self._devices):
                    first, where, decoded = waiting.popleft()
                    yield first, where, decoded.result()
            while waiting:
                first, where, decoded = waiting.popleft()
                yield first, where, decoded.result()
        finally:
            for _, _, decoded in waiting:
                decoded.cancel()

    def _decode(self, place: int, block: AnyBlock) -> Decoded:
        return self.decoders[place].decode_lines(
            block.data, block.source, block.partition, block.first_position
        )


class SpreadWindow:
    """A window whose groups live on the devices that their rows come from.

    Parameters
    ----------
    devices : Devices
    spec : dict
        What `DeviceWindow` takes.
    """

    def __init__(self, devices: Devices, spec: dict[str, Any]) -> None:
        self._devices = devices
        self._windows = [
            devices.run(place, DeviceWindow, launcher, spec)
            for place, launcher in enumerate(devices.launchers)
        ]
        self._merged = _core.Window(spec)
        self._nothing = _parts(self._merged)

    @property
    def aggregated(self) -> int:
        """Rows that were added up."""
        return sum(each.aggregated for each in self._windows)

    @property
    def late(self) -> int:
        """Rows that came late."""
        return sum(each.late for each in self._windows)

    @property
    def groups(self) -> int:
        """Keys held in open windows; those of several devices count for each."""
        return sum(each.groups for each in self._windows)

    def push(self, rows: CleanRows) -> list[int]:
        """Aggregate rows where they lie; return the row numbers of those that came late."""
        place = self._devices.place_of(rows.owner)
        return self._devices.run(place, self._windows[place].push, rows)

    def advance(self, watermark_ms: int) -> list[_core.Batch]:
        """Close what the watermark has made final; return a batch for each window, by start."""
        started = [
            self._devices.start(place, window.take_final, watermark_ms)
            for place, window in enumerate(self._windows)
        ]
        taken = [parts for parts in (each.result() for each in started) if parts is not None]
        if not taken:
            return []
        self._merged.restore(_owned_by_one(taken[0]))
        for parts in taken[1:]:
            self._merged.take(_owned_by_one(parts), 0, 0)
        closed = self._merged.advance(watermark_ms)
        self._merged.restore(self._nothing)
        return closed

    def snapshot(self) -> dict[str, Any]:
        """Return the state of all devices, as one window's."""
        started = [self._devices.start(place, each.snapshot) for place, each in enumerate(self._windows)]
        first, *rest = [each.result() for each in started]
        self._merged.restore(first)
        for parts in rest:
            for owner in _owners(parts):
                self._merged.take(parts, owner, owner)
        # All devices have closed the same; take() has noted it for each owner.
        whole = {**_parts(self._merged), "owners": first["owners"]}
        self._merged.restore(self._nothing)
        closed_ms = first["counts"].column("watermark_ms")[0].as_py()
        counts = {"aggregated": self.aggregated, "late": self.late, "watermark_ms": closed_ms}
        schema = whole["counts"].schema
        whole["counts"] = pa.record_batch(
            [pa.array([counts[name]], schema.field(name).type) for name in schema.names], schema=schema
        )
        return whole

    def restore(self, parts: Mapping[str, Any]) -> None:
        """Take back a snapshot, of so many devices or of another number, or of the host."""
        counts = pa.record_batch(parts["counts"])
        zero = {"aggregated": 0, "late": 0}
        for place, window in enumerate(self._windows):
            self._merged.restore(dict(parts))
            for owner in _owners(parts):
                if self._devices.place_of(owner) != place:
                    self._merged.drop(owner)
            own = _parts(self._merged)
            if place:  # the counts are the first's
                columns = [
                    pa.array([zero[name]], counts.schema.field(name).type) if name in zero else column
                    for name, column in zip(counts.schema.names, counts.columns, strict=True)
                ]
                own["counts"] = pa.record_batch(columns, schema=counts.schema)
            self._devices.run(place, window.restore, own)
        self._merged.restore(self._nothing)


def _parts(window: _core.Window) -> dict[str, Any]:
    return {name: pa.record_batch(part) for name, part in window.snapshot().items()}


def _owners(parts: Mapping[str, Any]) -> list[int]:
    owners: list[int] = pc.unique(pa.record_batch(parts["groups"]).column("owner")).to_pylist()
    return owners


def _owned_by_one(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts with all groups owned by 0: whose they were does not matter any more."""
    groups = parts["groups"]
    place = groups.schema.get_field_index("owner")
    owner = pa.array([0] * groups.num_rows, groups.schema.field(place).type)
    return {**parts, "groups": groups.set_column(place, groups.schema.field(place), owner)}
