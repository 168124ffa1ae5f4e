"""clean: rules as data, duplicates within a time bound, and the watermark that each row meets.

The meaning is in ``tests/reference/clean.py``; the C++ engine is ``cpp/src/clean.cpp`` and what it names, the
device's is ``kernels/clean.py``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from omnistream import _core
from omnistream.placement import LANE_BYTES, Seat
from omnistream.spec import AMOUNTS, JobSpec

if TYPE_CHECKING:
    from omnistream.kernels.clean import DeviceCleaner
    from omnistream.kernels.launch import Launcher
    from omnistream.kernels.rows import DeviceClean, DeviceRows

Rows: TypeAlias = "_core.Batch | DeviceRows"
CleanRows: TypeAlias = "_core.CleanBatch | DeviceClean"


def refusal(job: JobSpec, decode: str | None) -> str | None:
    """Return why a job cleans on the CPU, or None; `decode`: why it decodes there."""
    if job.duplicates is not None and decode is not None:
        return "duplicates are looked up on the CPU, where the rows are"
    return None


class Clean:
    """Rows that break a rule or repeat an event become rejects; the others meet and move the watermark.

    Parameters
    ----------
    job : JobSpec
    seat : Seat
    dictionaries : mapping of str to _core.Dictionary
        Those of encode: rows go to a device in their codes.
    amounts : sequence of str
        Those of `AMOUNTS` that anybody reads.
    """

    def __init__(
        self,
        job: JobSpec,
        seat: Seat,
        dictionaries: Mapping[str, _core.Dictionary],
        amounts: Sequence[str] = AMOUNTS,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.watermark = _core.Watermark(job.time.max_disorder_ms)
        self._seat = seat
        self._dictionaries = dict(dictionaries)
        self._amount = job.amount
        self._amounts = list(amounts)
        self._rules = [rule.to_core() for rule in job.rules]
        self._duplicates = None if job.duplicates is None else job.duplicates.to_core()
        self._cleaner = _core.Cleaner(self._rules, job.time.column, self.watermark, self._duplicates)
        self._on_device: DeviceCleaner | None = None  # made for the first batch that goes there
        self._time = job.time
        self._types = job.columns

    def run(self, batch: Rows, now_ms: int) -> tuple[CleanRows, _core.Batch]:
        """Return the surviving rows, with their amounts, and the rejects."""
        if isinstance(batch, _core.Batch) and self._duplicates is not None:  # looked up on the CPU
            return self._run(batch, now_ms)
        columns = len(batch.names if isinstance(batch, _core.Batch) else batch.columns)
        with self._seat.turn(batch.rows * columns * LANE_BYTES) as launcher:
            if launcher is not None:
                return self._run_on(launcher, batch, now_ms)
            return self._run(batch if isinstance(batch, _core.Batch) else batch.to_host(), now_ms)

    def _run(self, batch: _core.Batch, now_ms: int) -> tuple[_core.CleanBatch, _core.Batch]:
        batch, overflowed = self._add_amounts(batch)
        clean, rejects, counts = self._cleaner.clean(batch, now_ms, overflowed)
        self.counts.update(counts)
        return clean, rejects

    def _add_amounts(self, batch: _core.Batch) -> tuple[_core.Batch, list[int]]:
        amount = self._amount
        if amount is None:
            return batch, []
        names = amount.quantity, amount.unit_price, amount.discount
        return _core.add_amounts(batch, *names, self._amounts)

    def _run_on(self, launcher: Launcher, batch: Rows, now_ms: int) -> tuple[DeviceClean, _core.Batch]:
        from omnistream.kernels.clean import DeviceCleaner
        from omnistream.kernels.rows import DeviceClean, DeviceRows, flags_of

        if self._on_device is None:
            time, watermark = self._time, self.watermark
            given = (self._rules, time.column, watermark, time.max_disorder_ms)
            remembered = (self._duplicates["key"], self._cleaner) if self._duplicates else ()
            self._on_device = DeviceCleaner(launcher, *given, *remembered)
        device, amount = self._on_device, self._amount
        flags: Any = None
        if isinstance(batch, _core.Batch):
            batch, overflowed = self._add_amounts(_core.encode_columns(batch, self._dictionaries))
            flags = flags_of(launcher, overflowed, batch.rows)
            batch = DeviceRows.upload(launcher, batch, self._types, self._dictionaries)
        elif amount is not None:
            flags = device.add_amounts(batch, amount.quantity, amount.unit_price, amount.discount)
        place = batch.origin.source, batch.origin.partition
        cleaned = device.clean(batch.columns, batch.rows, *place, now_ms, flags, batch)
        survived, repeated = int(cleaned.rows.size), device.count_duplicates(cleaned)
        rejected = batch.rows - survived - repeated
        self.counts.update(rows=batch.rows, rejected=rejected, duplicates=repeated)
        survivors = None if survived == batch.rows else cleaned.rows
        rows = DeviceClean(batch, survivors, cleaned.watermarks_ms, cleaned.owner)
        return rows, device.rejects(batch, cleaned)

    @property
    def state_bytes(self) -> int:
        """Memory of the remembered event ids."""
        return self._cleaner.memory_bytes

    def explain(self) -> str:
        """One line: what runs here."""
        rules = f"{len(self._rules)} rules" if len(self._rules) != 1 else "1 rule"
        if self._duplicates is None:
            return f"{rules}, duplicates kept"
        return f"{rules}, duplicates by {', '.join(self._duplicates['key'])} dropped"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, _core.Batch]:
        """Return the remembered event ids, if any are; of all partitions or of one."""
        remembered = self._cleaner.snapshot(owner)
        return {} if remembered is None else {"duplicates": remembered}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        if "duplicates" in parts:
            self._cleaner.restore(parts["duplicates"])

    def drop(self, owner: int) -> None:
        """Forget what one partition brought."""
        self._cleaner.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """Remember what `from_owner` brought in another pipeline, whose watermark is ours by now."""
        if "duplicates" in parts:
            self._cleaner.take(parts["duplicates"], from_owner, to, self.watermark.value_ms)
