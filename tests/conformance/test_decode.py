"""decode: every engine and instruction set gives the reference's rows and rejects, whatever the bytes."""

from __future__ import annotations

import functools
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import _core
from omnistream.kernels.decode import DeviceDecoder, unsupported
from omnistream.kernels.launch import HostLauncher
from omnistream.schema import ORDER, ORDER_FLAT, TYPES, Field, Schema
from tests import reference, strategies
from tests.engines import CpuEngine, DeviceEngine, Result


def every_type(prefix: str = "", **options: Any) -> tuple[Field, ...]:
    return tuple(Field(f"{prefix}{name}", name, f"{prefix}{name}", **options) for name in TYPES)


def coerced(prefix: str, path: str) -> tuple[Field, ...]:
    fields = [Field(prefix + name, name, path + name, coerce=name != "bool") for name in TYPES[:-1]]
    fields += [
        Field(f"{prefix}{number}", "timestamp", f"{path}t{number}", coerce=True, format=form)
        for number, form in enumerate((("iso8601", "epoch_ms"), ("iso8601_utc",), ("epoch_s",)))
    ]
    return tuple(fields)


DEFAULTS = {
    "string": "none",
    "dictionary": "",
    "int32": -1,
    "int64": 2**63 - 1,
    "decimal": "9.95",
    "float64": 0.1,
    "bool": True,
    "timestamp": "2026-11-11T00:00:00Z",
}

SCHEMAS = {
    schema.name: schema.to_core()
    for schema in (
        ORDER,
        ORDER_FLAT,
        Schema("plain", every_type()),
        Schema("required", every_type(required=True)),
        Schema("defaults", tuple(Field(name, name, default=value) for name, value in DEFAULTS.items())),
        Schema("coerced", coerced("", "")),
        Schema(
            "times",
            (
                Field("utc", "timestamp", format="iso8601_utc"),
                Field("seconds", "timestamp", format="epoch_s"),
                Field("millis", "timestamp", format=("epoch_ms", "iso8601")),
            ),
        ),
        Schema(
            "nested",
            (
                Field("a", "string", "x.y.a"),
                Field("b", "int64", "x.y.b", required=True),
                Field("c", "decimal", 'x."y.z"', default="1"),
                Field("größe", "dictionary"),
                Field("escaped", "string", r'"\"\\"'),
                Field("empty", "bool", '""'),
            ),
        ),
        Schema(
            "exploded",
            (
                Field("id", "string", "order.id", required=True),
                *coerced("head_", "order."),
                Field("sku", "dictionary", "order.lines[].product.sku", required=True),
                Field("qty", "int32", "order.lines[].qty", required=True),
                *coerced("line_", "order.lines[]."),
                Field("note", "string", "note"),
                Field("tag", "dictionary", "order.lines[].tag", default="plain"),
            ),
            explode="order.lines[]",
        ),
        Schema(
            "deep",
            (
                Field("id", "string", "order.id", required=True),
                Field("carrier", "dictionary", "order.fulfillments[].carrier", default="none"),
                Field("note", "string", "order.fulfillments[].to.note"),
                Field("sku", "dictionary", "order.fulfillments[].items[].sku", required=True),
                Field("text", "string", "order.fulfillments[].items[].product.text"),
                Field("qty", "int32", "order.fulfillments[].items[].qty"),
            ),
            explode="order.fulfillments[].items[]",
        ),
        Schema("arrays", (Field("a", "string"), Field("n", "int64", required=True)), array_messages=True),
        Schema("only_lines", (Field("n", "int64", "lines[].n"),), explode="lines[]"),
        Schema("only_heads", (Field("n", "int64"),), explode="lines[]"),
        Schema("strict", every_type(), max_message_bytes=150, max_depth=3, strict_utf8=True),
    )
}


def assert_same(got: Result, expected: Result) -> None:
    assert got.rows == expected.rows
    assert list(map(repr, got.rows)) == list(map(repr, expected.rows))  # -0.0 is not 0.0, True is not 1
    assert got.rejects == expected.rejects
    assert got.counts == expected.counts


