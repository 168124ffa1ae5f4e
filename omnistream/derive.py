"""derive: demand statistics and safety stock, feature vectors, or a user's measures, from closed windows.

Mean and standard deviation of daily demand over a rolling horizon, and safety stock ``z * sigma * sqrt(L)``
(Silver, Pyke & Peterson, *Inventory Management and Production Planning and Scheduling*, 3rd ed., ch. 7).
The meaning is in ``tests/reference/derive.py``; the C++ engine is ``cpp/src/demand.cpp``. Features come from
`omnistream.vectors`, measures of the user's from `omnistream.own_measures`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from omnistream import _core
from omnistream.spec import FeaturesSpec, JobSpec, MeasuresSpec

if TYPE_CHECKING:
    from omnistream.own_measures import OwnMeasures
    from omnistream.vectors import Vectors

Derived: TypeAlias = _core.Batch | pa.RecordBatch


def refusal(job: JobSpec, device: str) -> str | None:
    """Return why nothing that a job derives is computed on a device, or None: features are, by Numba."""
    if not any(isinstance(spec, (FeaturesSpec, MeasuresSpec)) for spec in job.derives):
        return "statistics of demand are exact 128-bit moments" if job.derives else "there is none"
    if job.device != "cuda":
        return "histories do not move: with auto they are the CPU's"
    if device != "cuda":
        return "Numba's kernels have no launcher on the CPU"
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'omnistream[gpu]'"
    return None


class Derive:
    """The derived outputs of a job, each fed by one window."""

    def __init__(self, job: JobSpec, device: str = "cpu") -> None:
        columns = job.columns
        self._specs = job.derives
        self._stages: dict[str, _core.Demand | Vectors | OwnMeasures] = {}
        for spec in job.derives:
            if isinstance(spec, FeaturesSpec):
                # Numba takes a while to import; only who wants features waits for it.
                from omnistream.vectors import Vectors

                self._stages[spec.name] = Vectors(spec, job, device)
            elif isinstance(spec, MeasuresSpec):
                from omnistream.own_measures import OwnMeasures

                self._stages[spec.name] = OwnMeasures(spec, job, device)
            else:
                self._stages[spec.name] = _core.Demand(spec.to_core(job.window(spec.window), columns))

    def run(self, closed: Mapping[str, Sequence[_core.Batch]]) -> dict[str, list[Derived]]:
        """Return for each day that has closed the statistics of the keys that had a row on it.

        Vectors are of all keys that are known, and for the day after.
        """
        return {
            spec.name: [self._stages[spec.name].push(day) for day in closed.get(spec.window, ())]
            for spec in self._specs
        }

    def finish(self) -> dict[str, list[Derived]]:
        """Return the statistics, as of the last day, of the keys that had no row on it.

        Together with what `run` returned, the last row of a key is its present state.
        """
        return {name: [stage.without_row()] for name, stage in self._stages.items()}

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the Arrow schema of each output."""
        return {name: pa.record_batch(stage.empty_result()).schema for name, stage in self._stages.items()}

    @property
    def state_bytes(self) -> int:
        """Memory of all demand histories."""
        return sum(stage.memory_bytes for stage in self._stages.values())

    def explain(self) -> str:
        """One line per output."""
        return "; ".join(f"{spec.name}: {spec.explain()}" for spec in self._specs) or "none"

    def snapshot(self, owner: int = _core.ALL_OWNERS) -> dict[str, Derived]:
        """Return the demand histories by output, of all partitions or of one."""
        return {name: stage.snapshot(owner) for name, stage in self._stages.items()}

    def restore(self, parts: dict[str, object]) -> None:
        """Take back what `snapshot` returned."""
        for name, stage in self._stages.items():
            if name in parts:  # else one that the job did not have then
                stage.restore(parts[name])

    def drop(self, owner: int) -> None:
        """Forget the keys of one partition."""
        for stage in self._stages.values():
            stage.drop(owner)

    def take(self, parts: dict[str, object], from_owner: int, to: int) -> None:
        """Add the keys that `from_owner` had in another pipeline."""
        for name, stage in self._stages.items():
            if name in parts:
                stage.take(parts[name], from_owner, to)
