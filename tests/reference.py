"""The meaning of every stage, slow and obvious: what the C++ and CUDA engines must do, row by row.

Read it top-down, as the data flows: JSON, decode, encode, clean, window, derive. Values are in the units of the
core's lanes: a decimal is an int of 1/10000, a timestamp an int of ms since 1970, a string a str, null is None.
Schemas and specs are the dicts that the extension takes (``Schema.to_core()``, ``_core.pyi``).
"""

from __future__ import annotations

import decimal
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any

NONE = -(2**63)  # a watermark before all time
END = 2**63 - 1  # and after it
SCALE = 10_000  # of decimals
DAY_MS = 86_400_000

INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)

# ---- JSON, with the place of every value and of every fault ----


class Fault(Exception):
    """Why bytes are no JSON text: a reason, and the first byte that no JSON text with this beginning has."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason, at)
        self.reason = reason
        self.at = at


@dataclass
class Value:
    """A JSON value. ``data`` by kind: dict (key to the last value), list, content bytes, the number's text, bool."""

    kind: str  # object, array, string, number, bool, null
    at: int  # its first byte
    data: Any = None


# Places of a schema: an object's keys, an exploded array's element, or a field. Only strict_utf8 asks for them.
FIELD = "field"
ELEMENT = object()
NOWHERE: dict[Any, Any] = {}

NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
ESCAPES = dict(zip(b'"\\/bfnrt', b'"\\/\b\f\n\r\t', strict=True))
DIGITS = tuple(b"0123456789")
HEX_DIGITS = tuple(b"0123456789abcdefABCDEF")
SPACE = b" \t\n\r"

sys.set_int_max_str_digits(0)  # a JSON number may have as many digits as it likes


