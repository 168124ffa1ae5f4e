"""Messages as shops and connectors send them: each schema in examples/schemas reads its payloads as written.

The payloads are ours, after the public documentation of each platform; the last of each file is a reject.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.infer import diff_schema
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.schema import Schema
from tests import reference
from tests.engines import CpuEngine

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "examples" / "schemas"
PAYLOADS = ROOT / "tests" / "data" / "shapes"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@dataclass
class Shape:
    """What comes out: rows under their columns, the reject of the last payload, the places nobody reads."""

    time: str
    columns: str
    rows: list[tuple[Any, ...]]
    empty: int  # payloads without a line
    reason: str
    at_field: str
    fault: bytes | None  # the bytes that the reject points at
    unread: set[str]
    line: int | None = None

    def row_dicts(self) -> list[dict[str, Any]]:
        names = self.columns.split()
        return [dict(zip(names, row, strict=True)) for row in self.rows]


CHANGES = Shape(
    time="changed_at",
    columns="op changed_at committed_at table id sku location on_hand unit_cost counted_at "
    "id_before on_hand_before",
    rows=[
        (
            *("c", at("2026-11-11T05:30:00.437"), at("2026-11-11T05:30:00.120"), "stock_levels"),
            *(31, "CAP-W-RED", "CGN-1", 40, Decimal("6.125"), at("2026-11-11T05:30:00.123"), None, None),
        ),
        (
            *("u", at("2026-11-11T05:31:00.001"), at("2026-11-11T05:31:00"), "stock_levels"),
            *(31, "CAP-W-RED", "CGN-1", 38, None, None, 31, 40),
        ),
        (
            *("d", at("2026-11-11T05:32:00.500"), at("2026-11-11T05:32:00"), "stock_levels"),
            *(None, None, None, None, None, None, 31, 38),
        ),
    ],
    empty=0,
    reason="wrong_type",
    at_field="unit_cost",
    fault=b'"Alg="',  # a numeric as bytes: decimal.handling.mode is not string
    unread={
        *(
            "before.sku",
            "before.location",
            "before.unit_cost",
            "before.counted_at",
            "before.bin",
            "after.bin",
        ),
        *("source.version", "source.connector", "source.name", "source.snapshot", "source.db"),
        *("source.schema", "source.txId", "source.lsn"),
    },
)

SHAPES = {
    "shopify_order": Shape(
        time="created_at",
        columns="order_id order_name created_at currency financial_status channel location_id customer_id "
        "total_discounts sku variant_id quantity unit_price presentment_price presentment_currency",
        rows=[
            (
                *("5710444372019", "#2041", at("2026-11-11T14:14:07"), "CAD", "paid", "web", None),
                *("7203991486643", Decimal("30.7"), "TRAIL-GTX-42", "44730921549987", 2, Decimal(119)),
                *(Decimal("84.9"), "USD"),
            ),
            (
                *("5710444372019", "#2041", at("2026-11-11T14:14:07"), "CAD", "paid", "web", None),
                *("7203991486643", Decimal("30.7"), None, None, 1, Decimal(69), Decimal("49.22"), "USD"),
            ),
            (
                *("5710444404787", "#2042", at("2026-11-11T14:20:31"), "CAD", "pending", "pos"),
                *(
                    "68021977139",
                    None,
                    Decimal(0),
                    "SOCK-M",
                    "44730921582755",
                    1,
                    Decimal("24.5"),
                    None,
                    None,
                ),
            ),
        ],
        empty=1,
        reason="wrong_type",
        at_field="unit_price",
        fault=b'"24,50"',
        line=1,
        unread={
            *(
                "admin_graphql_api_id",
                "order_number",
                "processed_at",
                "presentment_currency",
                "taxes_included",
            ),
            *("tags", "total_line_items_price", "total_price", "customer.email", "customer.first_name"),
            *("discount_codes[].code", "discount_codes[].amount", "discount_codes[].type"),
            *("total_discounts_set.shop_money.amount", "total_discounts_set.shop_money.currency_code"),
            "total_discounts_set.presentment_money.amount",
            "total_discounts_set.presentment_money.currency_code",
            *("customer.default_address.city", "customer.default_address.country_code"),
            *(
                "line_items[].id",
                "line_items[].product_id",
                "line_items[].title",
                "line_items[].variant_title",
            ),
            *("line_items[].total_discount", "line_items[].price_set.shop_money.amount"),
            "line_items[].price_set.shop_money.currency_code",
            *("line_items[].discount_allocations[].amount", "line_items[].properties[].name"),
            "line_items[].discount_allocations[].discount_application_index",
            "line_items[].properties[].value",
        },
    ),
    "shopify_fulfillment": Shape(
        time="shipped_at",
        columns="order_id fulfillment_id shipped_at status shipment_status location_id carrier "
        "tracking_number sku quantity",
        rows=[
            (
                *("5710444372019", "5092233216051", at("2026-11-12T13:05:00"), "success", "in_transit"),
                *("68021977139", "Canada Post", "7023210039414604", "TRAIL-GTX-42", 1),
            ),
            (
                *("5710444372019", "5092233216051", at("2026-11-12T13:05:00"), "success", "in_transit"),
                *("68021977139", "Canada Post", "7023210039414604", None, 1),
            ),
            (
                *("5710444372019", "5092233248819", at("2026-11-13T14:00:00.250"), "pending", "unknown"),
                *("68021977140", None, None, "TRAIL-GTX-42", 1),
            ),
            (
                *("5710444404787", "5092233314355", at("2026-11-12T11:00:00"), None, "unknown"),
                *(None, None, None, "SOCK-M", 1),
            ),
        ],
        empty=1,
        reason="missing_field",
        at_field="fulfillments[].line_items[]",
        fault=None,
        unread={
            *("name", "fulfillment_status", "line_items[].id", "line_items[].sku", "line_items[].quantity"),
            *("fulfillments[].order_id", "fulfillments[].name", "fulfillments[].service"),
            *("fulfillments[].tracking_numbers", "fulfillments[].line_items[].id"),
            *("fulfillments[].line_items[].price", "fulfillments[].line_items[].fulfillment_status"),
        },
    ),
    "woocommerce_order": Shape(
        time="created_at",
        columns="order_id status created_at paid_at currency channel customer_id country sku product_id "
        "quantity unit_price line_subtotal line_total",
        rows=[
            (
                *("90311", "processing", at("2026-11-11T18:45:12"), at("2026-11-11T18:46:00"), "EUR"),
                *("checkout", "412", "DE", "CAP-W-RED", 77, 10, 14.309999999999999),
                *(Decimal("147.87"), Decimal("143.1")),
            ),
            (
                *("90311", "processing", at("2026-11-11T18:45:12"), at("2026-11-11T18:46:00"), "EUR"),
                *("checkout", "412", "DE", "", 78, 3, 2.3, Decimal("6.9"), Decimal("6.9")),
            ),
            (
                *("90312", "on-hold", at("2026-11-11T19:00:00"), None, "EUR"),
                *("admin", "0", "", None, 0, 0, 0.0, None, Decimal(0)),
            ),
        ],
        empty=1,
        reason="inexact_number",
        at_field="quantity",
        fault=b"0.75",
        line=0,
        unread={
            *("parent_id", "number", "order_key", "version", "date_created", "date_paid", "discount_total"),
            *("shipping_total", "total", "prices_include_tax", "customer_note", "payment_method"),
            *("billing.first_name", "billing.company", "billing.city", "billing.email"),
            *("coupon_lines[].id", "coupon_lines[].code", "coupon_lines[].discount"),
            *("meta_data[].id", "meta_data[].key", "meta_data[].value"),
            *("meta_data[].value.wrap", "meta_data[].value.lines"),
            *("line_items[].id", "line_items[].name", "line_items[].variation_id", "line_items[].tax_class"),
            *("line_items[].subtotal_tax", "line_items[].total_tax", "line_items[].taxes[].id"),
            *("line_items[].taxes[].total", "line_items[].taxes[].subtotal", "line_items[].meta_data[].id"),
            *("line_items[].meta_data[].key", "line_items[].meta_data[].value"),
            "line_items[].meta_data[].display_value",
        },
    ),
    "spree_order": Shape(
        time="event_time",
        columns="event_id event_type event_time order_id order_number payment_state completed_at currency "
        "variant_id options quantity unit_price promotion",
        rows=[
            (
                *("0b9df2f7-5f51-4c83-9a0e-6f3d9d4f7a11", "order.completed", at("2026-11-11T10:02:03")),
                *("or_Qx7Lw2Kd", "R550214907", "paid", at("2026-11-11T10:02:02.907"), "GBP"),
                *("var_9KdT2", "Size: M, Colour: Ink", 2, Decimal(45), Decimal(-9)),
            ),
            (
                *("0b9df2f7-5f51-4c83-9a0e-6f3d9d4f7a11", "order.completed", at("2026-11-11T10:02:03")),
                *("or_Qx7Lw2Kd", "R550214907", "paid", at("2026-11-11T10:02:02.907"), "GBP"),
                *("var_9KdT7", "", 1, Decimal(81), Decimal(0)),
            ),
            (
                *("7c5cbf0e-23a6-4a0f-8f53-1b8a3f6d2e90", "order.canceled", at("2026-11-11T11:00:00")),
                *("or_Qx7Lw2Ke", "R550214908", None, None, "GBP"),
                *("var_9KdT2", None, 1, Decimal(45), Decimal(0)),
            ),
        ],
        empty=1,
        reason="invalid_timestamp",
        at_field="event_time",
        fault=b'"2026-11-11 11:06"',
        unread={
            *("metadata.spree_version", "data.state", "data.email", "data.item_count", "data.item_total"),
            *("data.display_item_total", "data.promo_total", "data.total", "data.payments[].id"),
            *("data.payments[].amount", "data.payments[].state", "data.items[].id", "data.items[].name"),
            *("data.items[].slug", "data.items[].display_price", "data.items[].total"),
            "data.items[].option_values[].name",
        },
    ),
    "debezium_unwrapped": CHANGES,
    "debezium": Shape(
        CHANGES.time,
        CHANGES.columns,
        CHANGES.rows,
        CHANGES.empty,
        CHANGES.reason,
        CHANGES.at_field,
        CHANGES.fault,
        unread={
            *(f"payload.{path}" for path in CHANGES.unread),
            *(
                "schema.type",
                "schema.name",
                "schema.optional",
                "schema.fields[].type",
                "schema.fields[].field",
            ),
            *("schema.fields[].optional", "schema.fields[].fields[].type", "schema.fields[].fields[].field"),
            "schema.fields[].fields[].optional",
        },
    ),
    "cloudevents": Shape(
        time="event_time",
        columns="event_id source event_type event_time subject sku location change cause",
        rows=[
            (
                *("b7d1", "/shops/cologne/till-3", "org.example.stock.sold", at("2026-11-11T16:31:00.5")),
                *("CAP-W-RED", "CAP-W-RED", "CGN-1", -2, "sale"),
            ),
            (
                *("b7d2", "/wms", "org.example.stock.counted", at("2026-11-11T16:40:00")),
                *(None, "SOCK-M", "unknown", 12, None),
            ),
        ],
        empty=0,
        reason="missing_field",
        at_field="sku",
        fault=None,
        unread={
            *("specversion", "datacontenttype", "traceparent", "data.location.name", "data.receipt"),
            "data_base64",
        },
    ),
}


def payloads(name: str) -> list[bytes]:
    return [json.dumps(each).encode() for each in json.loads((PAYLOADS / f"{name}.json").read_bytes())]


def pipeline(name: str) -> Pipeline:
    job = {"schema": {"path": str(SCHEMAS / f"{name}.toml")}, "time": {"column": SHAPES[name].time}}
    return Pipeline(parse_job(job))


def all_rows(outputs: dict[str, Any], output: str) -> list[dict[str, Any]]:
    return [row for batch in outputs.get(output, []) for row in batch.to_pylist()]


def test_every_schema_has_its_payloads_and_expectations() -> None:
    assert {path.stem for path in SCHEMAS.glob("*")} == SHAPES.keys()
    assert {path.stem for path in PAYLOADS.glob("*")} == SHAPES.keys()


@pytest.mark.parametrize("name", SHAPES)
def test_rows_come_out_as_written(name: str) -> None:
    shape, messages = SHAPES[name], payloads(name)
    stage = pipeline(name)
    outputs = stage.push(messages)
    assert all_rows(outputs, "rows") == shape.row_dicts()
    metrics = stage.metrics()
    assert (metrics.messages, metrics.rejected_messages) == (len(messages), 1)
    assert (metrics.rows, metrics.empty_messages) == (len(shape.rows), shape.empty)
    assert metrics.unknown_fields > 0
    assert metrics.balanced


@pytest.mark.parametrize("name", SHAPES)
def test_the_last_payload_is_refused(name: str) -> None:
    shape, messages = SHAPES[name], payloads(name)
    (reject,) = all_rows(pipeline(name).push(messages), "rejects")
    assert (reject["reason"], reject["field"], reject["line"]) == (shape.reason, shape.at_field, shape.line)
    assert reject["byte_offset"] == (None if shape.fault is None else messages[-1].index(shape.fault))
    assert (reject["position"], reject["bytes"]) == (len(messages) - 1, messages[-1])


@pytest.mark.parametrize("name", SHAPES)
def test_the_reference_and_every_instruction_set_agree(name: str) -> None:
    schema, messages = Schema.from_toml(SCHEMAS / f"{name}.toml").to_core(), payloads(name) * 3
    rows, rejects, counts = reference.decode_messages(schema, messages)
    assert len(rows) == 3 * len(SHAPES[name].rows)
    for isa in _core.decode_isas():
        decoded = CpuEngine(isa).decoder(schema).messages(messages)
        assert decoded.rows == [row.values for row in rows]
        assert (decoded.rejects, decoded.counts) == (rejects, counts)


@pytest.mark.parametrize("name", SHAPES)
def test_the_command_lists_what_the_schema_leaves_out(name: str) -> None:
    files = (str(SCHEMAS / f"{name}.toml"), str(PAYLOADS / f"{name}.json"))
    command = [sys.executable, "-m", "omnistream", "schema", "diff", *files]
    printed = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert (printed.returncode, printed.stderr) == (1, "")
    lines = [line.split(": ")[0] for line in printed.stdout.splitlines()]
    assert {line[2:] for line in lines if line[0] == "+"} == SHAPES[name].unread
    assert [line for line in lines if line[0] == "-"] == []


def test_a_message_that_is_an_array_stands_for_its_events() -> None:
    shape, file = SHAPES["cloudevents"], (PAYLOADS / "cloudevents.json").read_bytes()
    stage = pipeline("cloudevents")
    outputs = stage.push([file])
    assert all_rows(outputs, "rows") == shape.row_dicts()
    (reject,) = all_rows(outputs, "rejects")
    assert (reject["reason"], reject["field"], reject["position"]) == ("missing_field", "sku", 0)
    assert json.loads(reject["bytes"]) == json.loads(file)[-1]
    assert (stage.metrics().messages, stage.metrics().decoded) == (3, 2)
    again = reference.decode_messages(Schema.from_toml(SCHEMAS / "cloudevents.toml").to_core(), [file])
    assert again[1] == [reject]


def test_a_tombstone_is_passed_over_or_a_reject() -> None:
    deleted = payloads("debezium")[2]
    outputs = pipeline("debezium").push(pa.array([deleted, None, deleted]))
    assert ([row["op"] for row in all_rows(outputs, "rows")], "rejects" in outputs) == (["d", "d"], False)
    outputs = pipeline("debezium").push([deleted, b"", b"null"])
    assert [each["reason"] for each in all_rows(outputs, "rejects")] == ["truncated_json", "not_an_object"]


def test_a_new_field_is_ignored_counted_and_named() -> None:
    schema = Schema.from_toml(SCHEMAS / "cloudevents.toml")
    message = json.loads(payloads("cloudevents")[0])
    counts = []
    for data in (message["data"], message["data"] | {"batch": "L7"}):
        stage = pipeline("cloudevents")
        outputs = stage.push([json.dumps(message | {"data": data}).encode()])
        assert all_rows(outputs, "rows") == SHAPES["cloudevents"].row_dicts()[:1]
        counts.append(stage.metrics().unknown_fields)
    assert counts[1] == counts[0] + 1
    named = diff_schema(schema, json.dumps(message | {"data": data}).encode())
    assert ("data.batch", "string", 1.0) in [(each.path, each.type, each.share) for each in named.unread]


def test_windows_over_a_shape() -> None:
    """The net turnover of a WooCommerce shop by SKU, which its schema makes a sum."""
    window = {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["sum(line_total) as turnover"]}
    job = {
        "schema": {"path": str(SCHEMAS / "woocommerce_order.toml")},
        "time": {"column": "created_at"},
        "window": [window],
    }
    stage = Pipeline(parse_job(job))
    stage.push(payloads("woocommerce_order"))
    rows = all_rows(stage.flush(), "daily")
    assert [(row["sku"], row["turnover"]) for row in rows] == [
        *((None, Decimal(0)), ("", Decimal("6.9")), ("CAP-W-RED", Decimal("143.1"))),
    ]
