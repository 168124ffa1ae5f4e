"""decode: messages to rows, by a schema."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from tests.reference.json_text import (
    ELEMENT,
    FIELD,
    NOWHERE,
    SPACE,
    JsonError,
    JsonParser,
    Value,
    exact,
    is_number,
    utf8,
)

SCALE = 10_000  # of decimals
DAY_MS = 86_400_000
INT32 = range(-(2**31), 2**31)
INT64 = range(-(2**63), 2**63)

# A message's outer strings, repeated for each of its lines, must not take more than so many times its bytes.
MOST_REPEATED = 256

REJECT_COLUMNS = ["source", "partition", "position", "line", "stage", "reason", "field"]
REJECT_COLUMNS += ["byte_offset", "size_bytes", "key", "bytes"]


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


class FieldError(Exception):
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
    return dict(zip(REJECT_COLUMNS, (*values, len(message.data), None, message.data), strict=True))


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
    schema: dict[str, Any],
    messages: list[Message],
    read: Callable[[dict[str, Any], bytes], tuple[list[dict[str, Any]], int]] | None = None,
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
            lines, skipped = (read or decode_message)(schema, message.data)
        except FieldError as bad:
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


def elements_of(schema: dict[str, Any], message: Message) -> list[tuple[Message, JsonError | None]]:
    """An array of messages: each on its own and, where the array breaks, all that is left."""
    parser = JsonParser(message.data, schema["max_depth"], schema["strict_utf8"])
    at = parser.spaces(0)
    if not schema["array_messages"] or parser.peek(at) != ord("["):
        return [(message, None)]

    def piece(start: int, end: int) -> Message:
        return Message(message.source, message.partition, message.position, message.data[start:end])

    def rest(start: int, reason: str, fault_at: int) -> tuple[Message, JsonError]:
        return piece(start, len(message.data)), JsonError(reason, fault_at - start)

    elements: list[tuple[Message, JsonError | None]] = []
    at = parser.spaces(at + 1)
    if parser.peek(at) != ord("]"):
        while True:
            try:
                _, end = parser.value(at, 0, NOWHERE)
            except JsonError as fault:
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
        raise FieldError("message_too_large", None, None)
    parser = JsonParser(data, schema["max_depth"], schema["strict_utf8"], places_of(schema))
    try:
        root = parser.message()
    except JsonError as fault:
        raise FieldError(fault.reason, None, fault.at) from None
    return rows_of(schema, root, data), parser.skipped


def rows_of(schema: dict[str, Any], root: Value, data: bytes) -> list[dict[str, Any]]:
    """Return the rows of a message whose bytes are in order."""
    if root.kind != "object":
        raise FieldError("not_an_object", None, root.at)
    rows = [read_fields(schema, root, 0)]
    if schema["explode"]:
        (head,) = rows
        rows = []
        for element in array_of(schema, root, 0):
            rows += [{**head, **row} for row in explode(schema, element, 1, len(rows))]
    inner = len(schema["explode"])
    repeated = [
        each["name"] for each in schema["fields"] if each["type"] == "string" and each["level"] < inner
    ]
    if sum(len((row[name] or "").encode()) for row in rows for name in repeated) > MOST_REPEATED * len(data):
        raise FieldError("message_too_large", None, None)
    names = [each["name"] for each in schema["fields"]]
    return [{name: row[name] for name in names} for row in rows]


def explode(schema: dict[str, Any], element: Value, level: int, before: int) -> list[dict[str, Any]]:
    """Return the rows of an element. JsonErrors are named as elements end: those of inner ones come first."""
    lines = level == len(schema["explode"])
    line = before if lines else None
    if element.kind != "object":
        raise FieldError("wrong_type", schema["explode"][level - 1]["name"], element.at, line)
    rows: list[dict[str, Any]] = [{}] if lines else []
    lacking = None
    if not lines:
        try:
            for inner in array_of(schema, element, level):
                rows += explode(schema, inner, level + 1, before + len(rows))
        except NoArrayError as no_array:
            lacking = no_array
    try:
        values = read_fields(schema, element, level)
    except FieldError as bad:
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
    """Follow keys. A missing or null object on the way is a missing value; any other kind is a fault."""
    value = root
    for key in keys:
        if value.kind == "null":
            return None
        if value.kind != "object":
            raise FieldError("wrong_type", name, value.at)
        if key.encode() not in value.data:
            return None
        value = value.data[key.encode()]
    return value


class NoArrayError(FieldError):
    """An exploded array that is not there."""


def array_of(schema: dict[str, Any], element: Value, level: int) -> list[Value]:
    """Return the elements of the array that is exploded inside an element of this level."""
    path, name = schema["explode"][level]["path"], schema["explode"][level]["name"]
    try:
        array = find(element, path, name)
    except FieldError as bad:
        raise NoArrayError(bad.reason, name, bad.at) from None
    if array is None:
        raise NoArrayError("missing_field", name, None)
    if array.kind == "null":
        raise NoArrayError("null_field", name, array.at)
    if array.kind != "array":
        raise NoArrayError("wrong_type", name, array.at)
    return array.data


def read_field(column: dict[str, Any], parent: Value) -> Any:
    name = column["name"]
    value = find(parent, column["path"], name)
    if value is None:
        if column["required"]:
            raise FieldError("missing_field", name, None)
        return default_of(column)
    try:
        column, value = value.for_column(column)
        lane = None if value.kind == "null" else READERS[column["type"]](column, value)
    except UnfitError as unfit:
        raise FieldError(unfit.args[0], name, value.at) from None
    if lane is None:
        if column["required"]:
            raise FieldError("null_field", name, value.at)
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


class UnfitError(Exception):
    """A reason why a value does not fit its column."""


def text_of(value: Value) -> str:
    text = utf8(value.data)
    if text is None:
        raise UnfitError("invalid_utf8")
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
    raise UnfitError("wrong_type")


def read_string(column: dict[str, Any], value: Value) -> str:
    if value.kind == "number" and column["coerce"]:
        return value.data
    if value.kind != "string":
        raise UnfitError("wrong_type")
    return text_of(value)


def read_bool(column: dict[str, Any], value: Value) -> bool:
    if value.kind == "string":
        text_of(value)
    if value.kind != "bool":
        raise UnfitError("wrong_type")
    return value.data


def read_integer(column: dict[str, Any], value: Value) -> int | None:
    text = number_text(column, value)
    if text is None:
        return None
    number = exact(text)
    scaled = None if number is None else number * (SCALE if column["type"] == "decimal" else 1)
    if scaled is None or math.trunc(scaled) not in (INT32 if column["type"] == "int32" else INT64):
        raise UnfitError("out_of_range")
    if scaled.denominator != 1:
        raise UnfitError("inexact_number")
    return int(scaled)


def read_float(column: dict[str, Any], value: Value) -> float | None:
    text = number_text(column, value)
    if text is None:
        return None
    number = float(text)  # correctly rounded
    if math.isinf(number):
        raise UnfitError("out_of_range")
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
            raise UnfitError("invalid_timestamp")
    text = number_text(column, value)
    if text is None:
        return None
    if not forms & (EPOCH_S | EPOCH_MS):
        raise UnfitError("wrong_type")
    number = exact(text)
    if number is None:
        raise UnfitError("out_of_range")
    ms = math.floor(number * (1000 if forms & EPOCH_S else 1))
    if not FIRST_MS <= ms <= LAST_MS:
        raise UnfitError("out_of_range")
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