class JsonParser:
    """Recursive descent over bytes. A string's content is UTF-8 bytes; a lone surrogate is kept as its three."""

    def __init__(
        self, text: bytes, max_depth: int = 64, strict_utf8: bool = False, places: Any = None
    ) -> None:
        self.text = text
        self.max_depth = max_depth
        self.strict_utf8 = strict_utf8
        self.places = NOWHERE if places is None else places
        self.skipped = 0  # values that no place asks for

    def message(self) -> Value:
        at = self.spaces(0)
        value, at = self.value(at, 0, self.places)
        at = self.spaces(at)
        if at < len(self.text):
            raise Fault("trailing_data", at)
        return value

    def fail(self, at: int) -> Fault:
        at = min(at, len(self.text))
        return Fault("truncated_json" if at == len(self.text) else "invalid_json", at)

    def peek(self, at: int) -> int:
        return self.text[at] if at < len(self.text) else -1

    def spaces(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in SPACE:
            at += 1
        return at

    def value(self, at: int, depth: int, place: Any) -> tuple[Value, int]:
        first = self.peek(at)
        if first in (ord("{"), ord("[")):
            if depth + 1 > self.max_depth:
                raise Fault("nesting_too_deep", at)
            return (
                self.object(at, depth + 1, place) if first == ord("{") else self.array(at, depth + 1, place)
            )
        if first == ord('"'):
            content, end = self.string(at + 1, skipped=place != FIELD)
            return Value("string", at, content), end
        for word, kind, data in ((b"true", "bool", True), (b"false", "bool", False), (b"null", "null", None)):
            if first == word[0]:
                for offset, letter in enumerate(word):
                    if self.peek(at + offset) != letter:
                        raise self.fail(at + offset)
                return Value(kind, at, data), at + len(word)
        return self.number(at)

    def object(self, at: int, depth: int, place: Any) -> tuple[Value, int]:
        members: dict[bytes, Value] = {}
        start, at = at, self.spaces(at + 1)
        if self.peek(at) == ord("}"):
            return Value("object", start, members), at + 1
        while True:
            if self.peek(at) != ord('"'):
                raise self.fail(at)
            key, at = self.string(at + 1, skipped=True)
            at = self.spaces(at)
            if self.peek(at) != ord(":"):
                raise self.fail(at)
            inner = place.get(key) if isinstance(place, dict) and place.get(ELEMENT) is None else None
            self.skipped += inner is None and place is not NOWHERE
            members[key], at = self.value(self.spaces(at + 1), depth, NOWHERE if inner is None else inner)
            at = self.spaces(at)
            if self.peek(at) == ord("}"):
                return Value("object", start, members), at + 1
            if self.peek(at) != ord(","):
                raise self.fail(at)
            at = self.spaces(at + 1)

    def array(self, at: int, depth: int, place: Any) -> tuple[Value, int]:
        inner = place.get(ELEMENT, NOWHERE) if isinstance(place, dict) else NOWHERE
        elements: list[Value] = []
        start, at = at, self.spaces(at + 1)
        if self.peek(at) == ord("]"):
            return Value("array", start, elements), at + 1
        while True:
            element, at = self.value(at, depth, inner)
            elements.append(element)
            at = self.spaces(at)
            if self.peek(at) == ord("]"):
                return Value("array", start, elements), at + 1
            if self.peek(at) != ord(","):
                raise self.fail(at)
            at = self.spaces(at + 1)

    def string(self, at: int, skipped: bool) -> tuple[bytes, int]:
        """Read from behind the opening quote. Of a skipped string strict_utf8 asks for valid raw bytes."""
        start, content, high = at, bytearray(), -1
        while True:
            byte = self.peek(at)
            done = byte == ord('"')
            try:
                if byte < 0x20:  # a control character, or the end
                    raise self.fail(at)
                if byte == ord("\\"):
                    unit, at = self.escape(at + 1)
                    if 0xDC00 <= unit < 0xE000 and high >= 0:
                        del content[-3:]  # the high half, written as if it were lone
                        unit = 0x10000 + ((high - 0xD800) << 10) + (unit - 0xDC00)
                    high = unit if 0xD800 <= unit < 0xDC00 else -1
                    content += chr(unit).encode("utf-8", "surrogatepass")
                elif not done:
                    content.append(byte)
                    at, high = at + 1, -1
            except Fault as fault:
                if skipped:
                    self.check_utf8(start, fault.at)
                raise
            if done:
                if skipped:
                    self.check_utf8(start, at)
                return bytes(content), at + 1

    def check_utf8(self, start: int, end: int) -> None:
        """Strictly: no raw byte from start to end may break UTF-8, but the message's end may cut a character."""
        if not self.strict_utf8:
            return
        try:
            self.text[start:end].decode()
        except UnicodeDecodeError as error:
            cut = end == len(self.text) and error.reason == "unexpected end of data"
            if not cut:
                raise Fault("invalid_json", start + error.start) from None

    def escape(self, at: int) -> tuple[int, int]:
        """Read from behind the backslash; return the UTF-16 unit that the escape stands for."""
        if self.peek(at) == ord("u"):
            for offset in range(1, 5):
                if self.peek(at + offset) not in HEX_DIGITS:
                    raise self.fail(at + offset)
            return int(self.text[at + 1 : at + 5], 16), at + 5
        if self.peek(at) not in ESCAPES:
            raise self.fail(at)
        return ESCAPES[self.text[at]], at + 1

    def number(self, at: int) -> tuple[Value, int]:
        end = at + (self.peek(at) == ord("-"))
        end = end + 1 if self.peek(end) == ord("0") else self.digits(end)
        if self.peek(end) == ord("."):
            end = self.digits(end + 1)
        if self.peek(end) in (ord("e"), ord("E")):
            end += 1
            end = self.digits(end + (self.peek(end) in (ord("+"), ord("-"))))
        return Value("number", at, self.text[at:end].decode()), end

    def digits(self, at: int) -> int:
        if self.peek(at) not in DIGITS:
            raise self.fail(at)
        while self.peek(at) in DIGITS:
            at += 1
        return at


def utf8(content: bytes) -> str | None:
    """Return the text, or None for bad UTF-8 and for escapes that stand for no character."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def is_number(text: str) -> bool:
    return NUMBER.fullmatch(text.encode("utf-8", "surrogatepass")) is not None


# More digits than any column holds: beyond, a number is out of range whatever the digits are.
MANY_DIGITS = 400


def exact(text: str) -> Fraction | None:
    """Return the value of a JSON number; None when it is too large to matter. The tiny become a tiny fraction."""
    sign = -1 if text.startswith("-") else 1
    mantissa, _, exponent_text = text.lstrip("-").lower().partition("e")
    whole, _, part = mantissa.partition(".")
    digits = int(whole + part)
    if digits == 0:
        return Fraction(0)
    exponent = int(exponent_text or 0) - len(part)
    if len(str(digits)) + exponent > MANY_DIGITS:
        return None
    if len(str(digits)) + exponent < -MANY_DIGITS:
        return sign * Fraction(1, 10**MANY_DIGITS)
    return sign * digits * Fraction(10) ** exponent


# ---- decode ----

REJECT_COLUMNS = (
    *(
        "source",
        "partition",
        "position",
        "line",
        "stage",
        "reason",
        "field",
        "byte_offset",
        "size_bytes",
        "bytes",
    ),
)


@dataclass(frozen=True)
class Message:
    source: str
    partition: int
    position: int
    data: bytes


@dataclass
class Row:
    values: dict[str, Any]
    message: Message
    line: int | None  # its index in the message; None when messages have one row each


class BadField(Exception):
    """A field that rejects its message."""

    def __init__(self, reason: str, name: str | None, at: int | None, line: int | None = None) -> None:
        super().__init__(reason, name)
        self.reason = reason
        self.name = name
        self.at = at
        self.line = line


def reject(
    message: Message, line: int | None, stage: str, reason: str, name: str | None, at: int | None
) -> dict[str, Any]:
    values = (message.source, message.partition, message.position, line, stage, reason, name, at)
    return dict(zip(REJECT_COLUMNS, (*values, len(message.data), message.data), strict=True))


def decode_lines(
    schema: dict[str, Any], block: bytes, source: str = "push", partition: int = 0, first_position: int = 1
) -> tuple[list[Row], list[dict[str, Any]], dict[str, int]]:
    """Decode NDJSON. Only a file's first line may begin with a byte-order mark."""
    if first_position == 1:
        block = block.removeprefix(b"\xef\xbb\xbf")
    *whole, last = block.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in whole] + [last]
    messages = [
        Message(source, partition, first_position + number, line)
        for number, line in enumerate(lines)
        if line.strip(SPACE)
    ]
    return decode(schema, messages)


