"""Windows of so many keys that their results are sorted piece by piece: the order is that of the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

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
