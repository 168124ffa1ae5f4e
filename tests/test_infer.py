"""A proposed schema reads its sample; a difference between the two is named."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream import _core
from omnistream.errors import SchemaError, SourceError
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.infer import diff_schema, infer, infer_schema, to_toml
from omnistream.schema import BUILTIN, ORDER, ORDER_FLAT, Schema


def ndjson(*messages: Any) -> bytes:
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


def types(sample: bytes) -> dict[str, str]:
    return {field.name: field.type for field in infer_schema(sample).fields}


def from_toml(folder: Path, text: str) -> Schema:
    path = folder / "schema.toml"
    path.write_text(text, encoding="utf-8")
    return Schema.from_toml(path)


def decode(schema: Schema, sample: bytes) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    dictionaries = {field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"}
    batch, rejects, _ = _core.Decoder(schema.to_core(), dictionaries).decode_lines(sample)
    return pa.record_batch(batch), pa.record_batch(rejects)


@pytest.mark.parametrize("builtin", [ORDER_FLAT, ORDER])
def test_the_generated_shapes_are_found_again_and_decoded_whole(tmp_path: Path, builtin: Schema) -> None:
    sample = b"".join(generate_blocks(GenerateSpec(events=5_000, nested=bool(builtin.explode))))
    schema = from_toml(tmp_path, to_toml(infer(sample)))
    assert schema.explode == builtin.explode
    found = {field.json_path: field for field in schema.fields}
    assert found.keys() == {field.json_path for field in builtin.fields}
    for field in builtin.fields:
        assert found[field.json_path].type == field.type
        assert found[field.json_path].required
        assert found[field.json_path].name == ("qty" if field.name == "quantity" else field.name)
    rows, rejects = decode(schema, sample)
    assert rejects.num_rows == 0
    assert rows.num_rows == sum(len(json.loads(line).get("lines", "1")) for line in sample.splitlines())
    assert rows.schema.field("sku").type.equals(pa.dictionary(pa.int32(), pa.utf8()))
    assert not diff_schema(schema, sample)
    assert not diff_schema(builtin, sample)


def test_dirt_does_not_change_the_types_and_is_noted() -> None:
    clean = b"".join(generate_blocks(GenerateSpec(events=5_000)))
    dirty = b"".join(generate_blocks(GenerateSpec(events=5_000, dirt=0.03)))
    proposal = infer(dirty)
    assert {field.name: field.type for field in proposal.schema.fields} == types(clean)
    assert proposal.broken > 0
    assert proposal.messages + proposal.broken == 5_000
    assert not proposal.schema.field("sku").required
    assert "missing in" in proposal.remarks["sku"]
    assert any(note.startswith("unit_price: ") and "would be rejected" in note for note in proposal.notes)
    text = to_toml(proposal)
    assert f"{proposal.broken} lines are no JSON object" in text
    assert f"# {proposal.remarks['sku']}" in text


@pytest.mark.parametrize(
    ("key", "values", "type_", "coerce", "format_"),
    [
        ("flag", [True, False], "bool", False, ("iso8601",)),
        ("n", [1, 2, -3], "int64", False, ("iso8601",)),
        ("n", ["1", "2"], "string", False, ("iso8601",)),
        ("qty", ["1", "2"], "int64", True, ("iso8601",)),
        ("phone", ["13800138000", "13900139000"], "string", False, ("iso8601",)),
        ("big", [2**64, 2**65], "string", True, ("iso8601",)),
        ("unit_price", [1, 2], "decimal", False, ("iso8601",)),
        ("unitPrice", ["199.00", "5"], "decimal", True, ("iso8601",)),
        ("tax", [1.2345, 2], "decimal", False, ("iso8601",)),
        ("ratio", [0.25, 0.5], "decimal", False, ("iso8601",)),
        ("lat", [31.230416, 39.904211], "float64", False, ("iso8601",)),
        ("huge", [1e30, 1.5e40], "string", True, ("iso8601",)),
        ("at", ["2026-11-11T00:00:00Z", "2026-11-11 08:00:00.5+08:00"], "timestamp", False, ("iso8601",)),
        ("at", ["2026-11-11T00:00:00"], "timestamp", False, ("iso8601_utc",)),
        ("created_at", [1794355200, 1794355201], "timestamp", False, ("epoch_s",)),
        ("created_at", ["1794355200123"], "timestamp", True, ("epoch_ms",)),
        ("number", [1794355200], "int64", False, ("iso8601",)),
        ("day", ["2026-11-11"], "string", False, ("iso8601",)),
        ("mixed", [1, "x", 2, "y"], "string", True, ("iso8601",)),
        ("colour", ["red", "blue"], "dictionary", False, ("iso8601",)),
        ("word", [str(n % 5) + "x" for n in range(100)], "dictionary", False, ("iso8601",)),
        ("word", [str(n) + "x" for n in range(100)], "string", False, ("iso8601",)),
    ],
)
def test_values_name_their_type(
    key: str, values: list[Any], type_: str, coerce: bool, format_: tuple[str, ...]
) -> None:
    sample = ndjson(*({key: value} for value in values))
    (field,) = infer_schema(sample).fields
    assert (field.type, field.coerce, field.format) == (type_, coerce, format_)
    assert field.required
    _, rejects = decode(infer_schema(sample), sample)
    assert rejects.num_rows == 0


def test_required_means_always_there() -> None:
    schema = infer_schema(ndjson({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": None}))
    assert [field.required for field in schema.fields] == [True, False, False]


def test_names_are_snake_case_and_never_collide(tmp_path: Path) -> None:
    sample = ndjson(
        {
            "id": 1,
            "customer": {"id": 2, "fullName": "x", "id_2": 9},
            "orderID": 3,
            "a": {"sku": "x"},
            "b": {"sku": "y", "a.b": 1},
            "商品": "z",
            "Unit Price": 1.5,
            "unit-price": 2.5,
            "lineItems": [{"id": 4, "orderID": 5, 'quo"te': 1}],
        }
    )
    schema = from_toml(tmp_path, to_toml(infer(sample)))
    names = [field.name for field in schema.fields]
    assert len(set(names)) == len(names)
    assert {"id", "customer_id", "full_name", "order_id", "a_sku", "b_sku", "a_b", "商品"} <= set(names)
    assert {"unit_price", "unit_price_2", "line_items_id", "line_items_order_id"} <= set(names)
    rows, rejects = decode(schema, sample)
    assert rejects.num_rows == 0
    row = rows.to_pylist()[0]
    assert (row["id"], row["customer_id"], row["line_items_id"], row["line_items_order_id"]) == (1, 2, 4, 5)
    assert row["a_b"] == 1


def test_the_most_frequent_array_is_exploded_and_the_others_are_noted() -> None:
    message = {
        "order": {"lines": [{"sku": "a", "parts": [{"n": 1}]}]},
        "payments": [{"kind": "card"}],
        "tags": ["x"],
        "empty": [],
    }
    proposal = infer(ndjson(message, message, {"order": {"lines": [{"sku": "b"}, {"sku": "c"}]}}))
    assert proposal.schema.explode == "order.lines[]"
    assert [field.json_path for field in proposal.schema.fields] == ["order.lines[].sku"]
    notes = "\n".join(proposal.notes)
    assert "payments[] is an array of objects, too, in 2 of 3 messages" in notes
    assert "order.lines[].parts[] stands inside another array" in notes
    assert "tags is an array of plain values in 2 messages" in notes


def test_a_level_beyond_the_limit_keeps_the_most_frequent() -> None:
    wide = {f"f{n}": n for n in range(70)}
    few = {f"f{n}": n for n in range(64)}
    proposal = infer(ndjson(wide, few))
    assert [field.name for field in proposal.schema.fields] == list(few)
    assert any("at most 64 fields: f64, f65" in note for note in proposal.notes)


def test_always_null_and_changing_places_are_left_out() -> None:
    proposal = infer(ndjson({"a": 1, "b": None, "c": 1}, {"a": 2, "b": None, "c": {"d": 1}}))
    assert [field.name for field in proposal.schema.fields] == ["a", "d"]
    assert any("b is always null" in note for note in proposal.notes)
    assert any("c is a value in some messages" in note for note in proposal.notes)


def test_a_sample_is_bounded(tmp_path: Path) -> None:
    sample = ndjson(*({"a": n} for n in range(100)), {"late": 1})
    path = tmp_path / "sample.ndjson.gz"
    path.write_bytes(gzip.compress(sample))
    assert infer(path).messages == 101
    assert infer(path, max_messages=10).messages == 10
    # A line that the limit cuts is not looked at.
    assert (infer(path, max_bytes=25).messages, infer(path, max_bytes=25).broken) == (2, 0)


@pytest.mark.parametrize("sample", [b"", b"\n\n", b"[1]\n", b"{}\n", b'{"a":null}\n', b"{"])
def test_nothing_to_read_is_an_error(sample: bytes) -> None:
    with pytest.raises(SchemaError, match="give NDJSON, one JSON object per line"):
        infer(sample)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"gone.ndjson: cannot read: .*; name an NDJSON file"):
        infer(tmp_path / "gone.ndjson")


def test_a_difference_names_path_type_and_share() -> None:
    head = {"event_id": "e", "event_type": "paid", "event_time": "2026-11-11T00:00:00Z", "order_id": "o"}
    place = {"channel": "app", "store_id": "s", "currency": "CNY", "coupon": 5}
    customer = {"id": "c", "phone": "1", "address": "x", "vip": True}
    line = {"sku": "a", "size": "M", "qty": 1, "unit_price": 9.5, "unit_cost": 3}
    lines = [{**line, "gift": "no"}, line]
    sample = ndjson({**head, **place, "customer": customer, "lines": lines}, {"event_id": "f"})
    difference = diff_schema(ORDER, sample)
    assert {(each.path, each.type, each.share) for each in difference.unread} == {
        ("customer.vip", "bool", 0.5),
        ("coupon", "int64", 0.5),
        ("lines[].gift", "string", 0.5),
    }
    assert [field.name for field in difference.absent] == ["discount"]
    assert str(difference).splitlines()[-1] == "- discount (lines[].discount): not in the sample"
    assert "+ coupon: int64, in 50.0%" in str(difference)


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_toml_gives_back_a_schema(tmp_path: Path, name: str) -> None:
    assert from_toml(tmp_path, to_toml(BUILTIN[name])) == BUILTIN[name]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=4), json_values, max_size=5), min_size=1, max_size=6))
def test_any_sample_gives_a_schema_that_toml_keeps(messages: list[dict[str, Any]]) -> None:
    sample = ndjson(*messages)
    try:
        proposal = infer(sample)
    except SchemaError as error:
        assert "no message with a value to read" in str(error)  # noqa: PT017
        return
    import tomllib

    assert Schema.from_dict(tomllib.loads(to_toml(proposal))) == proposal.schema
    decode(proposal.schema, sample)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_of_one_value_is_a_sample(tmp_path: Path, indent: int | None) -> None:
    message = {"id": "a", "lines": [{"sku": "X", "qty": 1}, {"sku": "Y", "qty": 2}]}
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(message, indent=indent), encoding="utf-8")
    proposal = infer(path)
    assert (proposal.messages, proposal.broken) == (1, 0)
    assert proposal.schema == infer_schema(ndjson(message))
    assert not proposal.schema.array_messages


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_messages_stands_for_them(tmp_path: Path, indent: int | None) -> None:
    messages = [{"id": "a", "n": 1}, {"id": "b", "n": 2}, {"id": "c", "n": None}]
    sample = json.dumps(messages, indent=indent).encode()
    proposal = infer(sample)
    assert (proposal.messages, proposal.broken) == (3, 0)
    schema = from_toml(tmp_path, to_toml(proposal))
    assert schema.array_messages
    assert infer(sample, max_messages=2).messages == 2
    dictionaries = {field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"}
    batch, rejects, _ = _core.Decoder(schema.to_core(), dictionaries).decode_messages([sample])
    assert pa.record_batch(batch).to_pylist() == messages
    assert pa.record_batch(rejects).num_rows == 0
    assert str(diff_schema(schema, sample)) == ""
    # A line of a file may be such an array, too; one of other things is broken.
    lines = b"\n".join([json.dumps(messages[:2]).encode(), json.dumps(messages[2]).encode(), b"[1]", b"[]"])
    assert (infer(lines).messages, infer(lines).broken) == (3, 2)
    assert str(diff_schema(schema, lines)) == ""