def decode_messages(
    schema: dict[str, Any],
    messages: list[bytes],
    source: str = "push",
    partition: int = 0,
    first_position: int = 0,
) -> tuple[list[Row], list[dict[str, Any]], dict[str, int]]:
    origin = [
        Message(source, partition, first_position + number, data) for number, data in enumerate(messages)
    ]
    return decode(schema, origin)


def decode(
    schema: dict[str, Any], messages: list[Message]
) -> tuple[list[Row], list[dict[str, Any]], dict[str, int]]:
    rows: list[Row] = []
    rejects = []
    counts = dict.fromkeys(("messages", "decoded", "rejected", "rows", "empty", "unknown_fields"), 0)
    for message, broken in (each for given in messages for each in elements_of(schema, given)):
        counts["messages"] += 1
        if broken is not None:
            counts["rejected"] += 1
            rejects.append(reject(message, None, "decode", broken.reason, None, broken.at))
            continue
        try:
            lines, skipped = decode_message(schema, message.data)
        except BadField as bad:
            counts["rejected"] += 1
            rejects.append(reject(message, bad.line, "decode", bad.reason, bad.name, bad.at))
            continue
        counts["decoded"] += 1
        counts["rows"] += len(lines)
        counts["empty"] += not lines
        counts["unknown_fields"] += skipped
        exploded = bool(schema["explode"])
        rows += [Row(values, message, number if exploded else None) for number, values in enumerate(lines)]
    return rows, rejects, counts


def elements_of(schema: dict[str, Any], message: Message) -> list[tuple[Message, Fault | None]]:
    """A message that is an array of messages: each on its own, and where the array breaks, all that is left."""
    parser = JsonParser(message.data, schema["max_depth"], schema["strict_utf8"])
    at = parser.spaces(0)
    if not schema["array_messages"] or parser.peek(at) != ord("["):
        return [(message, None)]

    def piece(start: int, end: int) -> Message:
        return Message(message.source, message.partition, message.position, message.data[start:end])

    def rest(start: int, reason: str, fault_at: int) -> tuple[Message, Fault]:
        return piece(start, len(message.data)), Fault(reason, fault_at - start)

    elements: list[tuple[Message, Fault | None]] = []
    at = parser.spaces(at + 1)
    if parser.peek(at) != ord("]"):
        while True:
            try:
                _, end = parser.value(at, 0, NOWHERE)
            except Fault as fault:
                reason = "truncated_json" if fault.reason == "truncated_json" else "invalid_json"
                return [*elements, rest(at, reason, fault.at)]
            elements.append((piece(at, end), None))
            at = parser.spaces(end)
            if parser.peek(at) == ord("]"):
                break
            if parser.peek(at) != ord(","):
                reason = "truncated_json" if at == len(message.data) else "invalid_json"
                return [*elements, rest(at, reason, at)]
            at = parser.spaces(at + 1)
    at = parser.spaces(at + 1)
    return elements if at == len(message.data) else [*elements, rest(at, "trailing_data", at)]


