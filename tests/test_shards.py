"""Keys shared out among threads: the same bytes, whatever their number, also when it changes on the way."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.checkpoint import Snapshot
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.shards import FEW_ROWS
from omnistream.spec import JobSpec, StateSpec

MEASURES = [
    "count",
    "sum(units)",
    "std(units)",
    "min(price)",
    "distinct(order)",
    "approx_distinct(order)",
    "last(size)",
    "top(size, 2, units)",
    "quantile(units)",
]


def window(name: str, **keys: Any) -> dict[str, Any]:
    return {"name": name, "keys": ["sku"], "measures": MEASURES, **keys}


JOB = parse_job(
    {
        "schema": {
            "field": [
                {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
                *({"name": name, "type": "dictionary"} for name in ("sku", "size")),
                *({"name": name, "type": "string"} for name in ("order",)),
                {"name": "store", "type": "int32"},
                {"name": "gift", "type": "bool"},
                {"name": "units", "type": "int64"},
                {"name": "price", "type": "decimal"},
            ]
        },
        "time": {"column": "at", "max_disorder": "20s"},
        "window": [
            window("minutes", size="1m", keys=["sku", "store"]),
            window("rolling", kind="hopping", size="2m", hop="30s", allowed_lateness="10s", keys=["order"]),
            window("visits", kind="session", gap="20s", keys=["gift", "order"]),
            window("ever", kind="global", keys=["store", "gift"]),
            window("all", size="1m", keys=[]),
            window("so_far", size="5m", emit="early", every="20s"),
            window("hops_so_far", kind="hopping", size="2m", hop="30s", emit="early", every="20s"),
            window("visits_so_far", kind="session", gap="1s", emit="early", every="10s"),
            window("ever_so_far", kind="global", emit="early", every="1m"),
            {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["sum(units)"]},
        ],
        "derive": [{"name": "demand", "from": "daily", "demand": "sum_units", "horizon_days": 2}],
    }
)
BATCHES = 6


def batch(number: int) -> bytes:
    """Return so many lines that they are worth threads: keys of all types, nulls, late and broken ones."""
    draw = random.Random(number)

    def or_null(value: Any) -> Any:
        return value if draw.random() < 0.95 else None

    lines = []
    for place in range(FEW_ROWS * 2):
        event = {
            "at": number * 50_000 + place * 25 + draw.randrange(-30_000, 1),
            "sku": or_null(f"sku {draw.randrange(40)}"),
            "size": or_null(str(draw.randrange(36, 46))),
            "order": or_null(f"order {draw.randrange(300)} é"),
            "store": or_null(draw.randrange(-3, 9)),
            "gift": or_null(draw.random() < 0.5),
            "units": or_null(draw.randrange(-5, 50)),
            "price": or_null(draw.randrange(1_000) / 100),
        }
        lines.append(json.dumps(event) if draw.random() < 0.99 else '{"at":')
    return "\n".join(lines).encode() + b"\n"


def sharded(shards: int) -> JobSpec:
    return replace(JOB, state=StateSpec(shards=shards))


def told(outputs: list[Outputs]) -> list[dict[str, list[bytes]]]:
    """Return the bytes of every batch."""
    return [
        {name: [each.serialize().to_pybytes() for each in batches] for name, batches in one.items()}
        for one in outputs
    ]


@pytest.fixture(scope="module")
def alone() -> tuple[list[Any], dict[str, Any]]:
    """What one shard tells, and its ledger."""
    pipeline = Pipeline(JOB)
    outputs = [pipeline.push(batch(number), source="s") for number in range(BATCHES)]
    metrics = pipeline.metrics()
    assert metrics.late > 0
    outputs.append(pipeline.flush())
    assert set(outputs[-1]) | set(outputs[-2]) > {"minutes", "rolling", "visits"}
    return told(outputs), ledger(pipeline)


def ledger(pipeline: Pipeline) -> dict[str, Any]:
    metrics = pipeline.metrics()
    assert metrics.balanced
    names = ("messages", "rows", "aggregated", "late", "rejects", "emitted", "watermark_ms", "groups")
    return {name: getattr(metrics, name) for name in names}


@pytest.mark.parametrize("shards", [2, 5])
def test_the_same_bytes_from_any_number_of_shards(shards: int, alone: tuple[Any, Any]) -> None:
    pipeline = Pipeline(sharded(shards))
    outputs = [pipeline.push(batch(number), source="s") for number in range(BATCHES)]
    assert pipeline.metrics().groups > FEW_ROWS
    outputs.append(pipeline.flush())
    assert told(outputs) == alone[0]
    assert ledger(pipeline) == alone[1]
    assert f"minutes: tumbling 60000 ms by sku, store: {', '.join(pipeline_measures())}" in pipeline.explain()
    assert pipeline.explain().count(f"(keys shared by {shards} threads)") == 9


def pipeline_measures() -> list[str]:
    return [measure.name for measure in JOB.window("minutes").measures]


def test_the_number_of_shards_may_change_at_every_restart(alone: tuple[Any, Any]) -> None:
    pipeline, outputs = Pipeline(sharded(3)), []
    for number, shards in enumerate((1, 4, 2, 3, 1, 6)):
        outputs.append(pipeline.push(batch(number), source="s"))
        groups = pipeline.metrics().groups
        saved = pipeline.snapshot().to_bytes()
        pipeline = Pipeline.restore(Snapshot.from_bytes(saved), sharded(shards))
        assert pipeline.metrics().groups == groups
    outputs.append(pipeline.flush())
    assert told(outputs) == alone[0]
    assert ledger(pipeline) == alone[1]


def test_an_overflow_in_one_shard_ends_the_job() -> None:
    pipeline = Pipeline(sharded(3))
    line = json.dumps({"at": 0, "sku": "a", "units": 2**62}).encode()
    with pytest.raises(StateError, match="'sum_units' overflows"):
        pipeline.push([line] * 2)
    with pytest.raises(StateError, match="overflows"):
        pipeline.snapshot()


def test_the_shard_of_a_key_is_by_value() -> None:
    """Equal as a dictionary of any codes and as a string, as rows and in a snapshot."""
    keys = _core.KeyShards(["sku", "store"], 4)
    stores = pa.array([1, 2, None, 4, 1], pa.int32())
    texts = pa.array(["a", None, "b", "c", "a"])
    plain = keys.shards_of(pa.record_batch({"sku": texts, "store": stores}))
    named = keys.shards_of(pa.record_batch({"key sku": texts, "key store": stores}), "key ")
    assert plain == named
    assert plain[0] == plain[4]
    many = pa.record_batch({"sku": [str(each) for each in range(4_000)], "store": [1] * 4_000})
    found = keys.shards_of(many)
    assert all(800 < found.count(shard) < 1_200 for shard in range(4))
