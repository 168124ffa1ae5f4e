"""The runner: checkpoints, stops, and several files."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnistream import _core
from omnistream.errors import JobError, MemoryLimitError, SourceError, StateError
from omnistream.job import JobSpec, load_job, parse_job
from omnistream.measures import OPERATIONS
from omnistream.pipeline import Pipeline
from omnistream.run import Progress, Stop, run_job
from omnistream.spec import StateSpec
from tests.shop_job import SHOP

JOB = f"""
[source]
path = ["a.ndjson", "b.ndjson.gz"]
batch_bytes = "64 KiB"
{SHOP}
[[sink]]
output = "sales"
path = "out/sales"
[[sink]]
output = "demand"
type = "ndjson"
path = "out/demand.ndjson"
[dead_letter]
path = "out/rejects.ndjson"
[checkpoint]
path = "state"
interval = "1ms"
"""


@pytest.fixture(scope="module")
def orders() -> tuple[bytes, bytes]:
    """Three days of orders in two halves, dirt and duplicates included."""
    generator = _core.Generator(
        seed=5, events=4_000, span_ms=3 * 86_400_000, dirt=0.01, duplicates=0.01, styles=20, stores=3
    )
    lines = []
    while block := generator.next(1 << 20):
        lines += block.splitlines(keepends=True)
    half = len(lines) // 2
    return b"".join(lines[:half]), b"".join(lines[half:])


def shop(folder: Path, orders: tuple[bytes, bytes]) -> JobSpec:
    folder.mkdir()
    (folder / "job.toml").write_text(JOB)
    (folder / "a.ndjson").write_bytes(orders[0])
    (folder / "b.ndjson.gz").write_bytes(gzip.compress(orders[1]))
    return load_job(folder / "job.toml")


def written(folder: Path) -> dict[str, list[Any]]:
    """Everything a run wrote, whatever the number of files; sources by name, since the folder differs."""
    text = [path.read_text() for path in sorted((folder / "out").glob("*.ndjson"))]
    letters = [json.loads(line) for part in text for line in part.splitlines()]
    for letter in letters:
        if "source" in letter:
            letter["source"] = Path(letter["source"]).name
    sales = pq.read_table(folder / "out" / "sales").to_pylist()
    return {"lines": sorted(map(json.dumps, letters)), "sales": sorted(map(str, sales))}


def test_a_run_that_breaks_goes_on_from_its_checkpoint(tmp_path: Path, orders: tuple[bytes, bytes]) -> None:
    whole = run_job(shop(tmp_path / "whole", orders))
    job = shop(tmp_path / "broken", orders)
    packed = tmp_path / "broken" / "b.ndjson.gz"
    packed.write_bytes(b"not gzip")
    with pytest.raises(SourceError, match=r"b\.ndjson\.gz"):
        run_job(job)
    assert list((tmp_path / "broken" / "state").iterdir())
    packed.write_bytes(gzip.compress(orders[1]))
    resumed = run_job(job)
    assert resumed.metrics.balanced
    assert resumed.metrics.messages == whole.metrics.messages
    assert resumed.metrics.rejects == whole.metrics.rejects
    assert resumed.progress.messages_before > 0
    assert written(tmp_path / "broken") == written(tmp_path / "whole")
    assert list((tmp_path / "broken" / "state").iterdir()) == [], "a run that came to its end leaves none"


def test_a_run_that_is_stopped_goes_on_from_its_checkpoint(
    tmp_path: Path, orders: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omnistream.run_files.PROGRESS_INTERVAL_S", 0.0)
    run_job(shop(tmp_path / "whole", orders))
    job = shop(tmp_path / "stopped", orders)
    stops = 0
    while True:
        stop = Stop()
        seen: list[Progress] = []

        def ask_at_the_second_batch(
            progress: Progress, stop: Stop = stop, seen: list[Progress] = seen
        ) -> None:
            seen.append(progress)
            if len(seen) == 2:
                stop.request()

        result = run_job(job, ask_at_the_second_batch, stop)
        if not result.stopped_by:
            break
        assert result.stopped_by == "SIGTERM"
        stops += 1
    assert stops >= 3
    assert result.metrics.balanced
    assert written(tmp_path / "stopped") == written(tmp_path / "whole")


def test_a_run_ends_at_its_memory_limit_and_goes_on_with_a_higher_one(
    tmp_path: Path, orders: tuple[bytes, bytes]
) -> None:
    run_job(shop(tmp_path / "whole", orders))
    job = shop(tmp_path / "small", orders)
    limit_bytes, said = 1 << 17, []
    while len(said) < 100:
        try:
            result = run_job(replace(job, state=StateSpec(limit_bytes)))
            break
        except MemoryLimitError as error:
            said.append(str(error))
            limit_bytes += limit_bytes // 2
        assert list((tmp_path / "small" / "state").iterdir()), "its state is kept"
    assert len(said) >= 2
    assert re.search(r"more than state.memory_limit .*: windows \d.* groups in \d+ open windows", said[-1])
    assert result.metrics.balanced
    assert written(tmp_path / "small") == written(tmp_path / "whole")


def test_nothing_of_a_refused_push_was_taken(orders: tuple[bytes, bytes]) -> None:
    window = {"name": "w", "size": "1d", "keys": ["sku"], "measures": ["count"]}
    tables = {"schema": {"use": "order_flat"}, "window": [window]}
    job = parse_job(tables)
    fresh_bytes = Pipeline(job).metrics().state_bytes
    pipeline = Pipeline(replace(job, state=StateSpec(fresh_bytes)))
    first = pipeline.push(orders[0])
    with pytest.raises(MemoryLimitError, match="Raise the limit"):
        pipeline.push(orders[1])
    assert pipeline.metrics().balanced
    resumed = Pipeline.restore(pipeline.snapshot(), job)
    whole = Pipeline(job)
    assert whole.push(orders[0]) == first
    assert resumed.push(orders[1]) == whole.push(orders[1])
    assert resumed.flush() == whole.flush()
    assert resumed.metrics().messages == whole.metrics().messages


def test_a_checkpoint_of_another_job_is_refused(tmp_path: Path, orders: tuple[bytes, bytes]) -> None:
    job = shop(tmp_path / "shop", orders)
    stop = Stop()
    stop.request()
    assert run_job(job, stop=stop).metrics.messages == 0
    with pytest.raises(StateError, match='window "daily": the job has none'):
        run_job(replace(job, windows=job.windows[:1], derives=(), sinks=job.sinks[:1]))


def test_files_are_one_stream_in_their_order(tmp_path: Path) -> None:
    def order(number: int, hour: int) -> str:
        event = {"event_id": str(number), "event_type": "paid", "sku": "A", "qty": 1, "unit_price": 1}
        return json.dumps({**event, "event_time": f"2026-11-11T{hour:02}:00:00Z"}) + "\n"

    (tmp_path / "1.ndjson").write_text(order(1, 8) + order(2, 12))
    (tmp_path / "2.ndjson").write_text(order(3, 9) + order(4, 15))
    window = {"name": "sales", "size": "1h", "measures": ["count"]}
    job = parse_job(
        {"schema": {"use": "order_flat"}, "source": {"path": "*.ndjson"}, "window": [window]},
        base_dir=tmp_path,
    )
    metrics = run_job(job).metrics
    assert (metrics.rows, metrics.aggregated, metrics.late) == (4, 3, 1)
    assert metrics.balanced


def test_a_file_that_was_read_to_its_end_holds_nothing_back_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped just between two files: the first one's watermark must not stand still in the second."""

    def order(number: int, hour: int) -> str:
        event = {"event_id": str(number), "event_type": "paid", "sku": "A", "qty": 1, "unit_price": 1}
        return json.dumps({**event, "event_time": f"2026-11-11T{hour:02}:00:00Z"}) + "\n"

    (tmp_path / "1.ndjson").write_text(order(1, 8) + order(2, 12))
    (tmp_path / "2.ndjson").write_text(order(3, 15) + order(4, 13))
    job = parse_job(
        {
            "schema": {"use": "order_flat"},
            "source": {"path": "*.ndjson"},
            "window": [{"name": "sales", "size": "1h", "measures": ["count"]}],
            "checkpoint": {"path": "state"},
        },
        base_dir=tmp_path,
    )
    monkeypatch.setattr("omnistream.run_files.PROGRESS_INTERVAL_S", 0.0)
    stop = Stop()
    stopped = run_job(job, lambda progress: stop.signal or stop.request(), stop)
    assert (stopped.metrics.messages, stopped.stopped_by) == (2, "SIGTERM")
    metrics = run_job(job).metrics
    assert (metrics.rows, metrics.aggregated, metrics.late) == (4, 3, 1)


