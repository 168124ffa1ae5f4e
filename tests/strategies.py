"""Hypothesis strategies: JSON in every spelling, messages near a schema, and bytes gone wrong."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from omnistream.schema import Field, Schema

# ---- JSON texts, spelled in every legal way ----

SPACES = st.sampled_from(["", "", "", " ", "\t", "\r", "  ", " \t\r "])
# Around the edges of registers of 16, 32 and 64 bytes.
LENGTHS = st.sampled_from(
    [0, 1, 2, 7, 8, 9, 14, 15, 16, 17, 30, 31, 32, 33, 47, 62, 63, 64, 65, 127, 128, 129]
)
WIDE_CHARACTERS = "é\u07ff\u0800鞋€\uffff😀\U0010ffff"

CHARACTERS = st.one_of(
    st.characters(exclude_categories=["Cs"], max_codepoint=0x7E),
    st.sampled_from('"\\/\b\f\n\r\t\0\x1f\x7f'),
    st.sampled_from(WIDE_CHARACTERS),
)
SHORT_TEXTS = st.text(CHARACTERS, max_size=8)


@st.composite
def edge_texts(draw: st.DrawFn) -> str:
    """A text whose last characters meet the edge of a register."""
    tail = draw(st.text(CHARACTERS, max_size=3))
    filler = draw(st.sampled_from(["a", "0", " "]))
    return filler * draw(LENGTHS) + tail


TEXTS = st.one_of(SHORT_TEXTS, SHORT_TEXTS, edge_texts())

NAMED_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}


@st.composite
def spelled_texts(draw: st.DrawFn, texts: st.SearchStrategy[str] = TEXTS) -> str:
    """A JSON string, each character raw or escaped."""
    text = draw(texts)
    escaping = draw(st.sampled_from(["needed", "needed", "named", "hex", "mixed"]))
    out = []
    for character in text:
        needed = character in '"\\' or character < " "
        style = escaping
        if style == "mixed":
            style = draw(st.sampled_from(["needed", "named", "hex"]))
        if style == "needed" and not needed:
            out.append(character)
        elif style != "hex" and character in NAMED_ESCAPES:
            out.append("\\" + NAMED_ESCAPES[character])
        elif style == "named" and not needed:
            out.append(character)
        else:
            units = character.encode("utf-16-be")
            spell = draw(st.sampled_from(["%04x", "%04X"]))
            out += ["\\u" + spell % int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2)]
    return '"' + "".join(out) + '"'


@st.composite
def spelled_numbers(draw: st.DrawFn) -> str:
    """A JSON number in any legal form, often at the edge of what a lane holds."""
    digits = st.text("0123456789", min_size=1, max_size=draw(st.sampled_from([1, 3, 9, 21, 40])))
    edges = st.sampled_from(
        [
            *("0", "1", "5", "10", "2147483647", "2147483648", "2147483649", "9223372036854775807"),
            *("9223372036854775808", "9223372036854775809", "922337203685477", "922337203685478"),
            *("99999999", "100000000", "1700000000", "1700000000123", "253402300799", "253402300800"),
            *("62135596800", "62135596801", "62135596800000", "253402300799999", "253402300800000"),
        ]
    )
    whole = draw(st.one_of(edges, edges, digits)).lstrip("0") or "0"
    part = draw(
        st.one_of(
            st.just(""),
            st.just(""),
            st.sampled_from(["0", "5", "25", "5807", "58075", "5808", "99999"]),
            digits,
        )
    )
    exponent = draw(
        st.one_of(
            st.just(""),
            st.just(""),
            st.just(""),
            st.integers(-25, 25).map(str),
            st.sampled_from(
                [
                    "+0",
                    "-0",
                    "00",
                    "+05",
                    "308",
                    "309",
                    "-323",
                    "-324",
                    "-330",
                    "400",
                    "-400",
                    "99999999999999999999",
                ]
            ),
        )
    )
    return (
        draw(st.sampled_from(["", "", "-"]))
        + whole
        + ("." + part if part else "")
        + (draw(st.sampled_from("eE")) + exponent if exponent else "")
    )


WORDS = st.sampled_from(["true", "false", "null"])


@st.composite
def spelled_objects(draw: st.DrawFn, members: st.SearchStrategy[list[tuple[str, str]]]) -> str:
    """Members, each a spelled key and a spelled value, with spaces anywhere."""
    space = draw(st.sampled_from([st.just(""), st.just(""), SPACES]))
    inside = ",".join(
        f"{draw(space)}{key}{draw(space)}:{draw(space)}{value}{draw(space)}" for key, value in draw(members)
    )
    return "{" + (inside or draw(space)) + "}"


@st.composite
def spelled_arrays(draw: st.DrawFn, elements: st.SearchStrategy[str], max_size: int = 4) -> str:
    space = draw(st.sampled_from([st.just(""), st.just(""), SPACES]))
    inside = ",".join(
        f"{draw(space)}{element}{draw(space)}" for element in draw(st.lists(elements, max_size=max_size))
    )
    return "[" + (inside or draw(space)) + "]"


def _containers(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(spelled_texts(SHORT_TEXTS), values)
    return st.one_of(spelled_objects(st.lists(member, max_size=4)), spelled_arrays(values))


JSON_VALUES = st.recursive(st.one_of(spelled_texts(), spelled_numbers(), WORDS), _containers, max_leaves=8)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    return (draw(SPACES) + draw(JSON_VALUES) + draw(SPACES)).encode()


# ---- messages near a schema ----

GOOD_TIMES = st.sampled_from(
    [
        *(
            "2026-11-11T00:00:00Z",
            "2026-11-11T08:15:30.123Z",
            "2026-11-11t08:15:30.1239z",
            "2026-11-11 08:15:30+08:00",
        ),
        *("2026-11-11T08:15:30,5-0330", "2024-02-29T23:59:59.999999999+14", "1969-12-31T23:59:59.9999Z"),
        *(
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999Z",
            "2000-02-29T00:00:00-00:00",
            "2026-11-11T00:00:00",
        ),
    ]
)
BAD_TIMES = st.sampled_from(
    [
        *(
            "2026-11-11",
            "2026-11-11T24:00:00Z",
            "2026-11-11T23:60:00Z",
            "2026-11-11T23:59:60Z",
            "2026-02-29T00:00:00Z",
        ),
        *("1900-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-11-31T00:00:00Z"),
        *(
            "2026-11-00T00:00:00Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
        ),
        *(
            "2026-11-11T00:00:00.Z",
            "2026-11-11T00:00:00+24:00",
            "2026-11-11T00:00:00+08:60",
            "2026-11-11T00:00:00+8",
        ),
        *(
            "2026-11-11T00:00:00+08:",
            "2026-11-11T00:00Z",
            "2026-11-11T00:00:00Z ",
            " 2026-11-11T00:00:00Z",
            "Z",
        ),
        *(
            "２026-11-11T00:00:00Z",
            "2026-11-11T00:00:00.5",
            "2026-11-11_00:00:00Z",
            "2026-11-11T00:00:00+0800:",
        ),
        *(
            "26-11-11T00:00:00Z",
            "2026-11-11T00:00:00+080",
            "2026/11/11T00:00:00Z",
            "2026-11-11T00:00:00.000ZZ",
        ),
    ]
)


def _tame(column: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values that a column accepts, spelled as producers do."""
    match column["type"]:
        case "string" | "dictionary":
            return st.one_of(
                st.sampled_from(['"web"', '"store"', '""']), TEXTS.map(_raw_json), spelled_texts()
            )
        case "int32" | "int64":
            return st.integers(-20, 10**6).map(str)
        case "decimal":
            return st.integers(0, 10**6).map(lambda value: f"{value // 100}.{value % 100:02}")
        case "float64":
            return st.floats(allow_nan=False, allow_infinity=False).map(json.dumps)
        case "bool":
            return st.sampled_from(["true", "false"])
    if column["timestamp_forms"] & 3:
        return st.integers(0, 999).map(lambda ms: f'"2026-11-11T08:{ms % 60:02}:00.{ms:03}Z"')
    return st.integers(0, 10**9).map(str)


