"""The whole pipeline: any batching, positions, snapshots, the watermark."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.checkpoint import Snapshot
from omnistream.errors import DeviceError, StateError
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.spec import REJECTS, ROWS
from tests.pipeline_jobs import FLAT, JOBS, ORDERS, PLAIN, as_json, iso, order_job, streams
from tests.pipeline_runs import FORMS, NOW_MS, PLACES, assert_same, check_restored, cut, new_pipeline, run
from tests.strategies import HOUR_MS, START_MS

# ---- any batching ----


@pytest.mark.parametrize("shape", JOBS)
@given(st.data())
def test_results_do_not_depend_on_batches(shape: str, data: st.DataObject) -> None:
    job, stream = JOBS[shape], data.draw(streams(shape))
    whole = run(job, [stream])
    assert_same(run(job, [[message] for message in stream]), whole, job)
    name = data.draw(st.sampled_from(sorted(FORMS)))
    pieces = run(job, map(FORMS[name], cut(stream, data.draw(PLACES))))
    pieces.numbered_from = 1 if name.startswith("lines") else 0
    assert_same(pieces, whole, job)


# ---- positions ----


def test_a_null_is_no_message() -> None:
    pipeline = new_pipeline(FLAT)
    rejects = pipeline.push(pa.array([b"x", None, b"y"]))[REJECTS]
    assert [row["position"] for batch in rejects for row in batch.to_pylist()] == [0, 2]
    assert pipeline.metrics().messages == 2


def test_messages_are_counted_on_by_partition() -> None:
    pipeline = new_pipeline(FLAT)

    def positions(data: Any, **origin: Any) -> list[int]:
        batches = pipeline.push(data, **origin)[REJECTS]
        return [row["position"] for batch in batches for row in batch.to_pylist()]

    assert positions(b"x\n\ny") == [1, 3]
    assert positions(b"x\ny\n") == [4, 5]
    assert positions([b"x", b"y"]) == [6, 7]
    assert positions([b"x"], partition=1) == [0]
    assert positions(pa.array([b"x", b"y"]), partition=1) == [1, 2]
    assert positions([b"x"], first_position=40) == [40]
    assert positions(pa.chunked_array([[b"x"], [b"y"]]), first_position=40) == [40, 41]
    assert positions(b"x") == [8]


# ---- snapshots ----


@pytest.mark.parametrize("shape", JOBS)
@settings(max_examples=20)
@given(data=st.data())
def test_a_restored_pipeline_goes_on_undisturbed(shape: str, tmp_path: Path, data: st.DataObject) -> None:
    job = JOBS[shape]

    def restore(snapshot: Snapshot | Path) -> Pipeline:
        return Pipeline.restore(snapshot, job, lambda: NOW_MS)

    check_restored(job, data.draw(streams(shape)), tmp_path, data, [restore])


def test_another_sink_is_no_other_job() -> None:
    messages = list(map(as_json, ORDERS))
    pipeline = new_pipeline(parse_job(order_job("order_flat")))
    pipeline.push(messages[:200])
    more = parse_job(order_job("order_flat", sink=[{"output": "rows", "type": "stdout"}]))
    restored = Pipeline.restore(pipeline.snapshot(), more, lambda: NOW_MS)
    rows = [row for batch in restored.push(messages[200:])[ROWS] for row in batch.to_pylist()]
    assert {row["currency"] for row in rows} == {"CNY"}


def test_there_must_be_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="there is no checkpoint here"):
        Pipeline.restore(tmp_path, JOBS["order"])


# ---- the watermark ----

COUNT = parse_job(
    {
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": "0s"},
        "window": [{"name": "hours", "size": "1h", "measures": ["count"]}],
    }
)


def sale(minutes: int, quantity: int = 1) -> bytes:
    event = {"event_id": "e", "event_type": "paid", "event_time": iso(minutes), "sku": "A"}
    return json.dumps(event | {"qty": quantity, "unit_price": 1}).encode()


def counts(outputs: Outputs) -> list[int]:
    return [row["count"] for batch in outputs.get("hours", []) for row in batch.to_pylist()]


def test_the_slowest_partition_holds_windows_open() -> None:
    pipeline = Pipeline(COUNT)
    assert pipeline.metrics().watermark_ms is None
    assert counts(pipeline.push([sale(10)], partition=0)) == []
    assert counts(pipeline.push([sale(20), sale(30)], partition=1)) == []
    assert counts(pipeline.push([sale(70)], partition=0)) == []
    assert counts(pipeline.push([sale(40), sale(61)], partition=1)) == [4]
    assert counts(pipeline.push([sale(200)], partition=0)) == []
    assert counts(pipeline.mark_idle("push", partition=1)) == [2]
    assert counts(pipeline.mark_idle("push", partition=1)) == []
    assert counts(pipeline.push([sale(100)], partition=1)) == []  # late, and back in the round
    assert counts(pipeline.push([sale(400)], partition=0)) == []
    assert pipeline.metrics().late == 1
    assert counts(pipeline.push([sale(390)], source="other")) == []
    assert counts(pipeline.push([sale(380)], partition=1)) == [1]
    metrics = pipeline.metrics()
    assert (metrics.windows_open, metrics.aggregated, metrics.rows) == (1, 10, 11)
    assert metrics.balanced


def test_a_partition_that_is_only_waited_for_after_its_first_row() -> None:
    pipeline = Pipeline(COUNT)
    pipeline.mark_idle("push", partition=7)
    pipeline.push([sale(10)])
    assert counts(pipeline.push([sale(60)])) == [1]


def test_the_caller_may_move_the_watermark() -> None:
    pipeline = Pipeline(COUNT)
    start_ms = START_MS + 7 * HOUR_MS
    pipeline.push([sale(10)])
    assert counts(pipeline.advance(start_ms + HOUR_MS - 1)) == []
    assert counts(pipeline.advance(start_ms + HOUR_MS)) == [1]
    assert counts(pipeline.advance(start_ms)) == []
    assert pipeline.metrics().watermark_ms == start_ms + HOUR_MS
    late = pipeline.push([sale(59), sale(60)])[REJECTS][0].to_pylist()
    assert [(each["reason"], each["field"], each["position"]) for each in late] == [("late", "hours", 1)]


def test_flush_ends_the_input() -> None:
    pipeline = Pipeline(COUNT)
    pipeline.push([sale(10), sale(70), sale(80)])
    assert counts(pipeline.flush()) == [2]
    assert pipeline.flush() == {}
    assert set(pipeline.push([sale(10_000)])) == {REJECTS}
    metrics = pipeline.metrics()
    assert (metrics.late, metrics.windows_open, metrics.groups) == (1, 0, 0)
    assert metrics.balanced


def test_flush_says_once_how_keys_stand() -> None:
    pipeline = Pipeline(parse_job(order_job("order_flat", time={"max_disorder": "0s"})))
    pipeline.push([sale(0).replace(b'"A"', b'"B"'), sale(1440).replace(b'"e"', b'"f"')])
    last = [row for batch in pipeline.flush()["demand"] for row in batch.to_pylist()]
    assert [(row["sku"], row["demand"], row["days"]) for row in last] == [("A", 1, 1), ("B", 0, 2)]
    assert pipeline.flush() == {}


# ---- what it says of itself ----


@pytest.mark.parametrize("shape", JOBS)
def test_schemas_are_those_of_what_is_emitted(shape: str) -> None:
    job = JOBS[shape]
    schemas = new_pipeline(job).schemas()
    stream = streams(shape)
    seen = set()

    @settings(max_examples=10)
    @given(stream)
    def look(messages: list[bytes]) -> None:
        for name, batches in run(job, [messages]).outputs.items():
            seen.add(name)
            for batch in batches:
                assert batch.schema.equals(schemas[name], check_metadata=True), name

    look()
    if not any(sink.output == ROWS for sink in job.sinks) and job.windows:
        assert set(schemas) == seen | {ROWS}
    else:
        assert set(schemas) == seen


def test_explain_names_every_stage() -> None:
    text = Pipeline(JOBS["order"]).explain()
    for stage in ("source", "decode", "clean", "encode", "window", "derive", "sink"):
        assert f"\n  {stage} " in text
    for word in ("device cpu", "lines[]", "4 rules", "event_id", "sales", "quarters", "demand", "channel"):
        assert word in text
    assert "none" in Pipeline(JOBS["rows alone"]).explain()


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(DeviceError, match='device = "auto"'):
        Pipeline(parse_job({"job": {"device": "cuda"}, "schema": {"use": "order"}}))
    assert Pipeline(replace(COUNT, device="cpu")).device.reason == "asked for"


def test_rows_are_all_that_passed_clean() -> None:
    result = run(FLAT, [PLAIN])
    assert len(result.rows(ROWS)) == result.metrics["aggregated"] + result.metrics["late"]
    row = next(row for row in result.rows(ROWS) if row["discount"] == Decimal("0.15"))
    assert row["gross_amount"] == row["quantity"] * row["unit_price"]
    assert abs(row["amount"] - row["gross_amount"] * Decimal("0.85")) <= Decimal("0.00005")


# ---- sums that do not fit ----


def test_a_sum_that_overflows_names_its_window_and_ends_the_pipeline() -> None:
    window = {"name": "hours", "size": "1h", "measures": ["count", "sum(quantity) as units"]}
    job = parse_job({"schema": {"use": "order_flat"}, "clean": {}, "window": [window]})
    pipeline = Pipeline(job)
    most = 10**18
    pipeline.push([sale(1, most // 10**14)])
    good = pipeline.snapshot()
    schema = replace(
        job.schema, fields=tuple(each for each in job.schema.fields if each.name != "unit_price")
    )
    bare = Pipeline(replace(job, schema=schema, amount=None))
    with pytest.raises(StateError, match="window 'hours': measure 'units' overflows"):
        bare.push([sale(1, most)] * 10)
    for use in (bare.flush, bare.snapshot, lambda: bare.push([sale(1)]), lambda: bare.advance(0)):
        with pytest.raises(StateError, match="window 'hours'"):
            use()
    assert counts(Pipeline.restore(good, job).flush()) == [1]
