"""What a job may add to its checkpoint, and what is said of everything else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from omnistream.checkpoint import Snapshot
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline

FIELDS: list[dict[str, Any]] = [
    {"name": "at", "type": "timestamp", "format": "iso8601", "required": True},
    {"name": "sku", "type": "dictionary", "required": True},
    {"name": "units", "type": "int64", "required": True},
]
JOB: dict[str, Any] = {
    "job": {"name": "shop"},
    "schema": {"field": FIELDS},
    "time": {"column": "at", "max_disorder": "20m"},
    "clean": {
        "rule": [{"check": "range", "column": "units", "low": 0}],
        "duplicates": {"key": ["sku"], "within": "1h"},
    },
    "window": [
        {"name": "hours", "size": "1h", "keys": ["sku"], "measures": ["sum(units) as units"]},
        {"name": "days", "size": "1d", "keys": ["sku"], "measures": ["sum(units) as units"]},
    ],
    "derive": [{"name": "demand", "from": "days", "demand": "units", "horizon_days": 3}],
}


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    job = copy.deepcopy(JOB)
    change(job)
    return job


def rows(*given: tuple[int, str, int], **more: Any) -> bytes:
    lines = [
        {"at": f"2026-11-11T10:{minute:02}:00Z", "sku": sku, "units": units, **more}
        for minute, sku, units in given
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def results(outputs: Outputs, name: str) -> list[dict[str, Any]]:
    kept = [row for batch in outputs.get(name, ()) for row in batch.to_pylist()]
    return [
        {key: value for key, value in row.items() if key not in ("window_start", "window_end")}
        for row in kept
    ]


@pytest.fixture
def snapshot() -> Snapshot:
    pipeline = Pipeline(parse_job(JOB))
    pipeline.push(rows((0, "a", 3), (1, "b", 5)))
    return Snapshot.from_bytes(pipeline.snapshot().to_bytes())


OTHERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "job shop -> other": lambda job: job["job"].update(name="other"),
    'schema: field "units": type int64 -> int32': lambda job: job["schema"]["field"][2].update(type="int32"),
    'schema: field "sku": required true -> false': lambda job: job["schema"]["field"][1].update(
        required=False
    ),
    'schema: field "store": the checkpoint has none': lambda job: job["schema"]["field"].append(
        {"name": "store", "type": "dictionary", "required": True}
    ),
    "time: max_disorder 20m -> 90s": lambda job: job["time"].update(max_disorder="90s"),
    "duplicates: within 1h -> 1d": lambda job: job["clean"]["duplicates"].update(within="1d"),
    'rule "1"': lambda job: job["clean"]["rule"][0].update(low=1),
    'rule "2": the checkpoint has none': lambda job: job["clean"]["rule"].append(
        {"check": "range", "column": "units", "high": 9}
    ),
    'window "hours": size 1h -> 5m': lambda job: job["window"][0].update(size="5m"),
    'window "hours": allowed_lateness 0s -> 1m': lambda job: job["window"][0].update(allowed_lateness="1m"),
    'window "hours": measure "units": op sum -> max': lambda job: job["window"][0].update(
        measures=["max(units) as units"]
    ),
    'window "hours": the job has none': lambda job: job["window"].pop(0),
    'derive "demand": horizon_days 3 -> 4': lambda job: job["derive"][0].update(horizon_days=4),
}


@pytest.mark.parametrize("said", OTHERS)
def test_another_job_is_refused_and_each_difference_named(snapshot: Snapshot, said: str) -> None:
    other = parse_job(changed(OTHERS[said]))
    with pytest.raises(StateError) as refused:
        Pipeline.restore(snapshot, other)
    assert f"the checkpoint is of another job: {said}" in str(refused.value)
    if "op" not in said:
        assert ";" not in str(refused.value)
    with pytest.raises(StateError, match="is of another job"):
        Pipeline(other).take_partition(snapshot, "push", 0)


def test_many_differences_are_counted(snapshot: Snapshot) -> None:
    order = {"job": {"name": "shop"}, "schema": {"use": "order"}, "window": []}
    with pytest.raises(StateError, match=r"and \d+ more$"):
        Pipeline.restore(snapshot, parse_job(order))


def test_a_checkpoint_that_does_not_say_what_its_job_was_is_refused(snapshot: Snapshot) -> None:
    del snapshot.manifest["spec"]
    with pytest.raises(StateError, match="an omnistream before this one wrote it"):
        Pipeline.restore(snapshot, parse_job(JOB))


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("way", ["restore", "take"])
def test_what_is_added_begins_with_the_rows_that_come(snapshot: Snapshot, way: str, shards: int) -> None:
    def more(job: dict[str, Any]) -> None:
        job["state"] = {"shards": shards}
        job["schema"]["field"].insert(1, {"name": "store", "type": "dictionary"})
        job["schema"]["field"].append({"name": "weight", "type": "float64"})
        job["window"][0]["measures"] += [
            "count",
            "max(weight) as weight",
            "distinct(store)",
            "sum(units) as same",
        ]
        job["window"].append({"name": "stores", "size": "1d", "keys": ["store"], "measures": ["count"]})
        job["derive"].append({"name": "short", "from": "days", "demand": "units", "horizon_days": 1})

    job = parse_job(changed(more))
    if way == "restore":
        pipeline = Pipeline.restore(snapshot, job)
    else:
        pipeline = Pipeline(job)
        pipeline.take_partition(snapshot, "push", 0)
    outputs = pipeline.push(rows((2, "c", 4), store="x", weight=1.5))
    assert not outputs
    again = Pipeline.restore(Snapshot.from_bytes(pipeline.snapshot().to_bytes()), job)
    final = again.flush()
    assert results(final, "hours") == [
        {"sku": "a", "units": 3, "count": 0, "weight": None, "distinct_store": 0, "same": 3},
        {"sku": "b", "units": 5, "count": 0, "weight": None, "distinct_store": 0, "same": 5},
        {"sku": "c", "units": 4, "count": 1, "weight": 1.5, "distinct_store": 1, "same": 4},
    ]
    assert results(final, "stores") == [{"store": "x", "count": 1}]
    assert {row["sku"] for row in results(final, "short")} == {"a", "b", "c"}


def test_a_measure_that_would_mix_all_rows_with_some_is_refused(snapshot: Snapshot, tmp_path: Path) -> None:
    job = changed(lambda job: job["window"][0]["measures"].append("mean(units) as middle"))
    with pytest.raises(
        StateError, match=r"measure 'middle' cannot be added to what is open: its sum\(units\)"
    ):
        Pipeline.restore(snapshot, parse_job(job))
    job["window"].append({**job["window"][0], "name": "more"})
    job["window"][0] = JOB["window"][0]
    final = Pipeline.restore(snapshot, parse_job(job)).flush()
    assert len(results(final, "hours")) == 2
    assert results(final, "more") == []