def _raw_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _odd(column: dict[str, Any]) -> st.SearchStrategy[str]:
    """Values at the edge of what a column accepts, and beyond."""
    quoted = spelled_numbers().map(lambda number: f'"{number}"')
    near_numbers = st.sampled_from(['""', '" 1"', '"1 "', '"+1"'])
    times = st.one_of(GOOD_TIMES, GOOD_TIMES, BAD_TIMES).map(_raw_json)
    spelled_times = spelled_texts(st.one_of(GOOD_TIMES, BAD_TIMES))
    if column["type"] == "timestamp":
        return st.one_of(times, times, spelled_times, spelled_numbers(), quoted, st.just("null"), JSON_VALUES)
    return st.one_of(spelled_numbers(), spelled_numbers(), quoted, near_numbers, st.just("null"), JSON_VALUES)


@st.composite
def _fed_object(draw: st.DrawFn, tree: dict[Any, Any], odd_percent: int) -> str:
    """An object with the keys of a tree of paths; odd ones are missing, twice, or something else."""

    def is_odd() -> bool:
        return odd_percent > 0 and draw(st.integers(1, 100)) <= odd_percent

    members = []
    for key, below in tree.items():
        copies = draw(st.sampled_from([0, 2, 3])) if is_odd() else 1
        for _ in range(copies):
            spelled = draw(spelled_texts(st.just(key))) if is_odd() else _raw_json(key)
            odd = is_odd()
            if isinstance(below, dict) and isinstance(below.get("type"), str):
                value = draw(_odd(below) if odd else _tame(below))
            elif odd:
                value = draw(st.one_of(st.just("null"), JSON_VALUES))
            elif isinstance(below, list):
                value = draw(spelled_arrays(_fed_object(below[0], odd_percent)))
            else:
                value = draw(_fed_object(below, odd_percent))
            members.append((spelled, value))
    if is_odd() or is_odd():
        members += draw(st.lists(st.tuples(spelled_texts(SHORT_TEXTS), JSON_VALUES), max_size=2))
    if is_odd() or is_odd():
        members = draw(st.permutations(members))
    return draw(spelled_objects(st.just(members)))


