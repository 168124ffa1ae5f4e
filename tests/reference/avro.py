"""Avro: a message becomes the tree of values that its JSON would be, and is then read as JSON is.

A writer schema is what ``json.loads`` gives, each named type spelled out where it first stands. ``writers``
maps schema ids to writer schemas; messages are then framed as the Confluent Schema Registry asks for: a zero
byte, the id in four bytes, the body. Without a frame the only writer has the id None.
"""

from __future__ import annotations

import math
import struct
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.reference.decode import (
    EPOCH_MS,
    EPOCH_S,
    ISO8601_UTC,
    FieldError,
    Message,
    Row,
    UnfitError,
    decode,
    places_of,
    rows_of,
)
from tests.reference.json_text import ELEMENT, FIELD, NOWHERE, JsonError, Value, utf8

MAGIC = 0
FRAME_BYTES = 5
MOST_DECIMAL_BYTES = 64
PER_MS = {"millis": 1, "micros": 1_000, "nanos": 1_000_000}


@dataclass
class AvroValue(Value):
    """A JSON value, or of one of the kinds that JSON lacks.

    ``float``: (the number, its shortest text). ``huge``: a decimal beyond all lanes. ``moment``: (the number
    as text, ms, whether it lacks a zone). ``clock``: a date or a time of day, its number as text. ``fixed``.
    """

    def for_column(self, column: dict[str, Any]) -> tuple[dict[str, Any], Value]:
        timestamp = column["type"] == "timestamp"
        no_number = column["type"] in ("string", "dictionary", "bool") or (
            timestamp and not column["timestamp_forms"] & (EPOCH_S | EPOCH_MS)
        )
        match self.kind:
            case "float" | "huge" if no_number:
                raise UnfitError("wrong_type")
            case "huge":
                raise UnfitError("out_of_range")
            case "float":
                number, shortest = self.data
                if not math.isfinite(number):
                    raise UnfitError("out_of_range")
                # Widened, a float keeps its value; as a decimal it is what a person would write.
                text = repr(number) if column["type"] == "float64" else shortest
                return column, Value("number", self.at, text)
            case "moment" if timestamp:
                _, ms, local = self.data
                if local and not column["timestamp_forms"] & ISO8601_UTC:
                    raise UnfitError("invalid_timestamp")
                return {**column, "timestamp_forms": EPOCH_MS}, Value("number", self.at, str(ms))
            case "moment":
                return column, Value("number", self.at, self.data[0])
            case "clock" if timestamp:
                raise UnfitError("wrong_type")
            case "clock":
                return column, Value("number", self.at, self.data)
        return column, self


