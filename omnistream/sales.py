"""When each sale was, for the returns and cancellations that come after it and do not say.

A window with ``correct = "original_sale"`` and no ``original_time`` counts a correction where its sale was.
The first sale of a key is remembered for a while of event time; the meaning is in
``tests/reference/sales.py``, the C++ engine is ``cpp/src/sales.cpp``.
"""

from __future__ import annotations

from omnistream import _core
from omnistream.clean import CleanRows
from omnistream.spec import JobSpec


class Sales:
    """The sales of a job; nothing where no window asks for them."""

    def __init__(self, job: JobSpec) -> None:
        self._spec = job.sales
        self._core = None if job.sales is None else _core.Sales(job.sales.to_core(job.time.column))

    def run(self, clean: CleanRows) -> CleanRows:
        """Return the rows with a column more: of a correction, when its sale was."""
        if self._core is None:
            return clean
        on_host = clean if isinstance(clean, _core.CleanBatch) else clean.to_host()
        return on_host.with_batch(self._core.look_up(on_host))

    @property
    def state_bytes(self) -> int:
        """Memory of the remembered sales."""
        return 0 if self._core is None else self._core.memory_bytes

    def explain(self) -> str:
        """Say what it does, for people; nothing if that is nothing."""
        if self._spec is None:
            return ""
        return f"sales by {', '.join(self._spec.key)} looked up on the CPU"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, _core.Batch]:
        """Return the remembered sales, of all partitions or of one."""
        return {} if self._core is None else {"remembered": self._core.snapshot(owner)}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        if self._core is not None:
            self._core.restore(parts["remembered"])

    def drop(self, owner: int) -> None:
        """Forget what one partition brought."""
        if self._core is not None:
            self._core.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int, watermark_ms: int) -> None:
        """Remember what `from_owner` brought in another pipeline, at the watermark that is ours by now."""
        if self._core is not None:
            self._core.take(parts["remembered"], from_owner, to, watermark_ms)