def meaning(schema: dict[str, Any], block: bytes, **origin: Any) -> Result:
    rows, rejects, counts = reference.decode_lines(schema, block, **origin)
    return Result([row.values for row in rows], None, rejects, counts)


def meaning_of_messages(schema: dict[str, Any], messages: list[bytes]) -> Result:
    rows, rejects, counts = reference.decode_messages(schema, messages)
    return Result([row.values for row in rows], None, rejects, counts)


# ---- said once, by hand: what the reference itself is held to ----

PLAIN = SCHEMAS["plain"]


def one(column: str, value: str) -> bytes:
    return f'{{"{column}":{value}}}'.encode()


@pytest.mark.parametrize(
    ("schema", "column", "value", "expected"),
    [
        ("plain", "string", '"a\\u00e9\\ud83d\\ude00\\u0000"', "aé😀\0"),
        ("plain", "dictionary", '"web"', "web"),
        ("plain", "int32", "-2147483648", -(2**31)),
        ("plain", "int32", "2147483648", "out_of_range"),
        ("plain", "int32", "2147483647.5", "inexact_number"),
        ("plain", "int32", "50e-1", 5),
        ("plain", "int64", "9223372036854775807", 2**63 - 1),
        ("plain", "int64", "-9223372036854775808.0", -(2**63)),
        ("plain", "int64", "9223372036854775808", "out_of_range"),
        ("plain", "int64", "92233720368547758080e-1", "out_of_range"),
        ("plain", "int64", "-0", 0),
        ("plain", "int64", "1e-400", "inexact_number"),
        ("plain", "int64", "0e99999999999999999999", 0),
        ("plain", "int64", "1e99999999999999999999", "out_of_range"),
        ("plain", "int64", '"5"', "wrong_type"),
        ("plain", "decimal", "19.99", 199_900),
        ("plain", "decimal", "922337203685477.5807", 2**63 - 1),
        ("plain", "decimal", "922337203685477.5808", "out_of_range"),
        ("plain", "decimal", "-922337203685477.5808", -(2**63)),
        ("plain", "decimal", "0.00001", "inexact_number"),
        ("plain", "decimal", "1234500e-6", 12_345),
        ("plain", "float64", "1e308", 1e308),
        ("plain", "float64", "1e309", "out_of_range"),
        ("plain", "float64", "0.1", 0.1),
        ("plain", "float64", "2.2250738585072011e-308", 2.2250738585072011e-308),
        ("plain", "bool", "true", True),
        ("plain", "bool", "1", "wrong_type"),
        ("plain", "timestamp", '"2026-11-11T08:00:00.1239+08:00"', 1_794_355_200_123),
        ("plain", "timestamp", '"1969-12-31T23:59:59.9999Z"', -1),
        ("plain", "timestamp", '"0001-01-01T00:00:00+00:01"', "invalid_timestamp"),
        ("plain", "timestamp", '"2026-11-11T08:00:00"', "invalid_timestamp"),
        ("plain", "timestamp", "1", "wrong_type"),
        ("plain", "string", '"\\ud800"', "invalid_utf8"),
        ("plain", "string", "5", "wrong_type"),
        ("plain", "string", "null", None),
        ("times", "utc", '"2026-11-11 00:00:00"', 1_794_355_200_000),
        ("times", "seconds", "-0.0001", -1),
        ("times", "seconds", "253402300800", "out_of_range"),
        ("times", "seconds", '"0"', "wrong_type"),
        ("times", "millis", "1e3", 1000),
        ("times", "millis", '"1970-01-01T00:00:01Z"', 1000),
        ("coerced", "string", "1.50", "1.50"),
        ("coerced", "int64", '"1e2"', 100),
        ("coerced", "int64", '""', None),
        ("coerced", "int64", '" 1"', "wrong_type"),
        ("coerced", "t0", '"1000"', 1000),
        ("coerced", "t1", '"1000"', "invalid_timestamp"),
        ("coerced", "t2", '"x"', "wrong_type"),
        ("required", "string", "null", "null_field"),
        ("required", "int32", "1", "missing_field"),
        ("defaults", "decimal", "null", 99_500),
        ("defaults", "int64", "null", 2**63 - 1),
    ],
)
def test_values(decode_engine: Any, schema: str, column: str, value: str, expected: Any) -> None:
    result = decode_engine.decoder(SCHEMAS[schema]).messages([one(column, value)])
    if result.rejects:
        assert (result.rejects[0]["reason"], result.rows) == (expected, [])
        return
    name = column if column in result.rows[0] else column.removeprefix("t")
    assert (result.rows[0][name], result.rejects) == (expected, [])


