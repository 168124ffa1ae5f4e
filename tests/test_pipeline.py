"""The whole pipeline: any batching, the reference stage by stage, Arrow columns, snapshots, the watermark."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.checkpoint import Snapshot
from omnistream.errors import DeviceError, SchemaError, StateError
from omnistream.job import JobSpec, parse_job
from omnistream.pipeline import Outputs, Pipeline
from omnistream.spec import REJECTS, ROWS
from tests import reference
from tests.engines import plain_rows
from tests.reference.clean import END
from tests.reference.decode import reject
from tests.strategies import HOUR_MS, START_MS, messages, mutated

NOW_MS = START_MS + 3 * 24 * HOUR_MS
MAX_ULP = 4  # of means and standard deviations, and of the safety stock that comes from them

# ---- jobs of several shapes ----

RULES = [
    {"check": "positive_quantity"},
    {"check": "price_below_cost"},
    {"check": "discount_range"},
    {"check": "event_time_ahead", "by": "1d"},
]
SALES = {
    "name": "sales",
    "size": "1h",
    "keys": ["channel", "sku"],
    "measures": [
        *("count", "units_net", "gross_amount", "net_amount", "orders", "distinct(size)"),
        *("mean(unit_price)", "std(unit_price)", "min(discount)", "max(event_time)"),
        "sum(quantity) as web_units where channel = 'web'",
    ],
}
# Nobody's key, starts that are no full hours, and time for rows that the hours refuse.
QUARTERS = {
    "name": "quarters",
    "size": "15m",
    "offset": "5m",
    "allowed_lateness": "30m",
    "measures": ["count", "units_sold", "units_returned", "units_cancelled"],
}
DAILY = {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["count", "units_net"]}
DEMAND = {"name": "demand", "from": "daily", "demand": "units_net", "horizon_days": 3}


def order_job(schema: str, **changes: Any) -> dict[str, Any]:
    plain = {
        "schema": {"use": schema},
        "time": {"max_disorder": "20m"},
        "clean": {"rule": RULES, "duplicates": {"within": "1h"}},
        "window": [SALES, QUARTERS, DAILY],
        "derive": [DEMAND],
    }
    return plain | changes


# Columns of every type, an array inside an array, and arrays of messages.
PARCELS = {
    "schema": {
        "explode": "parcels[].items[]",
        "array_messages": True,
        "field": [
            {"name": "id", "type": "string"},
            {"name": "at", "type": "timestamp", "format": ["iso8601", "epoch_ms"], "required": True},
            {"name": "carrier", "type": "dictionary", "path": "parcels[].carrier", "default": "post"},
            {"name": "sku", "type": "string", "path": "parcels[].items[].sku"},
            {"name": "pieces", "type": "int32", "path": "parcels[].items[].pieces", "default": 1},
            {"name": "value", "type": "decimal", "path": "parcels[].items[].value", "coerce": True},
            {"name": "weight", "type": "float64", "path": "parcels[].items[].weight"},
            {"name": "gift", "type": "bool", "path": "parcels[].items[].gift"},
        ],
    },
    "time": {"column": "at", "max_disorder": "10m"},
    "clean": {
        "rule": [
            {"check": "range", "column": "weight", "low": 0},
            {"check": "event_time_ahead", "column": "at", "by": "1d"},
        ],
        "duplicates": {"key": ["id", "sku"], "within": "30m"},
    },
    "window": [
        {
            "name": "parcels",
            "size": "30m",
            "keys": ["carrier", "gift", "sku"],
            "measures": [
                *("count", "count(weight)", "sum(pieces)", "sum(value)", "variance(value)"),
                *("min(weight)", "max(weight)", "distinct(id)", "distinct(at)"),
            ],
        },
        {"name": "days", "size": "1d", "measures": ["count"], "allowed_lateness": "1h"},
    ],
    "sink": [{"output": "rows", "type": "stdout"}],
}

JOBS = {
    "order": parse_job(order_job("order")),
    "order_flat": parse_job(order_job("order_flat", sink=[{"output": "rows", "type": "stdout"}])),
    "parcels": parse_job(PARCELS),
    "rows alone": parse_job({"schema": {"use": "order_flat"}, "clean": {"rule": RULES}}),
}

# ---- their messages ----


def iso(minutes: int, second: int = 0) -> str:
    at = datetime(2026, 11, 11, 7, tzinfo=UTC) + timedelta(minutes=minutes, seconds=second)
    return at.isoformat().replace("+00:00", "Z")


# Clustered, so that windows close and rows come late; sometimes a day later, for demand.
TIMES = st.builds(
    lambda day, minute, second: iso(1440 * day + minute, second),
    st.sampled_from([0, 0, 0, 0, 0, 1, 2]),
    st.integers(0, 150),
    st.sampled_from([0, 0, 59]),
)
LINES = st.fixed_dictionaries(
    {
        "sku": st.sampled_from(["A", "B", "C"]),
        "qty": st.sampled_from([1, 2, 3, 3, 7, 0, -1]),
        "unit_price": st.sampled_from([100, 59.9, 19.9999, 0.01]),
    },
    optional={
        "size": st.sampled_from(["36", "37", None]),
        "unit_cost": st.sampled_from([0.005, 30, 99.5]),
        "discount": st.sampled_from([0, 0.15, 0.3333, 1, 1.5, None]),
    },
)
HEADS = st.fixed_dictionaries(
    {
        "event_id": st.integers(0, 9).map("e{}".format),
        "event_type": st.sampled_from(["created", "paid", "paid", "paid", "cancelled", "returned"]),
        "event_time": TIMES,
    },
    optional={
        "order_id": st.integers(0, 5).map("o{}".format),
        "channel": st.sampled_from(["web", "app", "store", "微信"]),
        "store_id": st.sampled_from(["S1", "S2"]),
    },
)
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "sku": st.sampled_from(["A", "B", None]),
        "pieces": st.integers(-5, 5),
        "value": st.sampled_from([1, "2.5", 0.0001, -3, ""]),
        "weight": st.sampled_from([0.1, 1e300, -0.0, -1.0]),
        "gift": st.booleans(),
    },
)
PARCEL = st.fixed_dictionaries({"items": st.lists(ITEMS, max_size=2)}, optional={"carrier": st.just("dhl")})
SHIPMENTS = st.fixed_dictionaries(
    {"at": TIMES, "parcels": st.lists(PARCEL, max_size=2)}, optional={"id": st.sampled_from(["i", "j"])}
)
GOOD = {
    "order": st.builds(lambda head, lines: head | {"lines": lines}, HEADS, st.lists(LINES, max_size=3)),
    "order_flat": st.builds(lambda head, line: head | line, HEADS, LINES),
    "parcels": st.one_of(SHIPMENTS, SHIPMENTS, st.lists(SHIPMENTS, max_size=3)),
}
GOOD["rows alone"] = GOOD["order_flat"]


def as_one_line(message: bytes) -> bytes:
    """Make of it a message that is the same alone and as a line of NDJSON."""
    line = message.replace(b"\n", b" ").strip(b" \t\r")
    return b"{" if not line or line.startswith(b"\xef\xbb\xbf") else line


def streams(shape: str, max_size: int = 30) -> st.SearchStrategy[list[bytes]]:
    """Mostly messages that mean something; some mutated, some near the schema in every way."""
    good = GOOD[shape].map(lambda event: json.dumps(event, ensure_ascii=False).encode())
    near = messages(JOBS[shape].schema.to_core())
    any_message = st.integers(0, 11).flatmap(lambda kind: [near, mutated(good)][kind] if kind < 2 else good)
    lines = any_message.map(as_one_line)
    return st.one_of(st.lists(lines, max_size=5), st.lists(lines, min_size=max_size // 2, max_size=max_size))


def cut(items: Sequence[Any], places: Iterable[int]) -> list[Sequence[Any]]:
    at = sorted(min(place, len(items)) for place in places)
    return [items[begin:end] for begin, end in zip([0, *at], [*at, len(items)], strict=True)]


PLACES = st.lists(st.integers(0, 30), max_size=6)

# ---- running ----


@dataclass
class Run:
    """What a run gave: all batches by output, rejects in the order of the messages, and its metrics."""

    outputs: dict[str, list[pa.RecordBatch]] = field(default_factory=dict)
    numbered_from: int = 0
    before_the_end: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def add(self, outputs: Outputs) -> None:
        for name, batches in outputs.items():
            for batch in batches:
                batch.validate(full=True)
                assert batch.num_rows > 0
            self.outputs.setdefault(name, []).extend(batches)

    def rows(self, output: str) -> list[dict[str, Any]]:
        return [row for batch in self.outputs.get(output, []) for row in batch.to_pylist()]

    def rejects(self) -> list[dict[str, Any]]:
        rejects = self.rows(REJECTS)
        return in_order([each | {"position": each["position"] - self.numbered_from} for each in rejects])

    def ipc_bytes(self, schemas: dict[str, pa.Schema]) -> dict[str, bytes]:
        """The concatenation of each output as an Arrow IPC stream; rejects are compared by themselves."""
        return {
            name: ipc_bytes(pa.Table.from_batches(self.outputs.get(name, []), schema))
            for name, schema in schemas.items()
            if name != REJECTS
        }


def in_order(rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """By place: within one push the rejects of decode come before those of clean and of window."""
    return sorted(
        rejects,
        key=lambda each: (each["source"], each["partition"], each["position"], each["line"] or 0, str(each)),
    )


def ipc_bytes(table: pa.Table) -> bytes:
    """With strings for codes: how far a dictionary has grown depends on when a batch was made."""
    plain = pa.schema(
        [
            pa.field(each.name, each.type.value_type) if pa.types.is_dictionary(each.type) else each
            for each in table.schema
        ]
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain) as writer:
        writer.write_table(table.cast(plain).combine_chunks())
    return sink.getvalue().to_pybytes()


def meaning(pipeline: Pipeline) -> dict[str, Any]:
    """The metrics that must not depend on batches, nor on the device."""
    metrics = pipeline.metrics()
    assert metrics.balanced
    plain = metrics.to_dict()
    del plain["speculated"], plain["left_to_cpu"], plain["state_bytes"]
    for sizes in plain["windows"].values():
        del sizes["bytes"]
    return plain


def new_pipeline(job: JobSpec) -> Pipeline:
    return Pipeline(job, clock=lambda: NOW_MS)


def run(
    job: JobSpec,
    parts: Iterable[Any],
    between: Callable[[Pipeline, int], Pipeline] = lambda pipeline, _: pipeline,
    first: Callable[[JobSpec], Pipeline] = new_pipeline,
) -> Run:
    """Push all parts and flush; `between` may replace the pipeline before each push."""
    pipeline, result = first(job), Run()
    for number, part in enumerate(parts):
        pipeline = between(pipeline, number)
        result.add(pipeline.push(part))
    result.before_the_end = meaning(pipeline)
    result.add(pipeline.flush())
    result.metrics = meaning(pipeline)
    emitted = {name: sum(batch.num_rows for batch in each) for name, each in result.outputs.items()}
    assert result.metrics["emitted"] == emitted
    return result


def assert_same(got: Run, expected: Run, job: JobSpec) -> None:
    schemas = new_pipeline(job).schemas()
    assert got.ipc_bytes(schemas) == expected.ipc_bytes(schemas)
    assert got.rejects() == expected.rejects()
    assert got.before_the_end == expected.before_the_end
    assert got.metrics == expected.metrics


# ---- any batching ----

# Lines of a file are numbered from 1, and messages from 0.
FORMS: dict[str, Callable[[Sequence[bytes]], Any]] = {
    "list": list,
    "binary": lambda part: pa.array(part, pa.binary()),
    "large": lambda part: pa.array([b"[", *part], pa.large_binary()).slice(1),
    "chunked": lambda part: pa.chunked_array([part[:2], part[2:]], pa.binary()),
    "column": lambda part: pa.table({"value": pa.array(part, pa.binary())}),
    "lines": lambda part: b"".join(message + b"\n" for message in part),
    "lines of DOS": lambda part: bytearray(b"".join(message + b"\r\n" for message in part)),
    "lines, the last one open": lambda part: memoryview(b"\n".join(part)),
}


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


# ---- the reference ----


def reference_run(job: JobSpec, parts: Iterable[Sequence[bytes]]) -> dict[str, list[dict[str, Any]]]:
    """The stages of tests/reference, one after the other. Outputs are plain rows."""
    schema, columns = new_pipeline(job).decode.schema.to_core(), job.columns
    watermark = reference.Watermark(job.time.max_disorder_ms)
    duplicates = None if job.duplicates is None else reference.Duplicates(**job.duplicates.to_core())
    cleaner = reference.Cleaner(
        [rule.to_core() for rule in job.rules], job.time.column, watermark, duplicates
    )
    windows = {
        window.name: reference.Window(window.to_core(job.time.column, columns)) for window in job.windows
    }
    demands = {
        derive.name: reference.Demand(derive.to_core(job.window(derive.window), columns))
        for derive in job.derives
    }
    outputs: dict[str, list[dict[str, Any]]] = {name: [] for name in (REJECTS, ROWS, *windows, *demands)}

    def close(watermark_ms: int) -> None:
        closed = {name: window.advance(watermark_ms) for name, window in windows.items()}
        for name, days in closed.items():
            outputs[name] += [row for day in days for row in day]
        for derive in job.derives:
            for day in closed[derive.window]:
                outputs[derive.name] += demands[derive.name].push(day)

    at = 0
    for part in parts:
        rows, undecoded, _ = reference.decode_messages(schema, list(part), first_position=at)
        at += len(part)
        overflowed = []
        if job.amount is not None:
            amount = job.amount
            overflowed = reference.add_amounts(
                rows, columns, amount.quantity, amount.unit_price, amount.discount
            )
        survivors, unclean = cleaner.clean(rows, NOW_MS, overflowed)
        refused: dict[int, list[str]] = {}
        for name, window in windows.items():
            for place in window.push(survivors):
                refused.setdefault(place, []).append(name)
        late = [
            reject(row.message, row.line, "window", "late", ", ".join(names), None)
            for place, names in refused.items()
            for row in [survivors[place][0]]
        ]
        outputs[REJECTS] += [*undecoded, *unclean, *late]
        outputs[ROWS] += [row.values for row, _ in survivors]
        close(watermark.value_ms)
    close(END)
    for derive in job.derives:
        demand = demands[derive.name]
        last_day = [row for row in outputs[derive.name] if row["day"] == demand.today]
        with_rows = {tuple(row[key] for key in demand.spec["keys"]) for row in last_day}
        outputs[derive.name] += [
            row for row in demand.current() if tuple(row[key] for key in demand.spec["keys"]) not in with_rows
        ]
    return outputs


def assert_close(got: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    for row, meant in zip(got, expected, strict=True):
        assert list(row) == list(meant)
        for name, value in meant.items():
            if isinstance(value, float) and isinstance(row[name], float):
                assert abs(row[name] - value) <= MAX_ULP * math.ulp(value), name
            else:
                assert repr(row[name]) == repr(value), name


@pytest.mark.parametrize("shape", JOBS)
@given(st.data())
def test_the_reference_says_the_same(shape: str, data: st.DataObject) -> None:
    job = JOBS[shape]
    parts = cut(data.draw(streams(shape, max_size=20)), data.draw(PLACES))
    got, expected = run(job, map(list, parts)), reference_run(job, parts)
    for name, rows in expected.items():
        batches = [row for batch in got.outputs.get(name, []) for row in plain_rows(batch)]
        if name == REJECTS:
            assert in_order(batches) == in_order(rows)
        elif name != ROWS or "rows" in got.outputs:
            assert_close(batches, rows)


def test_the_streams_reach_every_stage() -> None:
    """What the tests above draw from must close windows, be late, be twice, and break in every stage."""
    stages, outputs = set(), set()

    @given(streams("order"))
    def look(stream: list[bytes]) -> None:
        result = run(JOBS["order"], [stream[:12], stream[12:]])
        outputs.update(name for name in result.outputs if result.before_the_end["emitted"].get(name))
        stages.update((each["stage"], each["reason"]) for each in result.rows(REJECTS))

    look()
    assert outputs >= {"sales", "quarters", "daily", "demand", REJECTS}
    assert stages >= {
        *(("clean", "non_positive_quantity"), ("clean", "discount_out_of_range"), ("clean", "duplicate")),
        *(("window", "late"), ("decode", "invalid_json"), ("decode", "truncated_json")),
    }


# ---- rows as Arrow columns ----

FLAT = parse_job(
    order_job(
        "order_flat",
        clean={"rule": RULES, "duplicates": {"key": ["event_id", "sku"]}},
        sink=[{"output": "rows", "type": "stdout"}],
    )
)
TEXT_COLUMNS = ("event_id", "event_type", "order_id", "channel", "store_id", "customer_id", "sku", "size")


def some_orders() -> list[dict[str, Any]]:
    """Rows by column name, in nearly the order of their times, some late, some wrong, some twice."""
    draw = random.Random(11)
    rows = []
    for number in range(400):
        at = datetime(2026, 11, 11, tzinfo=UTC) + timedelta(
            minutes=number * 4 + draw.choice([0, -3, -9, -90])
        )
        rows.append(
            {
                "event_id": f"e{number - draw.choice([0, 0, 0, 1])}",
                "event_type": draw.choice(["paid", "paid", "returned", "cancelled"]),
                "event_time": at + timedelta(milliseconds=draw.randrange(1000)),
                "order_id": f"o{number // 3}",
                "channel": draw.choice(["web", "app", "微信", None]),
                "store_id": draw.choice(["S1", None]),
                "customer_id": draw.choice(["c1", "c2", None]),
                "sku": draw.choice(["A", "B", "C"]),
                "size": draw.choice(["36", "37", None]),
                "quantity": draw.choice([1, 2, 3, 0, -4]),
                "unit_price": draw.choice([Decimal(100), Decimal("59.9"), Decimal("19.9999")]),
                "unit_cost": draw.choice([Decimal(30), Decimal("99.5"), None]),
                "discount": draw.choice([Decimal("0.15"), Decimal(0), Decimal("1.5"), None]),
                "currency": "CNY",
            }
        )
    return rows


def as_json(row: dict[str, Any]) -> bytes:
    spelled = {("qty" if name == "quantity" else name): value for name, value in row.items()}
    spelled["event_time"] = row["event_time"].isoformat()
    return json.dumps(spelled, default=float).encode()


ORDERS = some_orders()
PLAIN = pa.Table.from_pylist(ORDERS, schema=JOBS["order_flat"].schema.arrow_schema())


def with_types(**types: pa.DataType) -> pa.Table:
    table = PLAIN
    for name, kind in types.items():
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(pa.utf8())
        column = column.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else column.cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def shuffled_dictionary() -> pa.Table:
    """Codes of another order, with a text that is there twice and one that is null."""
    codes = {"A": 3, "B": 1, "C": 0}
    sku = pa.DictionaryArray.from_arrays(
        pa.array([codes[row["sku"]] for row in ORDERS], pa.int8()),
        pa.array(["C", "B", "C", "A"], pa.large_utf8()),
    )
    size = pa.DictionaryArray.from_arrays(
        pa.array([{"36": 1, "37": 2, None: 0}[row["size"]] for row in ORDERS], pa.uint16()),
        pa.array([None, "36", "37"]),
    )
    return PLAIN.set_column(PLAIN.schema.get_field_index("sku"), "sku", sku).set_column(
        PLAIN.schema.get_field_index("size"), "size", size
    )


def with_floats(*names: str) -> pa.Table:
    table = PLAIN
    for name in names:
        floats = [None if row[name] is None else float(row[name]) for row in ORDERS]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(floats))
    return table


def duckdb_relation() -> Any:
    flat = with_types(**dict.fromkeys(TEXT_COLUMNS[1:], pa.utf8()))
    return duckdb.connect().from_arrow(flat).select("*")


CARRIERS: dict[str, Callable[[], list[Any]]] = {
    "table": lambda: [PLAIN],
    "batches": lambda: PLAIN.to_batches(max_chunksize=77),
    "chunks": lambda: [pa.Table.from_batches(PLAIN.to_batches(max_chunksize=33))],
    "slices": lambda: [PLAIN.slice(0, 7), PLAIN.slice(7, 200), PLAIN.slice(207)],
    "reader": lambda: [pa.RecordBatchReader.from_batches(PLAIN.schema, PLAIN.to_batches(50))],
    "structs": lambda: [pa.concat_arrays(PLAIN.to_struct_array().chunks)],
    "sliced structs": lambda: [
        pa.concat_arrays(PLAIN.to_struct_array().chunks).slice(at, size) for at, size in ((0, 5), (5, 395))
    ],
    "columns in another order, and more of them": lambda: [
        PLAIN.select(PLAIN.schema.names[::-1]).append_column("note", pa.array(["x"] * 400))
    ],
    "plain strings": lambda: [with_types(**dict.fromkeys(TEXT_COLUMNS, pa.utf8()))],
    "large strings": lambda: [with_types(**dict.fromkeys(TEXT_COLUMNS, pa.large_utf8()))],
    "string views": lambda: [with_types(**dict.fromkeys(TEXT_COLUMNS, pa.string_view()))],
    "dictionaries for all": lambda: [
        with_types(**dict.fromkeys(TEXT_COLUMNS, pa.dictionary(pa.int32(), pa.utf8())))
    ],
    "small codes": lambda: [
        with_types(**dict.fromkeys(TEXT_COLUMNS[4:], pa.dictionary(pa.int8(), pa.utf8())))
    ],
    "shuffled codes": lambda: [shuffled_dictionary()],
    "short integers": lambda: [with_types(quantity=pa.int8())],
    "decimals for integers": lambda: [with_types(quantity=pa.decimal128(19, 0))],
    "decimals": lambda: [with_types(unit_price=pa.decimal128(38, 10), unit_cost=pa.decimal128(10, 4))],
    "floats": lambda: [with_floats("unit_price", "unit_cost", "discount")],
    "microseconds": lambda: [with_types(event_time=pa.timestamp("us", "UTC"))],
    "nanoseconds in Shanghai": lambda: [with_types(event_time=pa.timestamp("ns", "Asia/Shanghai"))],
    "naive times": lambda: [with_types(event_time=pa.timestamp("us"))],
    "polars": lambda: [pl.from_arrow(PLAIN)],
    "polars, categories": lambda: [
        pl.from_arrow(PLAIN).with_columns(pl.col("sku", "size").cast(pl.Categorical))
    ],
    "duckdb": lambda: [duckdb_relation()],
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_columns_are_as_good_as_json(carrier: str) -> None:
    expected = run(FLAT, [list(map(as_json, ORDERS))])
    got = run(FLAT, CARRIERS[carrier]())
    schemas = new_pipeline(FLAT).schemas()
    assert got.ipc_bytes(schemas) == expected.ipc_bytes(schemas)
    places = ("position", "line", "stage", "reason", "field")
    assert [[each[name] for name in places] for each in got.rejects()] == [
        [each[name] for name in places] for each in expected.rejects()
    ]
    assert {each["reason"] for each in got.rejects()} >= {"late", "duplicate", "price_below_cost"}
    assert got.metrics == expected.metrics | {"unknown_fields": 0}


def test_a_rejected_row_of_columns_is_kept_as_json() -> None:
    result = run(FLAT, [PLAIN])
    row = ORDERS[result.rejects()[0]["position"]]
    kept = json.loads(result.rejects()[0]["bytes"], parse_float=Decimal)
    assert datetime.fromisoformat(kept.pop("event_time")) == row["event_time"]
    assert kept.items() >= {name: value for name, value in row.items() if name != "event_time"}.items()


def test_defaults_stand_in_for_nulls_and_missing_columns() -> None:
    times = pa.array([START_MS, START_MS], pa.timestamp("ms", "UTC"))
    sparse = pa.table({"id": ["i", "j"], "at": times, "pieces": pa.array([None, 7], pa.int32())})
    result = run(JOBS["parcels"], [sparse])
    assert [(row["carrier"], row["pieces"]) for row in result.rows(ROWS)] == [("post", 1), ("post", 7)]


NO_ROWS = {
    "lack the required column 'sku'": lambda: PLAIN.drop_columns(["sku"]),
    "column 'sku' is required and holds nulls": lambda: pa.concat_tables(
        [PLAIN, PLAIN.slice(0, 1).set_column(7, "sku", pa.nulls(1, PLAIN.schema.field("sku").type))]
    ),
    "column 'unit_price' is double .* 1e-05 is no decimal of 4 places": lambda: PLAIN.set_column(
        PLAIN.schema.get_field_index("unit_price"), "unit_price", pa.array([1e-5] * 400)
    ),
    "column 'quantity' is double": lambda: PLAIN.set_column(
        PLAIN.schema.get_field_index("quantity"), "quantity", pa.array([0.5] * 400)
    ),
    "an Arrow array of int64 holds neither messages": lambda: pa.array([1, 2]),
    "cannot read a str; push bytes": lambda: '{"event_id": 1}',
}


@pytest.mark.parametrize("message", NO_ROWS)
def test_what_is_no_data_changes_nothing(message: str) -> None:
    pipeline = new_pipeline(FLAT)
    pipeline.push(PLAIN.slice(0, 10))
    before = meaning(pipeline)
    with pytest.raises(SchemaError, match=message):
        pipeline.push(NO_ROWS[message]())
    assert meaning(pipeline) == before


def test_a_null_is_no_message() -> None:
    pipeline = new_pipeline(FLAT)
    rejects = pipeline.push(pa.array([b"x", None, b"y"]))[REJECTS]
    assert [row["position"] for batch in rejects for row in batch.to_pylist()] == [0, 2]
    assert pipeline.metrics().messages == 2


# ---- positions ----


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


Restore = Callable[[Snapshot | Path], Pipeline]


def check_restored(
    job: JobSpec, stream: list[bytes], folder: Path, data: st.DataObject, homes: list[Restore]
) -> None:
    """Restore, at any place, in any of the homes."""
    parts = cut(stream, data.draw(PLACES))
    ways = data.draw(st.lists(st.sampled_from(["stay", "memory", "disk"]), min_size=len(parts)))

    def between(pipeline: Pipeline, number: int) -> Pipeline:
        if ways[number] == "stay":
            return pipeline
        home = data.draw(st.sampled_from(homes))
        snapshot = pipeline.snapshot({"topic": number})
        assert snapshot.manifest["positions"] == {"topic": number}
        packed = snapshot.to_bytes()
        if ways[number] == "memory":
            restored = home(Snapshot.from_bytes(packed))
        else:
            snapshot.save(folder)
            restored = home(folder)
        assert meaning(restored) == meaning(pipeline)
        return restored

    assert_same(run(job, map(list, parts), between), run(job, map(list, parts)), job)


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