def decode_message(schema: dict[str, Any], data: bytes) -> tuple[list[dict[str, Any]], int]:
    if len(data) > schema["max_message_bytes"]:
        raise BadField("message_too_large", None, None)
    parser = JsonParser(data, schema["max_depth"], schema["strict_utf8"], places_of(schema))
    try:
        root = parser.message()
    except Fault as fault:
        raise BadField(fault.reason, None, fault.at) from None
    if root.kind != "object":
        raise BadField("not_an_object", None, root.at)
    rows = [read_fields(schema, root, 0)]
    if schema["explode"]:
        (head,) = rows
        rows = []
        for element in array_of(schema, root, 0):
            rows += [{**head, **row} for row in explode(schema, element, 1, len(rows))]
    names = [each["name"] for each in schema["fields"]]
    return [{name: row[name] for name in names} for row in rows], parser.skipped


def explode(schema: dict[str, Any], element: Value, level: int, before: int) -> list[dict[str, Any]]:
    """Return the rows of an element. Faults are named as elements end: those of inner ones come first."""
    lines = level == len(schema["explode"])
    line = before if lines else None
    if element.kind != "object":
        raise BadField("wrong_type", schema["explode"][level - 1]["name"], element.at, line)
    rows: list[dict[str, Any]] = [{}] if lines else []
    lacking = None
    if not lines:
        try:
            for inner in array_of(schema, element, level):
                rows += explode(schema, inner, level + 1, before + len(rows))
        except NoArray as no_array:
            lacking = no_array
    try:
        values = read_fields(schema, element, level)
    except BadField as bad:
        bad.line = line
        raise
    if lacking is not None:
        raise lacking
    return [{**values, **row} for row in rows]


def read_fields(schema: dict[str, Any], element: Value, level: int) -> dict[str, Any]:
    return {each["name"]: read_field(each, element) for each in schema["fields"] if each["level"] == level}


def places_of(schema: dict[str, Any]) -> dict[Any, Any]:
    levels: list[dict[Any, Any]] = [{}]
    for array in schema["explode"]:
        elements: dict[Any, Any] = {}
        nest(levels[-1], [key.encode() for key in array["path"]], {ELEMENT: elements})
        levels.append(elements)
    for each in schema["fields"]:
        nest(levels[each["level"]], [key.encode() for key in each["path"]], FIELD)
    return levels[0]


def nest(places: dict[Any, Any], keys: list[bytes], leaf: Any) -> None:
    for key in keys[:-1]:
        places = places.setdefault(key, {})
    places[keys[-1]] = leaf


def find(root: Value, keys: list[str], name: str) -> Value | None:
    """Follow keys. A missing or null object on the way is a missing value; another kind of value is a fault."""
    value = root
    for key in keys:
        if value.kind == "null":
            return None
        if value.kind != "object":
            raise BadField("wrong_type", name, value.at)
        if key.encode() not in value.data:
            return None
        value = value.data[key.encode()]
    return value


class NoArray(BadField):
    """An exploded array that is not there."""


def array_of(schema: dict[str, Any], element: Value, level: int) -> list[Value]:
    """Return the elements of the array that is exploded inside an element of this level."""
    path, name = schema["explode"][level]["path"], schema["explode"][level]["name"]
    try:
        array = find(element, path, name)
    except BadField as bad:
        raise NoArray(bad.reason, name, bad.at) from None
    if array is None:
        raise NoArray("missing_field", name, None)
    if array.kind == "null":
        raise NoArray("null_field", name, array.at)
    if array.kind != "array":
        raise NoArray("wrong_type", name, array.at)
    return array.data