@pytest.mark.parametrize(
    ("schema", "message", "expected"),
    [
        ("plain", b"", ("truncated_json", None, 0, None)),
        ("plain", b"[1]", ("not_an_object", None, 0, None)),
        ("plain", b"  5", ("not_an_object", None, 2, None)),
        ("plain", b"5 5", ("trailing_data", None, 2, None)),
        ("plain", b'{"int64":NaN}', ("invalid_json", None, 9, None)),
        ("plain", b'\xef\xbb\xbf{"int64":1}', ("invalid_json", None, 0, None)),
        ("plain", b'{"int64":{}} ', ("wrong_type", "int64", 9, None)),
        ("plain", b'{"int64":"","int32":[]}', ("wrong_type", "int32", 20, None)),
        ("plain", b'{"string": "\xff"}', ("invalid_utf8", "string", 11, None)),
        ("strict", b'{"x":"a\xff"}', ("invalid_json", None, 7, None)),
        ("strict", b'{"x":{"y":{}}}', None),
        ("strict", b'{"x":{"y":{"z":[]}}}', ("nesting_too_deep", None, 15, None)),
        ("strict", b'{"x":"' + b"a" * 150 + b'"}', ("message_too_large", None, None, None)),
        ("nested", b'{"x":{"y":null}}', ("missing_field", "b", None, None)),
        ("nested", b'{"x":[]}', ("wrong_type", "a", 5, None)),
        ("nested", b'{"x":{"y":{"b":1}},"x":{"y":{}}}', ("missing_field", "b", None, None)),
        ("nested", b'{"x":5,"x":{"y":{"b":"no"}},"\\u0078":{"y":{"b":1}}}', None),
        ("nested", b'{"x":{"y":{"b\\udc00":1}}}', ("missing_field", "b", None, None)),
        ("strict", b'{"x":"\xff\\q"}', ("invalid_json", None, 6, None)),
        ("strict", b'{"x":"\xff', ("invalid_json", None, 6, None)),
        ("order", b'{"event_id":"e"}', ("missing_field", "event_type", None, None)),
        ("only_lines", b"{}", ("missing_field", "lines[]", None, None)),
        ("only_lines", b'{"lines":null}', ("null_field", "lines[]", 9, None)),
        ("only_lines", b'{"lines":{}}', ("wrong_type", "lines[]", 9, None)),
        ("only_lines", b'{"lines":[{},{"n":1},[]]}', ("wrong_type", "lines[]", 21, 2)),
        ("only_lines", b'{"lines":[{},{"n":"x"},[]]}', ("wrong_type", "n", 18, 1)),
        ("only_lines", b'{"lines":[{"n":""}],"lines":[]}', None),
    ],
)
def test_rejects(decode_engine: Any, schema: str, message: bytes, expected: tuple[Any, ...] | None) -> None:
    result = decode_engine.decoder(SCHEMAS[schema]).messages(
        [message], source="orders", partition=3, first_position=7
    )
    if expected is None:
        assert result.rejects == []
        return
    reason, field, byte_offset, line = expected
    assert result.rejects == [
        {
            "source": "orders",
            "partition": 3,
            "position": 7,
            "line": line,
            "stage": "decode",
            "reason": reason,
            "field": field,
            "byte_offset": byte_offset,
            "size_bytes": len(message),
            "key": None,
            "bytes": message,
        }
    ]


