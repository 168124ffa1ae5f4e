"""Runs of a pipeline, however its input is cut, and what of them must be the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from omnistream.checkpoint import Snapshot
from omnistream.job import JobSpec
from omnistream.pipeline import Outputs, Pipeline
from omnistream.spec import REJECTS
from tests.strategies import HOUR_MS, START_MS

NOW_MS = START_MS + 3 * 24 * HOUR_MS


def cut(items: Sequence[Any], places: Iterable[int]) -> list[Sequence[Any]]:
    at = sorted(min(place, len(items)) for place in places)
    return [items[begin:end] for begin, end in zip([0, *at], [*at, len(items)], strict=True)]


PLACES = st.lists(st.integers(0, 30), max_size=6)

# Lines of a file are numbered from 1, and messages from 0.
FORMS: dict[str, Callable[[Sequence[bytes]], Any]] = {
    "list": list,
    "binary": lambda part: pa.array(part, pa.binary()),
    "large": lambda part: pa.array([b"[", *part], pa.large_binary()).slice(1),
    "chunked": lambda part: pa.chunked_array([part[:2], part[2:]], pa.binary()),
    "column": lambda part: pa.table({"value": pa.array(part, pa.binary())}),
    "lines": lambda part: b"".join(message + b"\n" for message in part),
    "lines of DOS": lambda part: bytearray(b"".join(message + b"\r\n" for message in part)),
    "lines, the last one open": lambda part: memoryview(b"\n".join(part)),
}


@dataclass
class Run:
    """What a run gave: all batches by output, rejects in the order of the messages, and its metrics."""

    outputs: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    numbered_from: int = 0
    before_the_end: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def add(self, outputs: Outputs) -> None:
        for name, batches in outputs.items():
            for batch in batches:
                batch.validate(full=True)
                assert batch.num_rows > 0
            self.outputs.setdefault(name, []).extend(batches)

    def rows(self, output: str) -> list[dict[str, Any]]:
        return [row for batch in self.outputs.get(output, []) for row in batch.to_pylist()]

    def rejects(self) -> list[dict[str, Any]]:
        rejects = self.rows(REJECTS)
        return in_order([each | {"position": each["position"] - self.numbered_from} for each in rejects])

    def ipc_bytes(self, schemas: dict[str, pa.Schema]) -> dict[str, bytes]:
        """The concatenation of each output as an Arrow IPC stream; rejects are compared by themselves."""
        return {
            name: ipc_bytes(pa.Table.from_batches(self.outputs.get(name, []), schema))
            for name, schema in schemas.items()
            if name != REJECTS
        }


def in_order(rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By place: within one push the rejects of decode come before those of clean and of window."""
    return sorted(
        rejects,
        key=lambda each: (each["source"], each["partition"], each["position"], each["line"] or 0, str(each)),
    )


def ipc_bytes(table: pa.Table) -> bytes:
    """With strings for codes: how far a dictionary has grown depends on when a batch was made."""
    plain = pa.schema(
        [
            pa.field(each.name, each.type.value_type) if pa.types.is_dictionary(each.type) else each
            for each in table.schema
        ]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain) as writer:
        writer.write_table(table.cast(plain).combine_chunks())
    return sink.getvalue().to_pybytes()


def meaning(pipeline: Pipeline) -> dict[str, Any]:
    """The metrics that must not depend on batches, nor on the device."""
    metrics = pipeline.metrics()
    assert metrics.balanced
    plain = metrics.to_dict()
    del plain["speculated"], plain["left_to_cpu"], plain["state_bytes"]
    for sizes in plain["windows"].values():
        del sizes["bytes"]
    return plain


def new_pipeline(job: JobSpec) -> Pipeline:
    return Pipeline(job, clock=lambda: NOW_MS)


def run(
    job: JobSpec,
    parts: Iterable[Any],
    between: Callable[[Pipeline, int], Pipeline] = lambda pipeline, _: pipeline,
    first: Callable[[JobSpec], Pipeline] = new_pipeline,
) -> Run:
    """Push all parts and flush; `between` may replace the pipeline before each push."""
    pipeline, result = first(job), Run()
    for number, part in enumerate(parts):
        pipeline = between(pipeline, number)
        result.add(pipeline.push(part))
    result.before_the_end = meaning(pipeline)
    result.add(pipeline.flush())
    result.metrics = meaning(pipeline)
    emitted = {name: sum(batch.num_rows for batch in each) for name, each in result.outputs.items()}
    assert result.metrics["emitted"] == emitted
    return result


def assert_same(got: Run, expected: Run, job: JobSpec) -> None:
    schemas = new_pipeline(job).schemas()
    assert got.ipc_bytes(schemas) == expected.ipc_bytes(schemas)
    assert got.rejects() == expected.rejects()
    assert got.before_the_end == expected.before_the_end
    assert got.metrics == expected.metrics


Restore = Callable[[Snapshot | Path], Pipeline]


def check_restored(
    job: JobSpec, stream: list[bytes], folder: Path, data: st.DataObject, homes: list[Restore]
) -> None:
    """Restore, at any place, in any of the homes."""
    parts = cut(stream, data.draw(PLACES))
    ways = data.draw(st.lists(st.sampled_from(["stay", "memory", "disk"]), min_size=len(parts)))

    def between(pipeline: Pipeline, number: int) -> Pipeline:
        if ways[number] == "stay":
            return pipeline
        home = data.draw(st.sampled_from(homes))
        snapshot = pipeline.snapshot({"topic": number})
        assert snapshot.manifest["positions"] == {"topic": number}
        packed = snapshot.to_bytes()
        if ways[number] == "memory":
            restored = home(Snapshot.from_bytes(packed))
        else:
            snapshot.save(folder)
            restored = home(folder)
        assert meaning(restored) == meaning(pipeline)
        return restored

    assert_same(run(job, map(list, parts), between), run(job, map(list, parts)), job)