class AvroParser:
    def __init__(self, data: bytes, max_depth: int, strict_utf8: bool, root: Any) -> None:
        self.data = data
        self.max_depth = max_depth
        self.strict_utf8 = strict_utf8
        self.skipped = 0
        self.named: dict[str, Any] = {}
        self.find_names(root, "")

    def find_names(self, schema: Any, namespace: str) -> None:
        """Note every named type, and write full names in place of short ones."""
        if isinstance(schema, list):
            for branch in schema:
                self.find_names(branch, namespace)
        elif isinstance(schema, dict):
            kind = schema["type"]
            if isinstance(kind, dict | list):
                return self.find_names(kind, namespace)
            if kind in ("record", "error", "enum", "fixed"):
                full = full_name(schema["name"], schema.get("namespace", namespace))
                namespace = full.rpartition(".")[0]
                self.named[full] = (schema, namespace)
            for field in schema.get("fields", ()):
                self.find_names(field["type"], namespace)
            for inner in ("items", "values"):
                if inner in schema:
                    self.find_names(schema[inner], namespace)
        return None

    def resolve(self, schema: Any, namespace: str) -> tuple[Any, str]:
        """Return a schema as an object with a type, or a list, and the namespace inside it."""
        if isinstance(schema, list):
            return schema, namespace
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return {"type": schema}, namespace
            full = full_name(schema, namespace)
            return self.named[full] if full in self.named else self.named[schema]
        if isinstance(schema["type"], dict | list):
            return self.resolve(schema["type"], namespace)
        if schema["type"] in ("record", "error", "enum", "fixed"):
            return self.named[full_name(schema["name"], schema.get("namespace", namespace))]
        if schema["type"] not in (*PRIMITIVES, "array", "map"):
            return self.resolve(schema["type"], namespace)
        return schema, namespace

    def has_no_bytes(self, schema: Any, namespace: str, inside: tuple[int, ...] = ()) -> bool:
        """Whether every value of a type takes no bytes at all. A type that holds itself does not count."""
        schema, namespace = self.resolve(schema, namespace)
        if isinstance(schema, list) or id(schema) in inside:
            return False
        inside += (id(schema),)
        match schema["type"]:
            case "null":
                return True
            case "fixed":
                return bool(schema["size"] == 0)
            case "record" | "error":
                return all(self.has_no_bytes(each["type"], namespace, inside) for each in schema["fields"])
        return False

    # ---- bytes ----

    def need(self, at: int, size: int) -> int:
        if size > len(self.data) - at:
            raise JsonError("truncated_avro", len(self.data))
        return at + size

    def long(self, at: int) -> tuple[int, int]:
        """A zigzag number of up to ten bytes."""
        start, raw = at, 0
        while True:
            if at - start == 10:
                raise JsonError("invalid_avro", start)
            self.need(at, 1)
            raw |= (self.data[at] & 0x7F) << 7 * (at - start)
            at += 1
            if self.data[at - 1] < 0x80:
                break
        if raw >= 2**64:
            raise JsonError("invalid_avro", start)
        return (raw >> 1) ^ -(raw & 1), at

    def bytes(self, at: int) -> tuple[bytes, int]:
        size, begin = self.long(at)
        if size < 0:
            raise JsonError("invalid_avro", at)
        end = self.need(begin, size)
        return self.data[begin:end], end

    def skipped_text(self, at: int, text: bytes) -> None:
        if self.strict_utf8 and utf8(text) is None:
            raise JsonError("invalid_avro", at)

    def blocks(self, at: int) -> Any:
        """Yield (count, where the count stands, where the items begin); send back where they end."""
        while True:
            start = at
            count, at = self.long(at)
            if count == 0:
                yield 0, start, at
                return
            if count < 0:
                if count == -(2**63):
                    raise JsonError("invalid_avro", start)
                size_at = at
                size, at = self.long(at)
                if size < 0:
                    raise JsonError("invalid_avro", size_at)
            at = yield abs(count), start, at

    # ---- values ----

    def value(
        self, schema: Any, namespace: str, at: int, depth: int, place: Any, start: int | None = None
    ) -> tuple[Value, int]:
        """Read a value; ``start`` is where it begins, with the index of its union."""
        schema, namespace = self.resolve(schema, namespace)
        start = at if start is None else start
        if isinstance(schema, list):
            index, after = self.long(at)
            if not 0 <= index < len(schema):
                raise JsonError("invalid_avro", at)
            return self.value(schema[index], namespace, after, depth, place, start)
        kind, logical = schema["type"], schema.get("logicalType")
        known_object = isinstance(place, dict) and place is not NOWHERE and ELEMENT not in place
        match kind:
            case "null":
                return AvroValue("null", start), at
            case "boolean":
                end = self.need(at, 1)
                if self.data[at] > 1:
                    raise JsonError("invalid_avro", at)
                return AvroValue("bool", start, bool(self.data[at])), end
            case "int" | "long":
                number, end = self.long(at)
                return integer(start, number, kind, logical), end
            case "float":
                end = self.need(at, 4)
                (single,) = struct.unpack("<f", self.data[at:end])
                return AvroValue("float", start, (single, str(np.float32(single)))), end
            case "double":
                end = self.need(at, 8)
                (double,) = struct.unpack("<d", self.data[at:end])
                return AvroValue("float", start, (double, repr(double))), end
            case "enum":
                index, end = self.long(at)
                if not 0 <= index < len(schema["symbols"]):
                    raise JsonError("invalid_avro", at)
                return AvroValue("string", start, schema["symbols"][index].encode()), end
            case "bytes" | "string":
                content, end = self.bytes(at)
                if kind == "string" and place != FIELD:
                    self.skipped_text(at, content)
                if kind == "bytes" and is_decimal(schema):
                    return decimal(start, content, schema.get("scale", 0)), end
                return AvroValue("string", start, content), end
            case "fixed":
                end = self.need(at, schema["size"])
                content = self.data[at:end]
                if is_decimal(schema):
                    return decimal(start, content, schema.get("scale", 0)), end
                if logical == "uuid" and schema["size"] == 16:
                    return AvroValue("string", start, str(uuid.UUID(bytes=content)).encode()), end
                return AvroValue("fixed", start, content), end
        if not known_object and self.has_no_bytes(schema, namespace):
            return AvroValue("object", start), at
        if depth + 1 > self.max_depth:
            raise JsonError("nesting_too_deep", start)
        reader = {"array": self.array, "map": self.map}.get(kind, self.record)
        return reader(schema, namespace, at, depth + 1, place, start)

    def record(
        self, schema: Any, namespace: str, at: int, depth: int, place: Any, start: int
    ) -> tuple[Value, int]:
        known = isinstance(place, dict) and place is not NOWHERE and ELEMENT not in place
        members = {}
        for field in schema["fields"]:
            key = field["name"].encode()
            inner = place.get(key, NOWHERE) if known else NOWHERE
            self.skipped += known and inner is NOWHERE
            members[key], at = self.value(field["type"], namespace, at, depth, inner)
        return AvroValue("object", start, members), at

    def map(
        self, schema: Any, namespace: str, at: int, depth: int, place: Any, start: int
    ) -> tuple[Value, int]:
        known = isinstance(place, dict) and place is not NOWHERE and ELEMENT not in place
        members: dict[bytes, Value] = {}
        blocks = self.blocks(at)
        count, _, at = next(blocks)
        while count:
            for _ in range(count):
                key_at = at
                key, at = self.bytes(at)
                self.skipped_text(key_at, key)
                inner = place.get(key, NOWHERE) if known else NOWHERE
                self.skipped += known and inner is NOWHERE
                holds_array = leads_to_array(inner)
                member, at = self.value(
                    schema["values"], namespace, at, depth, NOWHERE if holds_array else inner
                )
                if holds_array and member.kind != "null":
                    member = AvroValue("fixed", member.at)  # an array inside a map is not exploded
                members[key] = member
            count, _, at = blocks.send(at)
        return AvroValue("object", start, members), at

    def array(
        self, schema: Any, namespace: str, at: int, depth: int, place: Any, start: int
    ) -> tuple[Value, int]:
        exploded = isinstance(place, dict) and ELEMENT in place
        no_bytes = self.has_no_bytes(schema["items"], namespace)
        items = []
        blocks = self.blocks(at)
        count, count_at, at = next(blocks)
        while count:
            if exploded and no_bytes and count > len(self.data) - at:
                raise JsonError("invalid_avro", count_at)  # rows out of nothing
            if exploded or not no_bytes:
                for _ in range(count):
                    item, at = self.value(
                        schema["items"], namespace, at, depth, place[ELEMENT] if exploded else NOWHERE
                    )
                    if exploded:
                        items.append(item)
            count, count_at, at = blocks.send(at)
        return AvroValue("array", start, items), at


PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")


def full_name(name: str, namespace: str | None) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def leads_to_array(place: Any) -> bool:
    return isinstance(place, dict) and (ELEMENT in place or any(map(leads_to_array, place.values())))


def integer(start: int, number: int, kind: str, logical: str | None) -> AvroValue:
    local, _, unit = (logical or "").rpartition("timestamp-")
    if kind == "long" and unit in PER_MS and local in ("", "local-") and "timestamp-" in str(logical):
        return AvroValue("moment", start, (str(number), number // PER_MS[unit], bool(local)))
    if (kind, logical) in (("int", "date"), ("int", "time-millis"), ("long", "time-micros")):
        return AvroValue("clock", start, str(number))
    return AvroValue("number", start, str(number))


def is_decimal(schema: Any) -> bool:
    """Whether a logical type says what Avro allows; what it does not is as if it were not there."""
    if schema.get("logicalType") != "decimal":
        return False
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if type(precision) is not int or type(scale) is not int:
        return False
    return 1 <= precision <= 154 and 0 <= scale <= precision


def decimal(start: int, content: bytes, scale: int) -> AvroValue:
    number = int.from_bytes(content, "big", signed=True)
    if not -(2 ** (8 * MOST_DECIMAL_BYTES - 1)) <= number < 2 ** (8 * MOST_DECIMAL_BYTES - 1):
        return AvroValue("huge", start)
    digits = str(abs(number)).rjust(scale + 1, "0")
    whole, part = digits[: len(digits) - scale], digits[len(digits) - scale :]
    text = f"{'-' if number < 0 else ''}{whole}{'.' if part else ''}{part}"
    return AvroValue("number", start, text)


def decode_avro(
    schema: dict[str, Any],
    messages: list[bytes],
    writers: dict[int | None, Any],
    source: str = "push",
    partition: int = 0,
    first_position: int = 0,
) -> tuple[list[Row], list[dict[str, Any]], dict[str, int]]:
    origin = [Message(source, partition, first_position + at, data) for at, data in enumerate(messages)]
    return decode(schema, origin, lambda schema, data: decode_message(schema, data, writers))


def decode_message(
    schema: dict[str, Any], data: bytes, writers: dict[int | None, Any]
) -> tuple[list[dict[str, Any]], int]:
    if len(data) > schema["max_message_bytes"]:
        raise FieldError("message_too_large", None, None)
    begin, writer = 0, None
    if None not in writers:
        if data[:1] not in (b"", bytes([MAGIC])):
            raise FieldError("invalid_avro", None, 0)
        if len(data) < FRAME_BYTES:
            raise FieldError("truncated_avro", None, len(data))
        begin, writer = FRAME_BYTES, int.from_bytes(data[1:FRAME_BYTES], "big")
        if writers.get(writer) is None:
            raise FieldError("unknown_schema", None, 1)
    parser = AvroParser(data, schema["max_depth"], schema["strict_utf8"], writers[writer])
    try:
        root, end = parser.value(writers[writer], "", begin, 0, places_of(schema))
        if end < len(data):
            raise JsonError("trailing_data", end)
    except JsonError as fault:
        raise FieldError(fault.reason, None, fault.at) from None
    return rows_of(schema, root, data), parser.skipped