def test_lines_of_a_file(decode_engine: Any) -> None:
    decoder = decode_engine.decoder(PLAIN)
    block = b'\xef\xbb\xbf{"int64":1}\r\n\n \t\r\n{"int64":2}\r\r\n{"int64":}\n{"int64":3}'
    result = decoder.lines(block, source="orders.ndjson")
    assert [row["int64"] for row in result.rows] == [1, 2, 3]
    assert [(each["position"], each["byte_offset"], each["bytes"]) for each in result.rejects] == [
        (5, 9, b'{"int64":}')
    ]
    assert (result.counts["messages"], result.counts["rejected"]) == (4, 1)
    assert decoder.lines(b"", source="x").counts["messages"] == 0
    later = decoder.lines(b'\xef\xbb\xbf{"int64":1}', first_position=2)
    assert later.rejects[0]["byte_offset"] == 0


def test_zero_lines_are_legal(decode_engine: Any) -> None:
    result = decode_engine.decoder(SCHEMAS["only_lines"]).messages(
        [b'{"lines":[]}', b'{"lines":[{},{"n":1}]}']
    )
    assert [row["n"] for row in result.rows] == [None, 1]
    counts = result.counts
    assert (counts["messages"], counts["decoded"], counts["rows"], counts["empty"]) == (2, 2, 2, 1)


# ---- found by search: every engine against the reference ----


# One example tries all of them; the kernels' threads run in order, or backwards.
ENGINES = [
    *[CpuEngine(isa) for isa in _core.decode_isas()],
    *[DeviceEngine(HostLauncher(order), f"cuda-host-{order}") for order in (0, 1)],
]


@pytest.mark.parametrize("name", SCHEMAS)
def test_messages_near_a_schema(name: str) -> None:
    schema = SCHEMAS[name]
    near = strategies.messages(schema)

    @given(st.lists(st.one_of(near, near, strategies.mutated(near)), max_size=5))
    def check(messages: list[bytes]) -> None:
        # The same again, and again: the second time a learnt layout may answer.
        messages = messages * 3
        expected = meaning_of_messages(schema, messages)
        for engine in ENGINES:
            assert_same(engine.decoder(schema).messages(messages), expected)

    check()


@pytest.mark.parametrize("name", SCHEMAS)
def test_layouts_are_only_a_guess(name: str) -> None:
    """One layout learnt from many messages, then messages that leave it at some byte."""
    schema = SCHEMAS[name]
    near = strategies.messages(schema)

    @given(
        near.flatmap(lambda m: st.tuples(st.just(m), st.lists(strategies.mutated(st.just(m)), max_size=8)))
    )
    def check(drawn: tuple[bytes, list[bytes]]) -> None:
        message, strangers = drawn
        messages = [message] * 4 + [each for stranger in strangers for each in (stranger, message)]
        expected = meaning_of_messages(schema, messages)
        for engine in ENGINES:
            assert_same(engine.decoder(schema).messages(messages), expected)

    check()


@pytest.mark.parametrize("name", SCHEMAS)
def test_texts_that_are_only_checked(name: str) -> None:
    """The rows without them, and the same rejects."""
    schema = SCHEMAS[name]
    texts = {field["name"] for field in schema["fields"] if field["type"] in ("string", "dictionary")}
    fields = [{**field, "checked": True} if field["name"] in texts else field for field in schema["fields"]]
    near = strategies.messages(schema)

    @given(st.lists(st.one_of(near, near, strategies.mutated(near)), max_size=5))
    def check(messages: list[bytes]) -> None:
        messages = messages * 3
        whole = meaning_of_messages(schema, messages)
        rows = [{name: row[name] for name in row if name not in texts} for row in whole.rows]
        expected = Result(rows, None, whole.rejects, whole.counts)
        for isa in _core.decode_isas():
            assert_same(CpuEngine(isa).decoder({**schema, "fields": fields}).messages(messages), expected)

    check()


@pytest.mark.parametrize("name", SCHEMAS)
def test_blocks_of_lines(name: str) -> None:
    schema = SCHEMAS[name]
    near = strategies.messages(schema)

    @given(
        strategies.blocks(st.one_of(near, near, strategies.mutated(near))), st.sampled_from([1, 1, 2, 10**12])
    )
    def check(block: bytes, first_position: int) -> None:
        origin = {"source": "s", "partition": 2, "first_position": first_position}
        expected = meaning(schema, block, **origin)
        for engine in ENGINES:
            assert_same(engine.decoder(schema).lines(block, **origin), expected)

    check()


