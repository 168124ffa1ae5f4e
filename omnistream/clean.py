"""clean: rules as data, duplicates within a time bound, and the watermark that each row meets.

The meaning is in ``tests/reference/clean.py``; the C++ engine is ``cpp/src/clean.cpp`` and what it names.
"""

from __future__ import annotations

from collections import Counter

from omnistream import _core
from omnistream.spec import JobSpec


class Clean:
    """Rows that break a rule or repeat an event become rejects; the others meet and move the watermark."""

    def __init__(self, job: JobSpec) -> None:
        self.counts: Counter[str] = Counter()
        self.watermark = _core.Watermark(job.time.max_disorder_ms)
        self._amount = job.amount
        self._rules = [rule.to_core() for rule in job.rules]
        self._duplicates = None if job.duplicates is None else job.duplicates.to_core()
        self._cleaner = _core.Cleaner(self._rules, job.time.column, self.watermark, self._duplicates)

    def run(self, batch: _core.Batch, now_ms: int) -> tuple[_core.CleanBatch, _core.Batch]:
        """Return the surviving rows, with their amounts, and the rejects."""
        overflowed: list[int] = []
        if self._amount is not None:
            amount = self._amount
            batch, overflowed = _core.add_amounts(batch, amount.quantity, amount.unit_price, amount.discount)
        clean, rejects, counts = self._cleaner.clean(batch, now_ms, overflowed)
        self.counts.update(counts)
        return clean, rejects

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
