"""Checkpoints that are written while the job goes on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.checkpoint import Snapshot, latest
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.saves import Saves
from omnistream.sink.files import FileSink, json_writer
from omnistream.sink.parquet import ROW_GROUP_ROWS, ParquetSink
from omnistream.spec import CheckpointSpec, StateSpec

MEASURES = ["count", "units_net", "distinct(customer_id)", "top(size, 2)", "approx_distinct(order_id)"]
JOB = parse_job(
    {
        "schema": {"use": "order_flat"},
        "clean": {"duplicates": {"within": "1h"}},
        "window": [
            {
                "name": "hours",
                "size": "1h",
                "keys": ["sku"],
                "measures": MEASURES,
                "emit": "early",
                "every": "5m",
            },
            {
                "name": "rolling",
                "kind": "hopping",
                "size": "2h",
                "hop": "1h",
                "keys": ["sku"],
                "measures": MEASURES,
            },
            {"name": "visits", "kind": "session", "gap": "30m", "keys": ["order_id"], "measures": MEASURES},
            {"name": "ever", "kind": "global", "keys": ["order_id"], "measures": ["count"]},
        ],
    }
)
ROWS = pa.schema([("n", pa.int64())])


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    generator = _core.Generator(
        seed=4, events=12_000, span_ms=86_400_000, dirt=0.01, duplicates=0.02, styles=8, stores=3
    )
    found = []
    while block := generator.next(1 << 16):
        found.append(block)
    return found


@pytest.mark.parametrize("shards", [1, 3])
def test_a_snapshot_is_of_its_moment_whenever_and_wherever_it_is_written(
    blocks: list[bytes], shards: int
) -> None:
    job = replace(JOB, state=StateSpec(shards=shards))
    undisturbed, pipeline = Pipeline(job), Pipeline(job)
    with ThreadPoolExecutor(2) as threads:
        waiting: list[tuple[bytes, Any]] = []
        late: list[tuple[bytes, Snapshot]] = []
        for number, block in enumerate(blocks):
            undisturbed.push(block)
            expected = undisturbed.snapshot().to_bytes()
            pipeline.push(block)
            snapshot = pipeline.snapshot()
            if number % 3:
                waiting.append((expected, threads.submit(snapshot.to_bytes)))
            else:
                late.append((expected, snapshot))
    for expected, packed in waiting:
        assert packed.result() == expected
    for expected, snapshot in late:
        assert snapshot.to_bytes() == expected == snapshot.to_bytes()
    assert pipeline.snapshot().to_bytes() == undisturbed.snapshot().to_bytes()


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_what_is_written_during_a_save_waits_for_the_next(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    sink: FileSink | ParquetSink
    if kind == "ndjson":
        sink = FileSink(str(out / "rows.ndjson"), ROWS, "error", json_writer)
    else:
        sink = ParquetSink(str(out), ROWS, "error", rotate_rows=1)

    def visible() -> list[str]:
        return sorted(file.name for file in out.iterdir() if not file.name.startswith("."))

    sink.hold()
    sink.write(rows(1))
    prepared = sink.prepare()
    sink.write(rows(ROW_GROUP_ROWS))  # a whole file of the Parquet sink
    prepared.sync()
    assert visible() == []
    sink.commit()
    assert (
        visible()
        == [Path(path).name for path in prepared.appearing]
        == [Path(path).name for path in sink.paths]
    )
    assert len(prepared.appearing) == 1
    assert sink.prepare().appearing
    assert len(visible()) == 1
    sink.close()
    assert len(visible()) == 2


def rows(count: int) -> pa.RecordBatch:
    return pa.record_batch([pa.array(range(count), pa.int64())], schema=ROWS)


def test_one_save_at_a_time_and_its_failure_is_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    going, saved = threading.Event(), []
    whole = Snapshot.save

    def slow(self: Snapshot, path: str | Path) -> Path:
        assert going.wait(60)
        saved.append(self.manifest["positions"])
        return whole(self, path)

    monkeypatch.setattr(Snapshot, "save", slow)
    pipeline = Pipeline(JOB)
    saves = Saves(CheckpointSpec(str(tmp_path / "state"), interval_ms=0), [])
    saves.step(pipeline, {}, None)
    saves.step(pipeline, {}, ("a", 0))  # due, and waits
    assert latest(tmp_path / "state") is None
    going.set()
    saves.finish()
    assert len(saved) == 1
    saves.take(pipeline, {}, ("a", 0))
    saves.close()
    found = latest(tmp_path / "state")
    assert found is not None
    assert Snapshot.load(found).manifest["reading"] == ["a", 0]

    (tmp_path / "file").touch()
    broken = Saves(CheckpointSpec(str(tmp_path / "file"), interval_ms=0), [])
    broken.take(pipeline, {}, None)
    with pytest.raises(StateError, match="file"):
        broken.finish()
    broken.take(pipeline, {}, None)
    broken.close()  # the job has failed of something else: this is said in the log