def _tree(schema: dict[str, Any]) -> dict[Any, Any]:
    levels: list[dict[Any, Any]] = [{}]
    for array in schema["explode"]:
        element: dict[Any, Any] = {}
        _plant(levels[-1], array["path"], [element])
        levels.append(element)
    for column in schema["fields"]:
        _plant(levels[column["level"]], column["path"], column)
    return levels[0]


def _plant(tree: dict[Any, Any], path: list[str], leaf: Any) -> None:
    for key in path[:-1]:
        tree = tree.setdefault(key, {})
    tree[path[-1]] = leaf


def messages(schema: dict[str, Any]) -> st.SearchStrategy[bytes]:
    """Objects near a schema (``Schema.to_core()``): most decode, and the others fail in every way."""
    tree = _tree(schema)
    odd_percents = st.sampled_from([0, 0, 2, 5, 20])
    near = odd_percents.flatmap(lambda odd_percent: _fed_object(tree, odd_percent))
    if schema["array_messages"]:
        near = st.one_of(near, spelled_arrays(near), spelled_arrays(st.one_of(near, JSON_VALUES)))
    return near.map(str.encode)


# ---- bytes gone wrong ----

BAD_BYTES = st.sampled_from(
    [
        *(b"\xff", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80"),
        *(b"\0", b"\x1f", b"\x7f", b" ", b"\xef\xbb\xbf", b"NaN", b"Infinity", b"null", b"9" * 20),
        *(b'"', b"\\", b"\\u", b"\\ud800", b"\\udc00", b"\\x"),
        *(b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b".", b"e"),
    ]
)


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """A message with one to three bytes or pieces inserted, deleted, flipped, or its end cut off."""
    data = draw(originals)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["insert", "insert", "delete", "flip", "replace", "truncate"])):
            case "insert":
                data = data[:at] + draw(BAD_BYTES) + data[at:]
            case "delete":
                data = data[:at] + data[at + draw(st.integers(1, 3)) :]
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ (1 << draw(st.integers(0, 7)))]) + data[at + 1 :]
            case "replace":
                data = data[:at] + draw(BAD_BYTES) + data[at + 1 :]
            case "truncate":
                data = data[:at]
    return data