@pytest.mark.parametrize("name", ["order", "order_flat", "exploded", "strict"])
def test_any_batching_gives_the_same(name: str) -> None:
    schema = SCHEMAS[name]
    near = strategies.messages(schema)

    @given(st.lists(st.one_of(near, near, strategies.mutated(near)), max_size=8), st.data())
    def check(messages: list[bytes], data: st.DataObject) -> None:
        lines = [message.replace(b"\n", b" ") + b"\n" for message in messages] * 2
        cuts = sorted(data.draw(st.sets(st.integers(0, len(lines)))) | {0, len(lines)})
        for engine in ENGINES:
            whole = engine.decoder(schema).lines(b"".join(lines))
            decoder = engine.decoder(schema)
            parts = [
                decoder.lines(b"".join(lines[begin:end]), first_position=1 + begin)
                for begin, end in itertools.pairwise(cuts)
            ]
            assert [row for part in parts for row in part.rows] == whole.rows
            assert [each for part in parts for each in part.rejects] == whole.rejects
            for count, total in whole.counts.items():
                assert sum(part.counts[count] for part in parts) == total

    check()


def test_a_message_that_repeats_too_much_is_rejected() -> None:
    """One long text in front of many lines: few bytes in, gigabytes out."""
    schema = SCHEMAS["exploded"]
    line = '{"product":{"sku":"s"},"qty":1}'

    def message(text: str, lines: int) -> bytes:
        return f'{{"note":"{text}","order":{{"id":"1","lines":[{",".join([line] * lines)}]}}}}'.encode()

    messages = [message("ok", 300)] * 40 + [message("x" * 60_000, 400), message("x" * 60_000, 200)]
    expected = meaning_of_messages(schema, messages)
    assert [each["reason"] for each in expected.rejects] == ["message_too_large"]
    for engine in ENGINES:
        assert_same(engine.decoder(schema).messages(messages), expected)


# ---- real orders, broken at every byte ----


def order(number: int, flat: bool) -> bytes:
    head = {
        "event_id": f"e{number:08}",
        "event_type": ("created", "paid", "shipped")[number % 3],
        "event_time": f"2026-11-11T08:{number % 60:02}:00.{number % 1000:03}Z",
        "order_id": f"o{number // 3}",
        "channel": ("web", "store", "app")[number % 3],
        "store_id": f"S{number % 7:03}",
    }
    line = {
        "sku": f"ST{number % 11:04}-BLK",
        "size": str(36 + number % 9),
        "qty": 1 + number % 4,
        "unit_price": round(19.95 + number, 2),
        "unit_cost": 7.5,
        "discount": (0, 0.15, 0.2)[number % 3],
    }
    if flat:
        event = {**head, "customer_id": f"c{number}", **line, "currency": "EUR"}
    else:
        customer = {"id": f"c{number}", "phone": "+49 30 1234", "address": "Straße 5, 10115 Berlin 鞋"}
        event = {**head, "customer": customer, "lines": [line] * (1 + number % 3), "currency": "EUR"}
    return json.dumps(event, ensure_ascii=number % 2 == 0, separators=(",", ":")).encode()


def broken_everywhere(message: bytes) -> list[bytes]:
    broken = []
    for at in range(len(message)):
        head, byte, tail = message[:at], message[at], message[at + 1 :]
        broken += [head, head + tail]
        broken += [head + bytes([byte ^ (1 << bit)]) + tail for bit in (0, 1, 4, 5, 7)]
        broken += [head + bytes([extra, byte]) + tail for extra in b'"\\{},: 0-\0\xff']
    return [each.replace(b"\n", b"\x0b") for each in broken]


@functools.cache
def broken_block(flat: bool) -> tuple[bytes, Result]:
    """Good orders, then each broken one followed by a good one, so that layouts are learnt and stay so."""
    good = [order(number, flat) for number in range(40)]
    lines = good + [
        each
        for number, bad in enumerate(broken_everywhere(order(1, flat)))
        for each in (bad, good[number % 40])
    ]
    block = b"\n".join(lines)
    return block, meaning(SCHEMAS["order_flat" if flat else "order"], block)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "nested"])
