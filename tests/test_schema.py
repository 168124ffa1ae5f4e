"""Schemas: what they read, what they refuse and what they say about it."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from omnistream.errors import SchemaError
from omnistream.schema import BUILTIN, ORDER, ORDER_FLAT, Field, Schema, parse_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sku", (("sku",), ())),
        ("customer.id", (("customer", "id"), ())),
        ("lines[].sku", (("lines", "sku"), (1,))),
        ("order.lines[].product.sku", (("order", "lines", "product", "sku"), (2,))),
        ("order.fulfillments[].items[].sku", (("order", "fulfillments", "items", "sku"), (2, 3))),
        ('payload."a.b"', (("payload", "a.b"), ())),
        (r'"a\"b\\c"."d[]"[].e', (('a"b\\c', "d[]", "e"), (2,))),
        ('""', (("",), ())),
        ("größe.$id", (("größe", "$id"), ())),
    ],
)
def test_paths(text: str, expected: tuple[tuple[str, ...], tuple[int, ...]]) -> None:
    assert parse_path(text) == expected


@pytest.mark.parametrize(
    ("fields", "explode", "message"),
    [
        ([Field("a", "string"), Field("a", "int64", "b")], "", "field 'a': two fields have this name"),
        ([Field("a", "string"), Field("b", "string", "a")], "", "field 'b': path 'a' feeds field 'a', too"),
        ([Field("a", "string"), Field("b", "string", "a.b")], "", "field 'a' reads a value where field 'b'"),
        ([Field("a", "string", "x[].a")], "", "set explode = 'x\\[\\]'"),
        ([Field("a", "string", "x[].a"), Field("b", "string", "y[].b")], "x[]", "field 'b'.*second array"),
        ([Field("a", "string", "x[]")], "x[]", "field 'a'.*names a whole line"),
        ([Field("a", "string", "x.a")], "x[]", "field 'a': its path enters 'x\\[\\]' without \\[\\]"),
        ([Field("a", "string", "x")], "x[]", "field 'a' reads a value where explode = 'x\\[\\]' enters"),
        ([Field("a", "string")], "x", "must end with \\[\\]"),
        ([Field("a", "string")], "w[].x[].y[].z[]", "enters 4 arrays; at most 3"),
        (
            [Field("a", "string", "x[].y.a")],
            "x[].y[]",
            "field 'a': its path enters 'x\\[\\].y\\[\\]' without",
        ),
        ([Field(f"f{i}", "int32", f"o{i}.x") for i in range(61)], "", "enter 61 objects; at most 60"),
        ([Field("a", "string")], ".".join("k" * 61) + "[]", "enter 61 objects; at most 60"),
        ([Field("a", "string")], "x[].y", "must end with \\[\\]"),
        ([], "", "no fields"),
        ([Field(f"f{i}", "int32") for i in range(65)], "", "65 message-level fields; at most 64"),
        ([Field(f"f{i}", "int32", f"x[].f{i}") for i in range(65)], "x[]", "65 line-level fields"),
        ([Field("a", "string", ".".join("k" * 65))], "", "65 deep; raise max_depth"),
    ],
)
def test_refused_schemas(fields: list[Field], explode: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema("shop", tuple(fields), explode)


def test_sixty_four_fields_per_level_are_allowed() -> None:
    head = [Field(f"f{i}", "int32") for i in range(64)]
    lines = [Field(f"g{i}", "int32", f"x[].f{i}") for i in range(64)]
    assert len(Schema("wide", (*head, *lines), "x[]").to_core()["fields"]) == 128


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"name": "a", "type": "strnig"}, "field 'a': unknown type 'strnig'; did you mean 'string'"),
        ({"name": "a", "type": "money"}, "unknown type 'money'; known: string"),
        ({"name": "a"}, "field 'a': type is missing"),
        ({"type": "string"}, "field number 1: name is missing"),
        ({"name": "", "type": "string"}, "name must be a non-empty string"),
        ({"name": "a", "type": "string", "requird": True}, "unknown key 'requird'; did you mean 'required'"),
        ({"name": "a", "type": "string", "required": 1}, "required must be true or false"),
        ({"name": "a", "type": "string", "path": 3}, "path must be a string"),
        ({"name": "a", "type": "string", "path": "a..b"}, "empty key at character 3"),
        ({"name": "a", "type": "string", "path": "a]"}, "']' at character 2"),
        ({"name": "a", "type": "string", "path": '"a'}, "no closing quote"),
        ({"name": "a", "type": "string", "path": "a."}, "empty key at character 3"),
        ({"name": "a", "type": "bool", "coerce": True}, "coerce has no meaning for bool"),
        ({"name": "a", "type": "timestamp", "format": "iso"}, "unknown timestamp format 'iso'"),
        ({"name": "a", "type": "timestamp", "format": []}, "format must be a name or a list"),
        ({"name": "a", "type": "timestamp", "format": [["iso8601"]]}, "unknown timestamp format"),
        ({"name": "a", "type": "timestamp", "format": ["epoch_s", "epoch_ms"]}, "cannot be told apart"),
        ({"name": "a", "type": "string", "format": "epoch_s"}, "format is for timestamps"),
        ({"name": "a", "type": "int64", "required": True, "default": 1}, "exclude each other"),
        ({"name": "a", "type": "string", "default": 1}, "write a string"),
        ({"name": "a", "type": "string", "default": "\ud800"}, "write a string"),
        ({"name": "a", "type": "bool", "default": 1}, "write true or false"),
        ({"name": "a", "type": "int32", "default": 2**31}, "whole number from"),
        ({"name": "a", "type": "int64", "default": True}, "whole number"),
        ({"name": "a", "type": "int64", "default": 1.0}, "whole number"),
        ({"name": "a", "type": "float64", "default": float("inf")}, "finite"),
        ({"name": "a", "type": "decimal", "default": "1.00001"}, "at most 4 decimals"),
        ({"name": "a", "type": "decimal", "default": "NaN"}, "at most 4 decimals"),
        ({"name": "a", "type": "decimal", "default": 10**18}, "at most 4 decimals"),
        ({"name": "a", "type": "decimal", "default": "x"}, "at most 4 decimals"),
        ({"name": "a", "type": "timestamp", "default": "2026-11-11T00:00:00"}, "with an offset"),
        ({"name": "a", "type": "timestamp", "default": "today"}, "with an offset"),
    ],
)
def test_refused_fields(table: dict[str, object], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict({"name": "shop", "field": [table]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feild": []}, "unknown key 'feild'; did you mean 'field'"),
        ({"field": "x"}, r"write \[\[field\]\]"),
        ({"field": [{"name": "a", "type": "string"}], "max_depth": 0}, "max_depth must be a whole number"),
        ({"field": [{"name": "a", "type": "string"}], "max_message_bytes": True}, "max_message_bytes must"),
        ({"field": [{"name": "a", "type": "string"}], "strict_utf8": "no"}, "strict_utf8 must be true or"),
        ({"field": [{"name": "a", "type": "string"}], "explode": ["a", "b"]}, "explode must be one path"),
        ({"field": [{"name": "a", "type": "string"}], "name": ""}, "name must be a non-empty string"),
    ],
)
def test_refused_tables(change: dict[str, object], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        Schema.from_dict(change)


def test_toml(tmp_path) -> None:
    text = """
        explode = "order.items[]"
        max_depth = 8

        [[field]]
        name = "ordered_at"
        type = "timestamp"
        path = "order.\\"created.at\\""
        format = ["iso8601_utc", "epoch_ms"]
        default = 2026-11-11T01:00:00.123456+01:00

        [[field]]
        name = "price"
        type = "decimal"
        path = "order.items[].price"
        coerce = true
        default = "9.95"

        [[field]]
        name = "sku"
        type = "dictionary"
        path = "order.items[].sku"
        required = true
        """
    path = tmp_path / "shopify.toml"
    path.write_text(text, encoding="utf-8")
    schema = Schema.from_toml(path)
    assert schema.name == "shopify"
    assert Schema.from_dict(schema.to_dict()) == schema
    assert schema.to_core() == {
        "fields": [
            {
                "name": "ordered_at",
                "path": ["order", "created.at"],
                "type": "timestamp",
                "level": 0,
                "required": False,
                "coerce": False,
                "timestamp_forms": 10,
                "has_default": True,
                "default_integer": 1_794_355_200_123,
                "default_float": 0.0,
                "default_string": "",
            },
            {
                "name": "price",
                "path": ["price"],
                "type": "decimal",
                "level": 1,
                "required": False,
                "coerce": True,
                "timestamp_forms": 1,
                "has_default": True,
                "default_integer": 99_500,
                "default_float": 0.0,
                "default_string": "",
            },
            {
                "name": "sku",
                "path": ["sku"],
                "type": "dictionary",
                "level": 1,
                "required": True,
                "coerce": False,
                "timestamp_forms": 1,
                "has_default": False,
                "default_integer": 0,
                "default_float": 0.0,
                "default_string": "",
            },
        ],
        "explode": [{"path": ["order", "items"], "name": "order.items[]"}],
        "max_message_bytes": 1 << 20,
        "max_depth": 8,
        "strict_utf8": False,
        "array_messages": False,
    }
    path.write_text(
        "[schema]\n[[schema.field]]\nname = 'a'\ntype = 'float64'\ndefault = 1\n", encoding="utf-8"
    )
    assert Schema.from_toml(path).to_core()["fields"][0]["default_float"] == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = ", "schema.toml: not TOML"),
        ("[[field]]\nname = 'a'\ntype = 'int'", "schema.toml: field 'a': unknown type 'int'"),
        ("[[field]]\nname = 'a'\ntype = 'int32'\nmax_depth = 3", "schema.toml: field 'a': unknown key"),
    ],
)
def test_toml_mistakes_name_the_file(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "schema.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SchemaError, match=message):
        Schema.from_toml(path)


def test_missing_toml(tmp_path) -> None:
    with pytest.raises(SchemaError, match=r"none.toml: cannot read the schema: No such file"):
        Schema.from_toml(tmp_path / "none.toml")


def test_names_with_dots_are_keys() -> None:
    field = Schema("s", (Field("a.b", "string"),)).to_core()["fields"][0]
    assert (field["name"], field["path"]) == ("a.b", ["a.b"])


def test_arrow_schema() -> None:
    fields = [Field(name, name) for name in ("string", "dictionary", "int32", "int64", "decimal", "float64")]
    fields += [
        Field("bool", "bool"),
        Field("timestamp", "timestamp", default=datetime(2026, 1, 1, tzinfo=UTC)),
    ]
    assert Schema("all", tuple(fields)).arrow_schema() == pa.schema(
        [
            ("string", pa.utf8()),
            ("dictionary", pa.dictionary(pa.int32(), pa.utf8())),
            ("int32", pa.int32()),
            ("int64", pa.int64()),
            ("decimal", pa.decimal128(19, 4)),
            ("float64", pa.float64()),
            ("bool", pa.bool_()),
            ("timestamp", pa.timestamp("ms", "UTC")),
        ]
    )


def test_select_keeps_required_fields_in_schema_order() -> None:
    required = [field.name for field in ORDER.fields if field.required]
    assert required == ["event_id", "event_type", "event_time", "sku", "quantity", "unit_price"]
    chosen = ORDER.select(["currency", "channel", "sku"])
    assert [field.name for field in chosen.fields] == [*required[:3], "channel", *required[3:], "currency"]
    assert chosen.explode == ORDER.explode
    with pytest.raises(SchemaError, match="schema 'order': no field 'chanel'; did you mean 'channel'"):
        ORDER.select(["chanel"])


def test_fingerprint_follows_the_meaning_and_not_the_name() -> None:
    base = Schema("a", (Field("x", "int64"),))
    assert base.fingerprint() == Schema("b", (Field("x", "int64", "x"),)).fingerprint()
    others = [
        Schema("a", (Field("x", "int32"),)),
        Schema("a", (Field("x", "int64", default=0),)),
        Schema("a", (Field("x", "int64", coerce=True),)),
        Schema("a", (Field("x", "int64"),), max_depth=5),
        Schema("a", (Field("x", "int64"),), explode="lines[]"),
    ]
    assert len({each.fingerprint() for each in [base, *others]}) == 6


def test_builtins_survive_their_tables() -> None:
    assert set(BUILTIN) == {"order", "order_flat", "stock_movement", "inbound_shipment", "price_change"}
    for schema in BUILTIN.values():
        assert Schema.from_dict(schema.to_dict()) == schema
    flat = [field["path"][-1] for field in ORDER_FLAT.to_core()["fields"]]
    assert flat == [
        *("event_id", "event_type", "event_time", "order_id", "channel", "store_id", "customer_id"),
        *("sku", "size", "qty", "unit_price", "unit_cost", "discount", "currency"),
    ]