def test_a_job_without_a_source_cannot_run() -> None:
    with pytest.raises(JobError, match="source: is missing"):
        run_job(parse_job({"schema": {"use": "order_flat"}}))


def test_a_second_request_interrupts() -> None:
    stop = Stop()
    stop.request()
    with pytest.raises(KeyboardInterrupt):
        stop.request()


def test_the_core_takes_every_measure_and_key_that_a_job_may_have() -> None:
    types = ("string", "dictionary", "int32", "int64", "decimal", "float64", "bool", "timestamp")
    fields = [{"name": f"a_{kind}", "type": kind, "required": kind == "timestamp"} for kind in types]
    document: dict[str, Any] = {"schema": {"field": fields}, "time": {"column": "a_timestamp"}}
    accepted = []
    for op in OPERATIONS:
        for kind in types:
            window = {"name": "w", "size": "1h", "measures": [f"{op}(a_{kind}) where a_dictionary = 'x'"]}
            try:
                job = parse_job({**document, "window": [window]})
            except JobError:
                continue
            schema = Pipeline(job).schemas()["w"]
            accepted.append((op, kind))
            names = {pa.int64(): "int64", pa.float64(): "float64", pa.decimal128(19, 4): "decimal"}
            for name, expected in job.windows[0].output_columns(job.columns).items():
                assert names.get(schema.field(name).type, expected) == expected
    assert len(accepted) == 3 * 8 + 5 * 3 + 2 * 5 + 3 * 7
    keys = [f"a_{kind}" for kind in types if kind not in ("decimal", "float64")]
    window = {"name": "w", "size": "1h", "keys": keys, "measures": ["count"]}
    assert Pipeline(parse_job({**document, "window": [window]})).schemas()["w"].names[2:-1] == keys
