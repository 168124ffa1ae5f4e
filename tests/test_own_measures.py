"""Measures by functions of the user's: the rows of closed windows, computed as plain Python says."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from examples.own_measures import margin, return_rate
from omnistream.errors import JobError
from omnistream.features import MEASURE_OPS, load_functions, parse_feature
from omnistream.job import parse_job
from omnistream.kernels.derive import Kernels
from omnistream.pipeline import Pipeline
from tests.cudasim import Worker

OWN = Path(__file__).parent.parent / "examples" / "own_measures.py"
WANTED = [
    "return_rate(units_returned, units_sold) as share",
    "margin(gross_amount, net_amount) as given_away",
    "ratio(gross_amount, units_sold) as price",
]


def job(**derive: Any) -> dict[str, Any]:
    return {
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": "0s"},
        "window": [
            {
                "name": "hour",
                "size": "1h",
                "keys": ["sku"],
                "measures": ["units_sold", "units_returned", "gross_amount", "net_amount"],
            },
            {"name": "visit", "kind": "session", "gap": "10m", "keys": ["sku"], "measures": ["units_sold"]},
        ],
        "derive": [{"name": "own", "kind": "measures", "from": "hour", "measures": WANTED, **derive}],
    }


def events() -> bytes:
    """Return five hours of sales and returns of some skus, of one of which nothing is ever sold."""
    draw = np.random.default_rng(1)
    lines = []
    for number in range(600):
        sku = int(draw.integers(0, 7))
        kind = "returned" if sku == 0 or draw.random() < 0.3 else "paid"
        event = {
            "event_id": f"e{number}",
            "event_type": kind,
            "event_time": f"2026-11-11T{number // 120:02}:{number % 120 // 2:02}:00Z",
            "order_id": f"o{number}",
            "sku": f"s{sku}",
            "qty": int(draw.integers(1, 5)),
            "unit_price": float(draw.integers(100, 9_000)) / 100,
            "discount": float(draw.integers(0, 5)) / 10,
        }
        lines.append(json.dumps(event))
    return "\n".join(lines).encode()


def results(outputs: list[dict[str, list[pa.RecordBatch]]], name: str) -> pa.Table:
    return pa.Table.from_batches([batch for each in outputs for batch in each.get(name, [])])


def test_rows_of_closed_windows_have_measures_of_the_users_own() -> None:
    pipeline = Pipeline(parse_job(job(functions=str(OWN))))
    outputs = [pipeline.push(events()), pipeline.flush()]
    window, own = (results(outputs, name) for name in ("hour", "own"))
    assert own.select(window.schema.names).equals(window)
    assert own.schema.equals(pipeline.schemas()["own"])
    assert own.num_rows > 30
    rows = own.to_pylist()
    for row in rows:
        sold, gross, net = row["units_sold"], float(row["gross_amount"]), float(row["net_amount"])
        assert row["share"] == (pytest.approx(row["units_returned"] / sold) if sold else None)
        assert row["given_away"] == pytest.approx(max(gross - net, 0))
        assert row["price"] == (pytest.approx(gross / sold) if sold else None)
    assert {row["share"] is None for row in rows} == {True, False}
    assert "own: share, given_away, price of hour" in pipeline.explain()


def test_a_snapshot_goes_on() -> None:
    wanted = parse_job(job(functions=str(OWN)))
    text = events().splitlines()
    whole = Pipeline(wanted)
    meant = [whole.push(b"\n".join(text)), whole.flush()]
    first = Pipeline(wanted)
    outputs = [first.push(b"\n".join(text[:300]))]
    second = Pipeline.restore(first.snapshot(), wanted)
    outputs += [second.push(b"\n".join(text[300:])), second.flush()]
    assert results(outputs, "own").combine_chunks().equals(results(meant, "own").combine_chunks())


def test_the_functions_are_compiled_for_both_devices() -> None:
    assert [*load_functions(OWN)] == ["return_rate", "margin"]
    # The same functions by a name that another process can import.
    own = {each.__name__: each.__omnistream_feature__ for each in (return_rate, margin)}  # type: ignore[attr-defined]
    ops = MEASURE_OPS | own
    places = {"units_returned": 0, "units_sold": 1, "gross_amount": 2, "net_amount": 3}
    types = dict(zip(places, ("int64", "int64", "decimal", "decimal"), strict=True))
    features = [parse_feature(text, ops) for text in WANTED]
    columns = [each.column(ops[each.op], places, types) for each in features]
    history = np.random.default_rng(3).integers(0, 50_000, (4, 1, 40))
    history[1, 0, :5] = 0
    known = np.ones(40, np.int32)
    on_cpu = Kernels("cpu").features(columns, np.float64)(history, known, 0)
    with Worker() as simulator:
        on_cuda = simulator.call("features", columns, history, known, 0)
    assert on_cpu.dtype == np.float64
    np.testing.assert_allclose(on_cuda, on_cpu.astype(np.float32), rtol=1e-6, equal_nan=True)
    for place, function in enumerate((return_rate, margin)):
        for key in range(40):
            first, second = (history[0], history[1]) if place == 0 else (history[2], history[3])
            meant = function(first, second, key, 1, 0, 1, columns[place].scale)
            assert on_cpu[key, place] == meant or (math.isnan(meant) and math.isnan(on_cpu[key, place]))


@pytest.mark.parametrize(
    ("derive", "what"),
    [
        ({"measures": ["lag(units_sold, 1)"]}, '"lag" is not a function of features'),
        ({"measures": []}, "measures: is missing"),
        ({"measures": ["ratio(sku, units_sold)"]}, '"sku" is not an int64 or decimal measure of "hour"'),
        ({"measures": ["ratio(units_sold, units_sold) as sku"]}, '"sku" is a column of "hour"'),
        ({"from": "nowhere"}, '"nowhere" is not a window'),
        ({"functions": "no_such.py"}, "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(derive: dict[str, Any], what: str) -> None:
    with pytest.raises(JobError, match=what.replace("(", r"\(")):
        parse_job(job(**derive))


def test_any_window_will_do() -> None:
    wanted = job(**{"from": "visit", "measures": ["ratio(units_sold, units_sold) as one"]})
    pipeline = Pipeline(parse_job(wanted))
    outputs = [pipeline.push(events()), pipeline.flush()]
    assert {row["one"] for row in results(outputs, "own").to_pylist()} <= {1.0, None}
    assert results(outputs, "own").num_rows == results(outputs, "visit").num_rows > 10