@pytest.mark.parametrize("fast", ENGINES, ids=lambda engine: engine.name)
def test_orders_broken_at_every_byte(fast: CpuEngine | DeviceEngine, flat: bool) -> None:
    block, expected = broken_block(flat)
    assert expected.counts["rejected"] > 1000
    got = fast.decoder(SCHEMAS["order_flat" if flat else "order"]).lines(block)
    assert_same(got, expected)


@pytest.mark.parametrize("fast", ENGINES, ids=lambda engine: engine.name)
def test_orders_cut_within_their_last_number(fast: CpuEngine | DeviceEngine) -> None:
    """What is left of the number is shorter than the text that should follow it."""
    whole = [json.loads(order(number, flat=False)) for number in range(12)]
    for each in whole:
        each["lines"] = each.pop("lines")  # as the last field
    good = [json.dumps(each, separators=(",", ":")).encode() for each in whole]
    lines = [line for cut in range(1, 12) for line in (*good, good[cut][:-cut], *good[:5])]
    block = b"\n".join(lines)
    expected = meaning(SCHEMAS["order"], block)
    assert expected.counts["rejected"] == 11
    assert_same(fast.decoder(SCHEMAS["order"]).lines(block), expected)


@pytest.mark.parametrize("character", ["a", "é", "鞋", "😀", "\\u00e9", '\\"', "\xff"])
@pytest.mark.parametrize("fast", ENGINES, ids=lambda engine: engine.name)
def test_strings_around_the_edges_of_registers(fast: CpuEngine | DeviceEngine, character: str) -> None:
    """Every length up to three cache lines, the character at the end, also cut in two."""
    tail = character.encode("latin-1") if character == "\xff" else character.encode()
    messages = []
    for size in range(200):
        for end in (b'"}', b'"', b"", b'","int64":1}'):
            messages.append(b'{"string":"' + b"a" * size + tail + end)
            messages.append(b'{"other":"' + b"a" * size + tail[:-1] + end)
        messages.append(b" " * size + b'{"string":"' + tail + b'"}' + b" " * size)
    for name in ("plain", "strict"):
        assert_same(
            fast.decoder(SCHEMAS[name]).messages(messages), meaning_of_messages(SCHEMAS[name], messages)
        )


# ---- what a device takes by itself ----


@pytest.mark.parametrize(
    ("schema", "message", "left"),
    [
        ("plain", b'{"decimal":12.3456,"int64":5.0,"float64":-2.5e-3,"bool":true,"int32":null}', 0),
        ("plain", b' { "timestamp" : "2026-11-11T08:00:00.5+01:00" , "other" : [1,{"a":[]}] } ', 0),
        ("plain", '{"dictionary":"Straße","string":"a\\u00e9\\ud83d\\ude00\\n"}'.encode(), 0),
        ("order", order(1, flat=False), 0),
        ("order", json.dumps(dict(reversed(json.loads(order(2, flat=False)).items()))).encode(), 0),
        ("deep", b'{"order":{"fulfillments":[{"items":[{"sku":"s"}]}],"id":"1"}}', 0),
        ("plain", b'{"int64":9223372036854775807}', 1),  # more digits than it takes
        ("plain", b'{"float64":0.1e-30}', 1),  # more than one rounding
        ("plain", b'{"int64":1,"int64":2}', 1),
        ("plain", b'{"\\u0061":1}', 1),
        ("plain", b'{"int64":"no"}', 1),
        ("arrays", b'[{"n":1}]', None),  # cut up on the CPU
    ],
)
def test_what_the_kernels_leave_to_the_cpu(schema: str, message: bytes, left: int | None) -> None:
    if left is None:
        assert "array of messages" in str(unsupported(SCHEMAS[schema]))
        return
    names = [each["name"] for each in SCHEMAS[schema]["fields"] if each["type"] == "dictionary"]
    dictionaries = {name: _core.Dictionary() for name in names}
    decoded = DeviceDecoder(HostLauncher(), SCHEMAS[schema], dictionaries).decode_messages([message] * 3)
    assert decoded.counts["left"] == 3 * left
    assert decoded.counts["messages"] == 3