def read_field(column: dict[str, Any], parent: Value) -> Any:
    name = column["name"]
    value = find(parent, column["path"], name)
    if value is None:
        if column["required"]:
            raise BadField("missing_field", name, None)
        return default_of(column)
    try:
        lane = None if value.kind == "null" else READERS[column["type"]](column, value)
    except Unfit as unfit:
        raise BadField(unfit.args[0], name, value.at) from None
    if lane is None:
        if column["required"]:
            raise BadField("null_field", name, value.at)
        return default_of(column)
    return lane


def default_of(column: dict[str, Any]) -> Any:
    if not column["has_default"]:
        return None
    match column["type"]:
        case "string" | "dictionary":
            return column["default_string"]
        case "float64":
            return column["default_float"]
        case "bool":
            return bool(column["default_integer"])
    return column["default_integer"]


class Unfit(Exception):
    """A reason why a value does not fit its column."""


def text_of(value: Value) -> str:
    text = utf8(value.data)
    if text is None:
        raise Unfit("invalid_utf8")
    return text


def number_text(column: dict[str, Any], value: Value) -> str | None:
    """Return a number's text, with coerce also from inside a string; None stands for null."""
    if value.kind == "number":
        return value.data
    if value.kind == "string":
        text = text_of(value)
        if column["coerce"]:
            if not text:
                return None
            if is_number(text):
                return text
    raise Unfit("wrong_type")


def read_string(column: dict[str, Any], value: Value) -> str:
    if value.kind == "number" and column["coerce"]:
        return value.data
    if value.kind != "string":
        raise Unfit("wrong_type")
    return text_of(value)


def read_bool(column: dict[str, Any], value: Value) -> bool:
    if value.kind == "string":
        text_of(value)
    if value.kind != "bool":
        raise Unfit("wrong_type")
    return value.data


def read_integer(column: dict[str, Any], value: Value) -> int | None:
    text = number_text(column, value)
    if text is None:
        return None
    number = exact(text)
    scaled = None if number is None else number * (SCALE if column["type"] == "decimal" else 1)
    if scaled is None or math.trunc(scaled) not in (INT32 if column["type"] == "int32" else INT64):
        raise Unfit("out_of_range")
    if scaled.denominator != 1:
        raise Unfit("inexact_number")
    return int(scaled)


def read_float(column: dict[str, Any], value: Value) -> float | None:
    text = number_text(column, value)
    if text is None:
        return None
    number = float(text)  # correctly rounded
    if math.isinf(number):
        raise Unfit("out_of_range")
    return number


ISO8601, ISO8601_UTC, EPOCH_S, EPOCH_MS = 1, 2, 4, 8
FIRST_MS = (date.min.toordinal() - date(1970, 1, 1).toordinal()) * DAY_MS
LAST_MS = (date.max.toordinal() - date(1970, 1, 1).toordinal() + 1) * DAY_MS - 1


def read_timestamp(column: dict[str, Any], value: Value) -> int | None:
    forms = column["timestamp_forms"]
    if value.kind == "string" and forms & (ISO8601 | ISO8601_UTC):
        text = text_of(value)
        ms = iso_ms(text, naive_is_utc=bool(forms & ISO8601_UTC))
        if ms is not None:
            return ms
        if not column["coerce"] or (text and not (forms & (EPOCH_S | EPOCH_MS) and is_number(text))):
            raise Unfit("invalid_timestamp")
    text = number_text(column, value)
    if text is None:
        return None
    if not forms & (EPOCH_S | EPOCH_MS):
        raise Unfit("wrong_type")
    number = exact(text)
    if number is None:
        raise Unfit("out_of_range")
    ms = math.floor(number * (1000 if forms & EPOCH_S else 1))
    if not FIRST_MS <= ms <= LAST_MS:
        raise Unfit("out_of_range")
    return ms


ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?",
    re.ASCII,
)


def iso_ms(text: str, naive_is_utc: bool) -> int | None:
    """Return ms since 1970; digits beyond ms are cut off, toward the past. None: no such moment."""
    match = ISO.fullmatch(text)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    sign, offset_hour, offset_minute = match[9], int(match[10] or 0), int(match[11] or 0)
    if not (match[8] or sign or naive_is_utc):
        return None
    if max(hour, offset_hour) > 23 or max(minute, second, offset_minute) > 59:
        return None
    try:
        days = date(year, month, day).toordinal() - date(1970, 1, 1).toordinal()
    except ValueError:
        return None
    seconds = (hour * 60 + minute) * 60 + second
    offset = (offset_hour * 60 + offset_minute) * 60 * (-1 if sign == "-" else 1)
    ms = days * DAY_MS + (seconds - offset) * 1000 + int(((match[7] or "") + "000")[:3])
    return ms if FIRST_MS <= ms <= LAST_MS else None


