"""Whole pipelines on a device: outputs, rejects, ledger and snapshots are the CPU's, whatever runs where.

The kernels run in the host launcher, threads forwards and backwards; on a GPU where gpu-check says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream import _core
from omnistream.checkpoint import Snapshot
from omnistream.job import JobSpec, parse_job
from omnistream.pipeline import Pipeline
from omnistream.spec import REJECTS
from tests.engines import driver_launchers
from tests.pipeline_jobs import GOOD, JOBS, iso, order_job, streams
from tests.pipeline_runs import (
    FORMS,
    NOW_MS,
    PLACES,
    Run,
    assert_same,
    check_restored,
    cut,
    in_order,
    meaning,
    new_pipeline,
    run,
)

LAUNCHERS = st.sampled_from(driver_launchers())
ALONE = replace(JOBS["parcels"], schema=replace(JOBS["parcels"].schema, array_messages=False))
# Of the last no stage is left to the CPU, and nothing of it: no duplicates, no arrays of messages.
SHAPES = JOBS | {
    "parcels, one a message": ALONE,
    "order, all stages": replace(JOBS["order"], duplicates=None),
    "order_flat, all stages": replace(JOBS["order_flat"], duplicates=None),
    "parcels, all stages": replace(ALONE, duplicates=None),
}
# So that make test-sanitize and gpu-check find these tests by the name of the device.
NAMED = [pytest.param(shape, id=f"{driver_launchers()[0].name} {shape}") for shape in SHAPES]
WHOLE = [each for each in NAMED if str(each.values[0]).endswith("all stages")]


def stream_of(shape: str) -> st.SearchStrategy[list[bytes]]:
    return streams(shape.partition(",")[0])


def on_device(job: JobSpec, launcher: Any, device: Any = "cuda") -> Pipeline:
    return Pipeline(replace(job, device=device), clock=lambda: NOW_MS, launcher=launcher)


@pytest.mark.parametrize("shape", NAMED)
@settings(max_examples=8)
@given(data=st.data(), launcher=LAUNCHERS)
def test_results_do_not_depend_on_the_device(shape: str, launcher: Any, data: st.DataObject) -> None:
    job, stream = SHAPES[shape], data.draw(stream_of(shape))
    whole = run(job, [stream])
    name = data.draw(st.sampled_from(sorted(FORMS)))
    parts = map(FORMS[name], cut(stream, data.draw(PLACES)))
    pieces = run(job, parts, first=lambda job: on_device(job, launcher))
    pieces.numbered_from = 1 if name.startswith("lines") else 0
    assert_same(pieces, whole, job)


def test_duplicates_are_looked_up_by_key_and_time_alone() -> None:
    job = JOBS["order"]
    pipeline = on_device(job, driver_launchers()[0])
    assert pipeline.explain().count(" cpu ") == 1  # of derive
    lines = [{"sku": "A", "qty": quantity, "unit_price": 1} for quantity in (0, 1, 2)]
    event = {"event_id": "e", "event_type": "paid", "event_time": iso(1), "lines": lines}
    outputs = pipeline.push([json.dumps(event).encode()] * 2)
    told = [(row["reason"], row["position"], row["line"]) for row in outputs[REJECTS][0].to_pylist()]
    assert told == [
        ("non_positive_quantity", 0, 0),
        ("non_positive_quantity", 1, 0),
        ("duplicate", 1, 1),
        ("duplicate", 1, 2),
    ]
    assert (pipeline.metrics().duplicates, pipeline.metrics().aggregated) == (2, 2)


@pytest.mark.parametrize("shape", WHOLE)
@settings(max_examples=8)
@given(data=st.data(), launcher=LAUNCHERS)
def test_a_snapshot_goes_from_device_to_device(
    shape: str, tmp_path: Path, launcher: Any, data: st.DataObject
) -> None:
    job = SHAPES[shape]

    def on_cpu(snapshot: Snapshot | Path) -> Pipeline:
        return Pipeline.restore(snapshot, job, lambda: NOW_MS)

    def elsewhere(snapshot: Snapshot | Path) -> Pipeline:
        return Pipeline.restore(snapshot, replace(job, device="cuda"), lambda: NOW_MS, launcher)

    check_restored(job, data.draw(stream_of(shape)), tmp_path, data, [on_cpu, elsewhere])


# ---- the same bytes in a snapshot ----


@pytest.mark.parametrize("shape", WHOLE)
@settings(max_examples=8)
@given(data=st.data(), launcher=LAUNCHERS)
def test_a_snapshot_has_the_same_parts(shape: str, launcher: Any, data: st.DataObject) -> None:
    job = SHAPES[shape]
    pipelines = [new_pipeline(job), on_device(job, launcher)]
    for part in cut(data.draw(stream_of(shape)), data.draw(PLACES)):
        for pipeline in pipelines:
            pipeline.push(list(part))
    cpu, device = (pipeline.snapshot() for pipeline in pipelines)
    assert list(device.parts) == list(cpu.parts)
    for name, part in cpu.parts.items():
        # A message without lines has no row, so a device gives its strings no codes.
        if not name.startswith("encode.") or job.schema.explode == "":
            assert device.parts[name].equals(part), name
    for kind in ("next_positions", "watermark"):
        assert device.manifest[kind] == cpu.manifest[kind]


# ---- Arrow rows, blocks of lines sent ahead, partitions ----

SOME = [GOOD["order_flat"].map(lambda event: json.dumps(event, ensure_ascii=False).encode())]


@settings(max_examples=8)
@given(stream=st.lists(SOME[0], min_size=1, max_size=30), launcher=LAUNCHERS)
def test_rows_of_arrow_go_to_the_device(stream: list[bytes], launcher: Any) -> None:
    job = SHAPES["order_flat, all stages"]
    decoder = new_pipeline(replace(job, rules=(), windows=(), derives=(), sinks=()))
    rows = decoder.push(stream).get("rows", [])
    parts = [each.drop_columns(["gross_amount", "amount"]) for each in rows]
    whole = run(job, parts)
    assert_same(run(job, parts, first=lambda job: on_device(job, launcher)), whole, job)


class Block:
    """What a source yields."""

    def __init__(self, data: bytes, first_position: int) -> None:
        self.data, self.source, self.partition, self.first_position = data, "a.ndjson", 0, first_position


@settings(max_examples=8)
@given(stream=streams("order_flat"), places=PLACES, launcher=LAUNCHERS)
def test_blocks_are_sent_ahead(stream: list[bytes], places: list[int], launcher: Any) -> None:
    job = SHAPES["order_flat, all stages"]

    def pushed(pipeline: Pipeline) -> Run:
        blocks, at = [], 1
        for part in cut(stream, places):
            blocks.append(Block(b"".join(message + b"\n" for message in part), at))
            at += len(part)
        result = Run()
        for block, data in pipeline.decode_ahead(blocks):
            place = {"source": block.source, "partition": block.partition}
            result.add(pipeline.push(data, first_position=block.first_position, **place))
        result.before_the_end = meaning(pipeline)
        result.add(pipeline.flush())
        result.metrics = meaning(pipeline)
        return result

    assert_same(pushed(on_device(job, launcher)), pushed(new_pipeline(job)), job)


def sale(minutes: int, partition: int, number: int) -> bytes:
    event = {
        "event_id": f"{partition}/{number}",
        "event_type": "paid",
        "event_time": iso(minutes),
        "channel": "web",
        "sku": f"{partition}/{number % 2}",
        "qty": number % 4,
        "unit_price": 10 + number,
    }
    return json.dumps(event).encode()


STEPS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0, 5, 40, 70, 900]), st.booleans()), max_size=10
)


@settings(max_examples=8)
@given(steps=STEPS, launcher=LAUNCHERS)
def test_partitions_move_between_devices(steps: list[tuple[int, int, bool]], launcher: Any) -> None:
    job = parse_job(order_job("order_flat", clean={"rule": [{"check": "positive_quantity"}]}))

    def moved(pipelines: Sequence[Pipeline]) -> tuple[list[str], list[dict[str, Any]]]:
        for partition in (0, 1):
            pipelines[0].declare_partition("orders", partition)
        home, newest = [0, 0], [0, 0]
        rows: list[str] = []
        rejects: list[dict[str, Any]] = []

        def note(outputs: Any) -> None:
            for name, batches in outputs.items():
                for batch in batches:
                    if name == REJECTS:
                        rejects.extend(batch.to_pylist())
                    else:
                        rows.extend(f"{name} {row}" for row in batch.to_pylist())

        for number, (partition, forward, move) in enumerate(steps):
            newest[partition] += forward
            part = [sale(newest[partition] + late, partition, number + late) for late in (0, -3)]
            note(pipelines[home[partition]].push(part, source="orders", partition=partition))
            if move:
                taken = pipelines[home[partition]].drop_partition("orders", partition)
                home[partition] = 1 - home[partition]
                pipelines[home[partition]].take_partition(taken, "orders", partition)
        for pipeline in pipelines:
            note(pipeline.flush())
        return rows, in_order(rejects)

    cpu = moved([new_pipeline(job), new_pipeline(job)])
    assert moved([on_device(job, launcher), new_pipeline(job)]) == cpu


# ---- auto: windows move to where batches are faster, and take their state along ----


def test_auto_tries_both_and_loses_nothing() -> None:
    job = SHAPES["order_flat, all stages"]
    launcher = driver_launchers()[0]
    blocks = []
    for each in range(8):
        lines = [sale(each, 0, number) for number in range(700 * each, 700 * each + 700)]
        blocks.append(b"".join(line + b"\n" for line in lines))
    pipeline, result = on_device(job, launcher, "auto"), Run()
    assert "  decode  auto " in pipeline.explain()
    seen: list[dict[str, str]] = []
    for block in blocks:
        result.add(pipeline.push(block))
        shown = {line[2:9].strip(): line[10:].split()[0] for line in pipeline.explain().splitlines()[1:]}
        seen.append({stage: shown[stage] for stage in ("decode", "clean", "window")})
    result.before_the_end = meaning(pipeline)
    result.add(pipeline.flush())
    result.metrics = meaning(pipeline)
    assert_same(result, run(job, blocks), job)
    assert [set(each.values()) for each in seen[:6]] == [{"cpu"}] * 3 + [{launcher.name}] * 3
    assert seen[6] == seen[7]
    assert pipeline.explain().count(" ms for a batch of ") == 3
    assert pipeline.push(blocks[0][: blocks[0].index(b"\n") + 1]) is not None  # a small one, for the CPU
    assert "are not worth the trip" in pipeline.explain()
    assert pipeline.clean.watermark.value_ms == _core.Watermark.END