@st.composite
def blocks(draw: st.DrawFn, originals: st.SearchStrategy[bytes], max_size: int = 6) -> bytes:
    """NDJSON: LF or CRLF, blank lines, perhaps no last newline, perhaps a byte-order mark."""
    out = bytearray(b"\xef\xbb\xbf" if draw(st.integers(0, 9)) == 0 else b"")
    lines = draw(
        st.lists(st.one_of(*[originals] * 6, st.sampled_from([b"", b" ", b"\t\r"])), max_size=max_size)
    )
    for line in lines:
        out += line.replace(b"\n", b" ") + draw(st.sampled_from([b"\n", b"\n", b"\r\n"]))
    if lines and draw(st.booleans()):
        del out[-1:]
    return bytes(out)


# ---- events for the stages behind decode ----

EVENTS = Schema(
    "events",
    (
        Field("event_id", "string"),
        Field("event_type", "dictionary"),
        Field("event_time", "timestamp", format="epoch_ms", required=True),
        Field("sku", "dictionary", "lines[].sku"),
        Field("size", "string", "lines[].size"),
        Field("quantity", "int64", "lines[].qty"),
        Field("small", "int32", "lines[].small"),
        Field("unit_price", "decimal", "lines[].price"),
        Field("unit_cost", "decimal", "lines[].cost"),
        Field("discount", "decimal", "lines[].discount"),
        Field("weight", "float64", "lines[].weight"),
        Field("gift", "bool", "lines[].gift"),
    ),
    explode="lines[]",
)
EVENT_TYPES = {field.name: field.type for field in EVENTS.fields} | {
    "gross_amount": "decimal",
    "amount": "decimal",
}

HOUR_MS = 3_600_000
START_MS = 1_794_355_200_000  # 2026-11-11T00:00:00Z


def _or_null(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(values, values, values, values, st.none())


def _lines() -> st.SearchStrategy[dict[str, Any]]:
    cents = st.integers(-500, 50_000).map(lambda value: value / 100)
    return st.fixed_dictionaries(
        {
            "sku": _or_null(st.sampled_from(["a", "B", "ab", "é", "", "a-long-name-of-a-style-0001"])),
            "size": _or_null(st.sampled_from(["36", "37", "XL", "鞋"])),
            "qty": _or_null(st.integers(-3, 9)),
            "small": _or_null(st.sampled_from([-(2**31), -1, 0, 1, 2**31 - 1])),
            "price": _or_null(cents),
            "cost": _or_null(cents),
            "discount": _or_null(st.sampled_from([0, 0.1, 0.15, 1, 0.0001, -0.5])),
            "weight": _or_null(st.sampled_from([0.0, -0.0, 0.1, -2.5, 1e300])),
            "gift": _or_null(st.booleans()),
        }
    )


def events(max_size: int = 12, span_ms: int = 4 * HOUR_MS) -> st.SearchStrategy[list[bytes]]:
    """Messages of EVENTS: few keys, many nulls, times all over the span and on its edges."""
    times = st.one_of(
        st.integers(START_MS, START_MS + span_ms),
        st.integers(0, span_ms // HOUR_MS).map(lambda hour: START_MS + hour * HOUR_MS),
        st.integers(0, span_ms // HOUR_MS).map(lambda hour: START_MS + hour * HOUR_MS - 1),
    )
    event = st.fixed_dictionaries(
        {
            "event_id": _or_null(st.sampled_from(["e1", "e2", "e3", "an-event-id-of-more-than-16-bytes"])),
            "event_type": _or_null(st.sampled_from(["paid", "returned", "cancelled", "created"])),
            "event_time": times,
            "lines": st.lists(_lines(), max_size=3),
        }
    )
    return st.lists(event.map(lambda each: json.dumps(each).encode()), max_size=max_size)


def batches(messages: st.SearchStrategy[list[bytes]]) -> st.SearchStrategy[list[list[bytes]]]:
    """The messages cut into batches at random, some of them empty."""

    def cut(items: list[bytes]) -> st.SearchStrategy[list[list[bytes]]]:
        places = st.lists(st.integers(0, len(items)), max_size=4).map(sorted)
        return places.map(
            lambda at: [items[begin:end] for begin, end in zip([0, *at], [*at, len(items)], strict=True)]
        )

    return messages.flatmap(cut)
