"""decode: messages to rows, by a schema."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from tests.reference.json_text import (
    ELEMENT,
    FIELD,
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
    for message in messages:
        counts["messages"] += 1
        try:
            lines, skipped = decode_message(schema, message.data)
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


def decode_message(schema: dict[str, Any], data: bytes) -> tuple[list[dict[str, Any]], int]:
    if len(data) > schema["max_message_bytes"]:
        raise FieldError("message_too_large", None, None)
    parser = JsonParser(data, schema["max_depth"], schema["strict_utf8"], places_of(schema))
    try:
        root = parser.message()
    except JsonError as fault:
        raise FieldError(fault.reason, None, fault.at) from None
    if root.kind != "object":
        raise FieldError("not_an_object", None, root.at)
    head = {each["name"]: read_field(each, root) for each in schema["fields"] if not each["in_line"]}
    if not schema["explode"]:
        return [head], parser.skipped
    rows = []
    for number, element in enumerate(array_of_lines(schema, root)):
        if element.kind != "object":
            raise FieldError("wrong_type", schema["explode_name"], element.at, number)
        try:
            line = {each["name"]: read_field(each, element) for each in schema["fields"] if each["in_line"]}
        except FieldError as bad:
            bad.line = number
            raise
        rows.append({each["name"]: {**head, **line}[each["name"]] for each in schema["fields"]})
    return rows, parser.skipped


def places_of(schema: dict[str, Any]) -> dict[Any, Any]:
    places: dict[Any, Any] = {}
    keys = [key.encode() for key in schema["explode"]]
    if keys:
        elements: dict[Any, Any] = {}
        nest(places, keys, {ELEMENT: elements})
    for each in schema["fields"]:
        nest(elements if each["in_line"] else places, [key.encode() for key in each["path"]], FIELD)
    return places


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


def array_of_lines(schema: dict[str, Any], root: Value) -> list[Value]:
    name = schema["explode_name"]
    array = find(root, schema["explode"], name)
    if array is None:
        raise FieldError("missing_field", name, None)
    if array.kind == "null":
        raise FieldError("null_field", name, array.at)
    if array.kind != "array":
        raise FieldError("wrong_type", name, array.at)
    return array.data


def read_field(column: dict[str, Any], parent: Value) -> Any:
    name = column["name"]
    value = find(parent, column["path"], name)
    if value is None:
        if column["required"]:
            raise FieldError("missing_field", name, None)
        return default_of(column)
    try:
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
