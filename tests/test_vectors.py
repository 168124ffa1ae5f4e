"""Feature vectors of a job: from orders to one vector for each key and day."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.errors import JobError, StateError
from omnistream.features import STANDARD
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.vectors import lanes
from tests.reference.features import vector

DAY_MS = 86_400_000
START_MS = 1_794_355_200_000  # Wednesday 2026-11-11
FIELDS = [
    {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
    {"name": "sku", "type": "dictionary"},
    {"name": "store", "type": "string"},
    {"name": "units", "type": "int64"},
    {"name": "price", "type": "decimal"},
]
FEATURES = [
    "lag(sold, 1)",
    "lag(sold, 3)",
    "mean(sold, 2)",
    "std(sold, 4)",
    "since(sold, 4)",
    "ratio(value, sold, 3) as price",
    "weekday_sin",
    "active(value, 4)",
]
HORIZON = 4
FUNCTION = """from omnistream.features import feature
@feature()
def f(first, second, key, known, weekday, days, scale):
"""
Sale = tuple[int, str | None, str | None, int, float]  # day, sku, store, units, price


def job(keys: list[str], **changes: Any) -> dict[str, Any]:
    window = {
        "name": "daily",
        "size": "1d",
        "keys": keys,
        "measures": ["sum(units) as sold", "sum(price) as value"],
    }
    derive = {"name": "vectors", "kind": "features", "from": "daily", "features": FEATURES}
    return {
        "schema": {"field": FIELDS},
        "time": {"column": "at", "max_disorder": "0s"},
        "window": [window],
        "derive": [derive | changes],
    }


def message(sale: Sale) -> bytes:
    day, sku, store, units, price = sale
    at = START_MS + day * DAY_MS
    return json.dumps({"at": at, "sku": sku, "store": store, "units": units, "price": price}).encode()


def reference(sales: list[Sale], keys: list[str]) -> list[dict[str, Any]]:
    """Return the vectors of every day, each from the days before it alone."""
    days: defaultdict[int, defaultdict[tuple[Any, ...], list[int]]] = defaultdict(
        lambda: defaultdict(lambda: [0, 0])
    )
    for day, sku, store, units, price in sales:
        key = tuple({"sku": sku, "store": store}[name] for name in keys)
        days[day][key][0] += units
        days[day][key][1] += round(price * 10_000)
    columns = []
    for text, second in zip(FEATURES, [0, 0, 0, 0, 0, 0, 0, 1], strict=True):
        op, _, rest = text.partition("(")
        days_back = int(rest.partition(")")[0].rpartition(",")[2]) if rest else 1
        first, other = (1, 0) if op == "ratio" else (second, second)
        scales = {"first_scale": (1, 10_000)[first], "second_scale": (1, 10_000)[other]}
        columns.append({"op": op, "first": first, "second": other, "days": days_back, **scales})
    rows = []
    known: dict[tuple[Any, ...], tuple[int, int]] = {}  # key: first day, last day with a row
    for today in sorted(days):
        known = {key: (first, last) for key, (first, last) in known.items() if today - last < HORIZON}
        for key in days[today]:
            known[key] = (known.get(key, (today, today))[0], today)
        for key, (first, _) in known.items():
            history = [
                [
                    days[today - ago][key][place] if key in days.get(today - ago, {}) else 0
                    for ago in range(HORIZON)
                ]
                for place in (0, 1)
            ]
            numbers = vector(columns, history, min(today - first + 1, HORIZON), (today + 3) % 7)
            rows.append({"day": today + 1, "key": key, "numbers": numbers})
    return rows


def plain(batches: list[pa.RecordBatch], keys: list[str]) -> list[dict[str, Any]]:
    rows = []
    for row in pa.Table.from_batches(batches).to_pylist() if batches else []:
        day = (int(row["day"].timestamp() * 1000) - START_MS) // DAY_MS
        numbers = list(row.values())[1 + len(keys) :]
        rows.append({"day": day, "key": tuple(row[name] for name in keys), "numbers": numbers})
    return rows


def in_order(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: (row["day"], repr(row["key"])))


def assert_same(got: list[dict[str, Any]], meant: list[dict[str, Any]]) -> None:
    assert [(row["day"], row["key"]) for row in in_order(got)] == [
        (row["day"], row["key"]) for row in in_order(meant)
    ]
    for ours, theirs in zip(in_order(got), in_order(meant), strict=True):
        for value, wanted in zip(ours["numbers"], theirs["numbers"], strict=True):
            if np.isnan(wanted):
                assert value is None
            else:
                assert abs(np.float32(value) - wanted) <= np.spacing(abs(wanted))


SALES = st.lists(
    st.tuples(
        st.integers(0, 14),
        st.sampled_from(["a", "b", "é:1", None]),
        st.sampled_from(["", "1:", "2", None]),
        st.one_of(st.integers(-3, 9), st.just(0)),
        st.integers(-8, 80).map(lambda quarters: quarters / 4),
    ),
    max_size=20,
).map(lambda sales: sorted(sales, key=lambda sale: sale[0]))


@settings(max_examples=10)
@given(SALES, st.sampled_from([["sku"], ["sku", "store"], []]), st.integers(0, 20))
def test_vectors_are_those_of_the_reference(sales: list[Sale], keys: list[str], cut: int) -> None:
    spec = parse_job(job(keys))
    pipeline = Pipeline(spec)
    outputs = list(pipeline.push([message(sale) for sale in sales[:cut]]).get("vectors", []))
    pipeline = Pipeline.restore(pipeline.snapshot(), spec)
    for sale in sales[cut:]:
        outputs += pipeline.push([message(sale)]).get("vectors", [])
    outputs += pipeline.flush().get("vectors", [])
    assert_same(plain(outputs, keys), reference(sales, keys))


def test_the_schema_is_known_before_the_first_vector() -> None:
    pipeline = Pipeline(parse_job(job(["sku", "store"])))
    schema = pipeline.schemas()["vectors"]
    pipeline.push([message((0, "a", "s", 1, 2.0))])
    (batch,) = pipeline.flush()["vectors"]
    assert batch.schema.equals(schema)
    assert schema.names == ["day", "sku", "store", "sold_lag_1", "sold_lag_3", "sold_mean_2", "sold_std_4",
                            "sold_since_4", "price", "weekday_sin", "value_active_4"]  # fmt: skip
    assert pipeline.metrics().state_bytes > 0
    assert "8 features of daily, up to 4 days back" in pipeline.explain()


def test_functions_of_the_user_see_the_days_before() -> None:
    own = str(Path(__file__).parent.parent / "examples" / "own_features.py")
    spec = parse_job(job(["sku"], functions=own, features=["trend(sold, 2)", "margin(value, sold)"]))
    pipeline = Pipeline(spec)
    pipeline.push([message((day, "a", None, units, 5.5)) for day, units in enumerate([2, 6, 3])])
    rows = plain(pipeline.flush().get("vectors", []), ["sku"])
    assert rows[-1]["numbers"] == [0.5, pytest.approx(5.5 - 3 / 10_000)]  # scale is that of the first measure


def test_a_snapshot_of_other_functions_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    text = FUNCTION
    file.write_text(f"{text}    return 1.0\n")
    before = Pipeline(parse_job(job(["sku"], functions=str(file), features=["f(sold)"])))
    file.write_text(f"{text}    return 2.0\n")
    with pytest.raises(StateError, match=r"derive \"vectors\": functions_sha256"):
        Pipeline.restore(
            before.snapshot(), parse_job(job(["sku"], functions=str(file), features=["f(sold)"]))
        )


def test_the_standard_features_fit_the_order_schema() -> None:
    measures = ["units_sold", "gross_amount", "net_amount"]
    document = {
        "schema": {"use": "order_flat"},
        "window": [{"name": "daily", "size": "1d", "keys": ["sku"], "measures": measures}],
        "derive": [{"name": "vectors", "kind": "features", "from": "daily"}],
    }
    pipeline = Pipeline(parse_job(document))
    for day, quantity in ((11, 4), (12, 1)):
        order = {
            "event_id": str(day),
            "event_type": "paid",
            "event_time": f"2026-11-{day}T10:00:00Z",
            "sku": "B",
        }
        pipeline.push([json.dumps(order | {"qty": quantity, "unit_price": 100, "discount": 0.2}).encode()])
    (vectors,) = pipeline.flush()["vectors"]
    (row,) = vectors.to_pylist()
    assert len(row) == 2 + len(STANDARD)
    assert row["units_sold_lag_1"] == 1.0
    assert row["units_sold_lag_7"] is None
    assert (row["units_sold_mean_7"], row["price_28"]) == (2.5, 100.0)
    assert row["markdown_28"] == pytest.approx(0.2)
    assert row["weekday_cos"] == pytest.approx(math.cos(2 * math.pi * 4 / 7))  # for Friday 13th


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"features": ["lag(solld, 1)"]},
            '"solld" is not an int64 or decimal measure of "daily"; did you mean "sold"?',
        ),
        ({"features": ["lag(sold)"]}, '"lag(sold)" has 1 arguments, not 2; write lag(MEASURE, DAYS)'),
        ({"features": ["lag(sold, 1) as x", "lag(sold, 2) as x"]}, 'two are named "x"'),
        ({"features": ["weekday_sin"]}, "look at no measure"),
        ({"functions": "no_such.py"}, "cannot be read (No such file or directory)"),
        ({"from": "dail"}, '"dail" is not a window; did you mean "daily"?'),
        ({"demand": "sold"}, "demand"),
    ],
)
def test_mistakes_are_found_before_any_data_is_read(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(JobError) as raised:
        parse_job(job(["sku"], **changes))
    assert len(raised.value.problems) == 1
    assert problem in raised.value.problems[0]


def test_a_function_that_does_not_compile_is_a_mistake_of_the_job(tmp_path: Path) -> None:
    text = FUNCTION
    (tmp_path / "mine.py").write_text(f"{text}    return open('x')\n")
    with pytest.raises(JobError, match=r"functions: .*mine\.py: Numba cannot compile f: "):
        parse_job(job(["sku"], functions="mine.py", features=["f(sold)"]), base_dir=tmp_path)


def test_days_must_follow_each_other() -> None:
    pipeline = Pipeline(parse_job(job(["sku"])))
    pipeline.push([message((1, "a", None, 1, 1.0))])
    closed = pipeline.windows.close(2**62)["daily"]
    stage = pipeline.derive._stages["vectors"]
    stage.push(closed[0])
    with pytest.raises(StateError, match="does not follow"):
        stage.push(closed[0])


@given(st.lists(st.one_of(st.none(), st.integers(-(2**62), 2**62)), max_size=9), st.integers(0, 3))
def test_lanes_of_decimals_are_exact(values: list[int | None], offset: int) -> None:
    from decimal import Decimal

    exact = [None if value is None else Decimal(value).scaleb(-4) for value in values]
    column = pa.array(exact, pa.decimal128(19, 4)).slice(offset)
    assert lanes(column).tolist() == [value or 0 for value in values[offset:]]


def test_partitions_with_features_stay_where_they_are() -> None:
    pipeline = Pipeline(parse_job(job(["sku"])))
    pipeline.push([message((1, "a", None, 1, 1.0))])
    with pytest.raises(StateError, match="keep no state for each partition"):
        pipeline.drop_partition("push")
    topic = {"type": "kafka", "topics": ["orders"], "group": "g", "bootstrap_servers": "localhost:9092"}
    with pytest.raises(JobError, match="features keep no state for each partition"):
        parse_job(job(["sku"]) | {"source": topic})
