"""Any number of threads gives the same bytes: outputs with their codes, rejects, and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from omnistream.errors import JobError
from omnistream.generate import generate
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.run import run_job

JOB = {
    "schema": {"use": "order_flat"},
    "time": {"max_disorder": "1m"},
    "clean": {
        "rule": [{"check": "price_below_cost"}, {"check": "allowed", "column": "event_type"}],
        "duplicates": {"within": "10m"},
    },
    "window": [
        {"name": "minutes", "size": "1m", "keys": ["sku", "channel"], "measures": ["count", "net_amount"]},
        {"name": "hours", "size": "1h", "keys": ["store_id"], "measures": ["orders", "std(unit_price)"]},
    ],
}


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("threads") / "orders.ndjson"
    generate(path, events=20_000, seed=5, dirt=0.01, duplicates=0.01, styles=300, span_ms=3_600_000)
    return path


@dataclass(frozen=True)
class Block:
    data: bytes
    first_position: int
    source: str = "orders"
    partition: int = 0


def blocks(path: Path, lines: int) -> list[Block]:
    whole = path.read_bytes().splitlines(keepends=True)
    return [Block(b"".join(whole[at : at + lines]), at + 1) for at in range(0, len(whole), lines)]


def outputs_of(pipeline: Pipeline, path: Path, lines: int) -> dict[str, bytes]:
    batches: Outputs = {}
    pushed = []
    for block, data in pipeline.decode_ahead(blocks(path, lines)):
        outputs = pipeline.push(data, source=block.source, first_position=block.first_position)
        pushed.append(block.first_position)
        for name, each in outputs.items():
            batches.setdefault(name, []).extend(each)
    assert pushed == sorted(pushed)
    for name, each in pipeline.flush().items():
        batches.setdefault(name, []).extend(each)
    return {name: ipc_bytes(each) for name, each in batches.items()}


def ipc_bytes(batches: list[pa.RecordBatch]) -> bytes:
    """Codes and dictionaries included."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize("lines", [97, 3000])
def test_outputs_are_the_same_bytes(orders: Path, rows: bool, lines: int) -> None:
    sinks = [{"output": "rows", "type": "stdout"}] if rows else []
    job = parse_job(JOB | {"sink": sinks})
    pipelines = [Pipeline(job, threads=threads) for threads in (1, 2, 5)]
    outputs = [outputs_of(pipeline, orders, lines) for pipeline in pipelines]
    assert {"minutes", "hours", "rejects"} <= set(outputs[0])
    assert outputs[1] == outputs[0]
    assert outputs[2] == outputs[0]
    ledgers = [replace(pipeline.metrics(), speculated=0, state_bytes=0, windows={}) for pipeline in pipelines]
    assert ledgers[0].balanced
    assert ledgers[1] == ledgers[0]
    assert ledgers[2] == ledgers[0]


def test_a_job_with_threads_writes_the_same_files(orders: Path, tmp_path: Path) -> None:
    written = []
    for threads in (1, 3):
        folder = tmp_path / str(threads)
        sinks = [
            {"output": name, "type": "arrow", "path": str(folder / f"{name}.arrow")}
            for name in ("minutes", "hours")
        ]
        source = {"path": str(orders), "batch_bytes": "64 KiB"}
        letters = {"type": "ndjson", "path": str(folder / "rejects.ndjson")}
        document = JOB | {
            "job": {"threads": threads},
            "source": source,
            "sink": sinks,
            "dead_letter": letters,
        }
        result = run_job(parse_job(document))
        assert result.metrics.messages == 20_000
        written.append({path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()})
    assert len(written[0]) == 3
    assert written[0] == written[1]


def test_what_cannot_be_decoded_is_said_where_it_is_pushed(orders: Path) -> None:
    pipeline = Pipeline(parse_job(JOB), threads=2)
    for block, data in pipeline.decode_ahead([Block(b'{"event_id":', 1), *blocks(orders, 1000)[:2]]):
        outputs = pipeline.push(data, source=block.source, first_position=block.first_position)
        if block.data == b'{"event_id":':
            assert outputs["rejects"][0].column("reason").to_pylist() == ["truncated_json"]
    assert pipeline.metrics().messages == 2001


def test_the_number_of_threads_has_bounds() -> None:
    with pytest.raises(JobError, match="threads"):
        parse_job(JOB | {"job": {"threads": 0}})
