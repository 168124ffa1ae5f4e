"""derive: demand statistics and safety stock from closed daily windows.

Mean and standard deviation of daily demand over a rolling horizon, and safety stock ``z * sigma * sqrt(L)``
(Silver, Pyke & Peterson, *Inventory Management and Production Planning and Scheduling*, 3rd ed., ch. 7).
The meaning is in ``tests/reference/derive.py``; the C++ engine is ``cpp/src/demand.cpp``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from omnistream import _core
from omnistream.spec import JobSpec


class Derive:
    """The derived outputs of a job, each fed by one window."""

    def __init__(self, job: JobSpec) -> None:
        columns = job.columns
        self._specs = job.derives
        self._demands = {
            spec.name: _core.Demand(spec.to_core(job.window(spec.window), columns)) for spec in job.derives
        }

    def run(self, closed: Mapping[str, Sequence[_core.Batch]]) -> dict[str, list[_core.Batch]]:
        """Return the statistics of the keys that had a row on a day, for each day that has closed."""
        return {
            spec.name: [self._demands[spec.name].push(day) for day in closed.get(spec.window, ())]
            for spec in self._specs
        }

    def finish(self) -> dict[str, list[_core.Batch]]:
        """Return the statistics, as of the last day, of the keys that had no row on it.

        Together with what `run` returned, the last row of a key is its present state.
        """
        return {name: [demand.without_row()] for name, demand in self._demands.items()}

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the Arrow schema of each output."""
        return {name: pa.record_batch(demand.empty_result()).schema for name, demand in self._demands.items()}

    @property
    def state_bytes(self) -> int:
        """Memory of all demand histories."""
        return sum(demand.memory_bytes for demand in self._demands.values())

    def explain(self) -> str:
        """One line per output."""
        lines = [
            f"{spec.name}: demand {spec.demand} of {spec.window} over {spec.horizon_days} days, "
            f"safety stock for {spec.service_level:.1%} over {spec.lead_time_days:g} days"
            for spec in self._specs
        ]
        return "; ".join(lines) or "none"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, _core.Batch]:
        """Return the demand histories by output, of all partitions or of one."""
        return {name: demand.snapshot(owner) for name, demand in self._demands.items()}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        for name, demand in self._demands.items():
            demand.restore(parts[name])

    def drop(self, owner: int) -> None:
        """Forget the keys of one partition."""
        for demand in self._demands.values():
            demand.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """Add the keys that `from_owner` had in another pipeline."""
        for name, demand in self._demands.items():
            demand.take(parts[name], from_owner, to)
