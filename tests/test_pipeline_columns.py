"""Rows as Arrow columns, of any library and type, are as good as messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest

from omnistream.errors import SchemaError
from omnistream.spec import ROWS
from tests.pipeline_jobs import FLAT, JOBS, ORDERS, PLAIN, as_json
from tests.pipeline_runs import meaning, new_pipeline, run
from tests.strategies import START_MS

TEXT_COLUMNS = ("event_id", "event_type", "order_id", "channel", "store_id", "customer_id", "sku", "size")


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
