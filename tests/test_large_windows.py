"""Windows of so many keys that results are sorted in pieces, and keys of so many rows that none may stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from omnistream.checkpoint import Snapshot
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline

ROWS = 150_000
JOB = parse_job(
    {
        "schema": {
            "field": [
                {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
                {"name": "number", "type": "int64"},
                {"name": "shop", "type": "dictionary"},
            ]
        },
        "time": {"column": "at", "max_disorder": "0s"},
        "window": [{"name": "all", "size": "1d", "keys": ["number", "shop"], "measures": ["count"]}],
    }
)


def numbers(spread: str) -> Any:
    random = np.random.default_rng(3)
    if spread == "everywhere":
        return random.integers(-(2**63), 2**63 - 1, ROWS, endpoint=True)
    if spread == "wide":
        return random.integers(-(2**43), 2**43, ROWS)
    # Nearly all in one digit's reach, so that one hand of the sort gets them all.
    return np.where(np.arange(ROWS) % 1000 == 0, 2**50, 1) * random.integers(0, 2**12, ROWS) + np.arange(ROWS)


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("spread", ["everywhere", "wide", "lopsided"])
def test_rows_are_in_the_order_of_their_keys(spread: str, nulls: bool) -> None:
    random = np.random.default_rng(4)
    mask = random.random(ROWS) < 0.01 if nulls else None
    rows = pa.table(
        {
            "at": pa.array(np.zeros(ROWS, np.int64)).cast(pa.timestamp("ms", "UTC")),
            "number": pa.array(numbers(spread), mask=mask),
            "shop": pa.array(random.choice(["b", "a", "é", "c"], ROWS)),
        }
    )
    pipeline = Pipeline(JOB)
    pipeline.push(rows)
    (result,) = pipeline.flush()["all"]
    expected = rows.group_by(["number", "shop"]).aggregate([([], "count_all")])
    order = sorted(
        zip(*(expected[name].to_pylist() for name in ("number", "shop", "count_all")), strict=True),
        key=lambda row: (row[0] is not None, row[0] or 0, row[1].encode()),
    )
    got = zip(*(result[name].to_pylist() for name in ("number", "shop", "count")), strict=True)
    assert list(got) == order


@pytest.mark.parametrize("kind", [{"kind": "global"}, {"kind": "session", "gap": "1h"}])
def test_the_first_and_the_last_text_of_a_group_that_lives_on_take_no_more_room(kind: dict[str, str]) -> None:
    """Texts that lost are let go; which they are does not depend on when that was done."""
    job = parse_job(
        {
            "schema": {
                "field": [
                    {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
                    {"name": "key", "type": "int64", "required": True},
                    {"name": "order", "type": "string"},
                ]
            },
            "time": {"column": "at", "max_disorder": "1h"},
            "window": [{"name": "w", "keys": ["key"], "measures": ["first(order)", "last(order)"], **kind}],
        }
    )
    random = np.random.default_rng(3)
    rows = 60_000
    at = np.arange(rows) * 10 + random.integers(0, 500, rows)
    key = random.integers(0, 3, rows)
    table = pa.table({"at": at, "key": key, "order": [f"order-{n:08}" for n in random.permutation(rows)]})
    table = table.set_column(0, "at", table["at"].cast(pa.timestamp("ms", "UTC")))
    expected = {}
    for one in range(3):
        mine = sorted(
            (when, order)
            for when, k, order in zip(at, key, table["order"].to_pylist(), strict=True)
            if k == one
        )
        expected[one] = mine[0][1], mine[-1][1]

    snapshots = []
    for batch_rows in (700, 60_000):
        pipeline = Pipeline(job)
        sizes = []
        for batch in table.to_batches(batch_rows):
            pipeline.push(batch)
            sizes.append(pipeline.metrics().state_bytes)
        assert batch_rows == rows or max(sizes) < 1 << 20
        snapshot = pipeline.snapshot({})
        snapshots.append([snapshot.parts[f"window.w.{part}"].to_pydict() for part in ("distinct", "groups")])
        pipeline = Pipeline.restore(Snapshot.from_bytes(snapshot.to_bytes()), job)
        (closed,) = pipeline.flush()["w"]
        found = {row["key"]: (row["first_order"], row["last_order"]) for row in closed.to_pylist()}
        assert found == expected
    assert snapshots[0] == snapshots[1]
    assert len(snapshots[0][0]["text"]) == 6