READERS = {
    "string": read_string,
    "dictionary": read_string,
    "int32": read_integer,
    "int64": read_integer,
    "decimal": read_integer,
    "float64": read_float,
    "bool": read_bool,
    "timestamp": read_timestamp,
}

# ---- encode: strings to codes, first come first numbered; and a line's amounts ----


class Dictionary:
    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def encode(self, text: str) -> int:
        return self.codes.setdefault(text, len(self.codes))

    def values(self) -> list[str]:
        return list(self.codes)


def add_amounts(
    rows: list[Row], types: dict[str, str], quantity: str, unit_price: str, discount: str
) -> list[int]:
    """Add gross_amount and amount to every row; return the rows with an amount that int64 cannot hold."""
    overflowed = []
    for number, row in enumerate(rows):
        values = row.values
        factors = [values[quantity], values[unit_price]]
        units = SCALE if types[quantity] == "decimal" else 1
        share = SCALE - (values.get(discount) or 0)
        if None in factors:
            values["gross_amount"] = values["amount"] = None
            continue
        gross = half_even(Fraction(factors[0] * factors[1], units))
        net = half_even(Fraction(factors[0] * factors[1] * share, units * SCALE))
        values["gross_amount"] = gross if gross in INT64 else None
        values["amount"] = net if net in INT64 else None
        if gross not in INT64 or net not in INT64:
            overflowed.append(number)
    return overflowed


def half_even(value: Fraction) -> int:
    return round(value)  # of a Fraction: exact, ties to even


# ---- clean ----


class Watermark:
    """The least of the partitions' newest event times, less the bound on disorder. It never moves back."""

    def __init__(self, max_disorder_ms: int) -> None:
        self.max_disorder_ms = max_disorder_ms
        self.newest: dict[tuple[str, int], int] = {}
        self.idle: set[tuple[str, int]] = set()
        self.value_ms = NONE
        self.max_event_time_ms = NONE

    def declare(self, source: str, partition: int) -> None:
        self.newest.setdefault((source, partition), NONE)

    def set_idle(self, source: str, partition: int) -> None:
        self.declare(source, partition)
        self.idle.add((source, partition))
        self.refresh()

    def observe(self, source: str, partition: int, time_ms: int) -> None:
        who = (source, partition)
        self.newest[who] = max(self.newest.get(who, NONE), time_ms)
        self.idle.discard(who)
        self.max_event_time_ms = max(self.max_event_time_ms, time_ms)
        self.refresh()

    def advance(self, value_ms: int) -> None:
        self.value_ms = max(self.value_ms, value_ms)

    def refresh(self) -> None:
        active = [newest for who, newest in self.newest.items() if who not in self.idle]
        if active and min(active) != NONE:
            self.advance(max(NONE, min(active) - self.max_disorder_ms))


class Duplicates:
    """Keys, each remembered until the watermark has passed its event time by more than `within_ms`."""

    def __init__(self, key: list[str], within_ms: int) -> None:
        self.key = key
        self.within_ms = within_ms
        self.accepted: dict[tuple[Any, ...], int] = {}

    def seen(self, values: dict[str, Any], time_ms: int, watermark_ms: int) -> bool:
        key = tuple(values[name] for name in self.key)
        if key in self.accepted and watermark_ms <= self.accepted[key] + self.within_ms:
            return True
        self.accepted[key] = time_ms
        return False


def breaks(rule: dict[str, Any], values: dict[str, Any], now_ms: int) -> bool:
    value = values[rule["column"]]
    if rule["kind"] == "required":
        return value is None
    if value is None:
        return False
    match rule["kind"]:
        case "less_than":
            other = values[rule["other"]]
            return other is not None and value < other
        case "range":
            floating = isinstance(value, float)
            low = rule.get("low_float", -math.inf) if floating else rule.get("low", NONE)
            high = rule.get("high_float", math.inf) if floating else rule.get("high", END)
            return not low <= value <= high
        case "ahead":
            return value > now_ms + rule["high"]
        case "behind":
            return value < now_ms - rule["low"]
        case "allowed":
            return value not in rule["values"]
    raise ValueError(rule["kind"])


@dataclass
class Cleaner:
    rules: list[dict[str, Any]]
    time_column: str
    watermark: Watermark
    duplicates: Duplicates | None = None
    counts: Counter[str] = field(default_factory=Counter)

    def clean(
        self, rows: list[Row], now_ms: int, overflowed: Iterable[int] = ()
    ) -> tuple[list[tuple[Row, int]], list[dict[str, Any]]]:
        """Return the survivors, each with the watermark that it met, and the rejects.

        `overflowed` are the places of rows whose amount int64 cannot hold.
        """
        survivors = []
        rejects = []
        verdicts: dict[int, bool] = {}  # by message of this batch: is it a duplicate
        for place, row in enumerate(rows):
            self.counts["rows"] += 1
            broken = next((rule for rule in self.rules if breaks(rule, row.values, now_ms)), None)
            if broken is not None:
                self.counts["rejected"] += 1
                rejects.append(
                    reject(row.message, row.line, "clean", broken["reason"], broken["column"], None)
                )
                continue
            if place in overflowed:
                self.counts["rejected"] += 1
                rejects.append(reject(row.message, row.line, "clean", "amount_overflow", None, None))
                continue
            time_ms = row.values[self.time_column]
            who = id(row.message)
            if self.duplicates is not None:
                if who not in verdicts:
                    verdicts[who] = self.duplicates.seen(row.values, time_ms, self.watermark.value_ms)
                if verdicts[who]:
                    self.counts["duplicates"] += 1
                    rejects.append(reject(row.message, row.line, "clean", "duplicate", None, None))
                    continue
            survivors.append((row, self.watermark.value_ms))
            self.watermark.observe(row.message.source, row.message.partition, time_ms)
        return survivors, rejects


# ---- window ----


@dataclass
class Window:
    """A tumbling window. ``spec`` as _core.Window takes it; keys sort by value, nulls first, strings by bytes."""

    spec: dict[str, Any]
    open: dict[int, dict[tuple[Any, ...], list[dict[str, Any]]]] = field(default_factory=dict)
    closed_ms: int = NONE
    aggregated: int = 0
    late: int = 0

    def final_ms(self, start_ms: int) -> int:
        return start_ms + self.spec["size_ms"] + self.spec.get("allowed_lateness_ms", 0)

    def push(self, survivors: Iterable[tuple[Row, int]]) -> list[int]:
        """Take rows in; return the places of those that came late."""
        late = []
        size_ms, offset_ms = self.spec["size_ms"], self.spec.get("offset_ms", 0)
        for place, (row, watermark_ms) in enumerate(survivors):
            time_ms = row.values[self.spec["time_column"]]
            start_ms = (time_ms - offset_ms) // size_ms * size_ms + offset_ms
            if self.final_ms(start_ms) <= max(watermark_ms, self.closed_ms):
                late.append(place)
                continue
            key = tuple(row.values[name] for name in self.spec["keys"])
            self.open.setdefault(start_ms, {}).setdefault(key, []).append(row.values)
            self.aggregated += 1
        self.late += len(late)
        return late

    def advance(self, watermark_ms: int) -> list[list[dict[str, Any]]]:
        """Close what has become final: a list of result rows for each window, by start."""
        self.closed_ms = max(self.closed_ms, watermark_ms)
        final = sorted(start_ms for start_ms in self.open if self.final_ms(start_ms) <= self.closed_ms)
        return [self.close(start_ms) for start_ms in final]

    def close(self, start_ms: int) -> list[dict[str, Any]]:
        groups = self.open.pop(start_ms)
        return [
            {
                "window_start": start_ms,
                "window_end": start_ms + self.spec["size_ms"],
                **dict(zip(self.spec["keys"], key, strict=True)),
                **{
                    each["name"]: measure(each, groups[key], self.spec["types"])
                    for each in self.spec["measures"]
                },
            }
            for key in sorted(groups, key=lambda key: tuple(map(by_value, key)))
        ]


def by_value(value: Any) -> tuple[bool, Any]:
    return value is not None, value.encode() if isinstance(value, str) else value or 0


def measure(spec: dict[str, Any], rows: list[dict[str, Any]], types: dict[str, str]) -> Any:
    column, condition = spec.get("column") or "", spec.get("condition") or {}
    weights = [weight(condition, row) for row in rows]
    values = [row[column] if column else 1 for row in rows]
    taken = [(w, v) for w, v in zip(weights, values, strict=True) if w != 0 and v is not None]
    scale = SCALE if types.get(column) == "decimal" else 1
    match spec["op"]:
        case "count":
            return sum(w for w, _ in taken)
        case "sum":
            total = sum(w * v for w, v in taken)
            if total not in INT64:
                raise OverflowError(spec["name"])
            return total
        case "min":
            return min((v for _, v in taken), key=signed, default=None)
        case "max":
            return max((v for _, v in taken), key=signed, default=None)
        case "distinct":
            return len({v for _, v in taken})
    moments = Moments([v for _, v in taken], scale)
    return {"mean": moments.mean, "variance": moments.variance, "std": moments.std}[spec["op"]]()


def weight(condition: dict[str, Any], row: dict[str, Any]) -> int:
    if not condition:
        return 1
    value = row[condition["column"]]
    return (value in condition["plus"]) - (value in condition["minus"])


def signed(value: Any) -> Any:
    return (value, math.copysign(1, value)) if isinstance(value, float) else value  # -0.0 is below 0.0


@dataclass
class Moments:
    """Exact until the end, where they become a float once."""

    values: list[int]
    scale: int

    def mean(self) -> float | None:
        if not self.values:
            return None
        return float(Fraction(sum(self.values), len(self.values) * self.scale))

    def exact_variance(self) -> Fraction:
        n, total, squares = len(self.values), sum(self.values), sum(value * value for value in self.values)
        return Fraction(n * squares - total * total, n * (n - 1) * self.scale * self.scale)

    def variance(self) -> float | None:
        return None if len(self.values) < 2 else float(self.exact_variance())

    def std(self) -> float | None:
        if len(self.values) < 2:
            return None
        variance = self.exact_variance()
        with decimal.localcontext(prec=60):
            quotient = decimal.Decimal(variance.numerator) / decimal.Decimal(variance.denominator)
            return float(quotient.sqrt())


# ---- derive: demand per key over a rolling horizon ----


@dataclass
class Demand:
    """Daily windows in, statistics out. Days without a row of a key are days of no demand."""

    spec: dict[str, Any]
    days: dict[tuple[Any, ...], dict[int, int]] = field(default_factory=dict)  # key: day: demand
    today: int | None = None  # the start of the last day, ms

    def push(self, day: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the statistics of the keys that had a row on this day, in its order."""
        if not day:
            return []
        if self.today is not None:
            self.forget(day[0]["window_start"] - DAY_MS)
        self.today = day[0]["window_start"]
        changed = []
        for row in day:
            key = tuple(row[name] for name in self.spec["keys"])
            self.days.setdefault(key, {})[self.today] = row[self.spec["demand"]]
            changed.append(self.statistics(key))
        return changed

    def forget(self, last: int) -> None:
        """Forget the keys without any demand in the horizon that ends on the day `last`."""
        first = last - (self.spec["horizon_days"] - 1) * DAY_MS
        for key, demands in list(self.days.items()):
            if not any(demand for day, demand in demands.items() if first <= day <= last):
                del self.days[key]

    def current(self) -> list[dict[str, Any]]:
        """Return the statistics of all keys as of the last day, by key."""
        if self.today is None:
            return []
        self.forget(self.today)
        return [self.statistics(key) for key in sorted(self.days, key=lambda key: tuple(map(by_value, key)))]

    def statistics(self, key: tuple[Any, ...]) -> dict[str, Any]:
        demands, horizon = self.days[key], self.spec["horizon_days"]
        days = min(horizon, (self.today - min(demands)) // DAY_MS + 1)
        series = [demands.get(self.today - back * DAY_MS, 0) for back in range(days)]
        moments = Moments(series, SCALE if self.spec["types"][self.spec["demand"]] == "decimal" else 1)
        std = moments.std() or 0.0
        return {
            "day": self.today,
            **dict(zip(self.spec["keys"], key, strict=True)),
            "days": days,
            "demand": series[0],
            "mean": moments.mean(),
            "std": std,
            "safety_stock": self.spec["z"] * std * math.sqrt(self.spec["lead_time_days"]),
        }
