"""What a message holds: the fields that become columns, where they stand in the JSON, and how strict each is.

A schema is data: it is written in TOML or Python, checked here once, and compiled by the core into a decoder.
The C++ twin is ``cpp/include/omnistream/schema.hpp``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import json
import math
import tomllib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnistream.errors import SchemaError

if TYPE_CHECKING:
    import pyarrow as pa

TYPES = ("string", "dictionary", "int32", "int64", "decimal", "float64", "bool", "timestamp")
TIMESTAMP_FORMATS = {"iso8601": 1, "iso8601_utc": 2, "epoch_s": 4, "epoch_ms": 8}
DECIMAL_SCALE = 4

# The core keeps which fields a level has shown in one 64-bit word, and which objects in another.
MAX_FIELDS_PER_LEVEL = 64
MAX_OBJECTS = 60
# Levels of rows: the message and the elements of so many arrays inside each other.
MAX_ARRAYS = 3
MAX_DEPTH_LIMIT = 1024
MAX_MESSAGE_BYTES_LIMIT = 2**31 - 1

_INT_BITS = {"int32": 32, "int64": 64}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Default = str | int | float | bool | Decimal | datetime


@dataclass(frozen=True)
class Field:
    """One column and the place in the message that feeds it.

    Parameters
    ----------
    name : str
        The column's name.
    type : str
        One of ``TYPES``.
    path : str
        Dotted keys from the message (``customer.id``); a key with dots is quoted (``payload."a.b"``). A path
        that begins with the schema's explode path (``lines[].sku``) is read once per line. Empty: the name is
        the key.
    required : bool
        Missing or null rejects the message.
    coerce : bool
        Accept a number inside a string (``""`` is null), or for string columns a number as its text.
    format : tuple of str
        For timestamps: any of ``iso8601`` (offset required), ``iso8601_utc`` (no offset means UTC), and one
        of ``epoch_s``, ``epoch_ms``.
    default : optional
        The value for missing and null.
    """

    name: str
    type: str
    path: str = ""
    required: bool = False
    coerce: bool = False
    format: tuple[str, ...] = ("iso8601",)
    default: Default | None = None

    def __post_init__(self) -> None:
        if isinstance(self.format, str):
            object.__setattr__(self, "format", (self.format,))
        elif isinstance(self.format, list):
            object.__setattr__(self, "format", tuple(self.format))
        self._check()

    def _check(self) -> None:
        where = f"field {self.name!r}"
        if not isinstance(self.name, str) or not self.name:
            raise SchemaError(f"{where}: the name must be a non-empty string")
        if self.type not in TYPES:
            raise SchemaError(f"{where}: unknown type {self.type!r}{did_you_mean(self.type, TYPES)}")
        for flag in ("required", "coerce"):
            if not isinstance(getattr(self, flag), bool):
                raise SchemaError(f"{where}: {flag} must be true or false, not {getattr(self, flag)!r}")
        if not isinstance(self.path, str):
            raise SchemaError(f"{where}: path must be a string, not {self.path!r}")
        try:
            parse_path(self.json_path)
        except SchemaError as error:
            raise SchemaError(f"{where}: {error}") from None
        if self.coerce and self.type == "bool":
            raise SchemaError(f"{where}: coerce has no meaning for bool; drop it")
        self._check_format(where)
        if self.default is not None:
            if self.required:
                raise SchemaError(f"{where}: required and default exclude each other; drop one")
            lane_value(self)

    def _check_format(self, where: str) -> None:
        if not isinstance(self.format, tuple) or not self.format:
            raise SchemaError(f"{where}: format must be a name or a list of names, not {self.format!r}")
        for form in self.format:
            if not isinstance(form, str) or form not in TIMESTAMP_FORMATS:
                raise SchemaError(
                    f"{where}: unknown timestamp format {form!r}{did_you_mean(form, TIMESTAMP_FORMATS)}"
                )
        if self.type != "timestamp" and self.format != ("iso8601",):
            raise SchemaError(f"{where}: format is for timestamps only; drop it or set type = 'timestamp'")
        if "epoch_s" in self.format and "epoch_ms" in self.format:
            raise SchemaError(f"{where}: epoch_s and epoch_ms cannot be told apart; choose one")

    @property
    def json_path(self) -> str:
        """The path as written, or the quoted name."""
        return self.path or _quote_key(self.name)

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of a ``[[field]]`` table; what has its default value is left out."""
        table: dict[str, Any] = {"name": self.name, "type": self.type}
        if self.path:
            table["path"] = self.path
        if self.required:
            table["required"] = True
        if self.coerce:
            table["coerce"] = True
        if self.format != ("iso8601",):
            table["format"] = list(self.format)
        if self.default is not None:
            table["default"] = self.default
        return table


@dataclass(frozen=True)
class Schema:
    """Fields, the array whose elements become rows, and the limits on a message.

    Parameters
    ----------
    name : str
        What messages and logs call it.
    fields : tuple of Field
        The columns, in order.
    explode : str
        The path of the array of lines, ``lines[]`` or ``order.fulfillments[].items[]``: a row per element of
        the last array, the values further out repeated. Empty: one row per message.
    max_message_bytes : int
        Longer messages are rejected unread.
    max_depth : int
        Deeper nesting is rejected; the message's own object is depth 1.
    strict_utf8 : bool
        Check the strings that no column keeps, too.
    array_messages : bool
        A message is a JSON array of messages, all at its position; one that is an object stands for itself.
    """

    name: str
    fields: tuple[Field, ...]
    explode: str = ""
    max_message_bytes: int = 1 << 20
    max_depth: int = 64
    strict_utf8: bool = False
    array_messages: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", tuple(self.fields))
        try:
            self._check()
        except SchemaError as error:
            raise SchemaError(f"schema {self.name!r}: {error}") from None

    @classmethod
    def from_toml(cls, path: str | Path) -> Schema:
        """Read a schema file: the keys of ``from_dict`` at the top, or under ``[schema]``."""
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SchemaError(f"{path}: cannot read the schema: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SchemaError(f"{path}: not TOML: {error}") from None
        if set(table) == {"schema"} and isinstance(table["schema"], dict):
            table = table["schema"]
        try:
            return cls.from_dict({"name": path.stem, **table})
        except SchemaError as error:
            raise SchemaError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Schema:
        """Build a schema from the keys of a TOML table; ``field`` is the list of field tables."""
        _refuse_unknown_keys("schema", table, _SCHEMA_KEYS)
        tables = table.get("field", [])
        if not isinstance(tables, list) or not all(isinstance(each, Mapping) for each in tables):
            raise SchemaError("schema: field must be a list of tables; write [[field]] (or [[schema.field]])")
        fields = []
        for number, each in enumerate(tables, start=1):
            label = f"field {each['name']!r}" if "name" in each else f"field number {number}"
            _refuse_unknown_keys(label, each, _FIELD_KEYS)
            for key in ("name", "type"):
                if key not in each:
                    raise SchemaError(f"{label}: {key} is missing")
            fields.append(Field(**each))
        rest = {key: value for key, value in table.items() if key != "field"}
        return cls(**{"name": "schema", **rest, "fields": tuple(fields)})

    def to_dict(self) -> dict[str, Any]:
        """Return the table that ``from_dict`` reads."""
        table: dict[str, Any] = {"name": self.name}
        if self.explode:
            table["explode"] = self.explode
        table["max_message_bytes"] = self.max_message_bytes
        table["max_depth"] = self.max_depth
        table["strict_utf8"] = self.strict_utf8
        table["array_messages"] = self.array_messages
        table["field"] = [field.to_dict() for field in self.fields]
        return table

    def arrow_schema(self) -> pa.Schema:
        """Return the Arrow schema of a decoded batch; the core marks every column nullable."""
        import pyarrow as pa

        types = {
            "string": pa.utf8(),
            "dictionary": pa.dictionary(pa.int32(), pa.utf8()),
            "int32": pa.int32(),
            "int64": pa.int64(),
            "decimal": pa.decimal128(19, DECIMAL_SCALE),
            "float64": pa.float64(),
            "bool": pa.bool_(),
            "timestamp": pa.timestamp("ms", "UTC"),
        }
        return pa.schema([pa.field(field.name, types[field.type]) for field in self.fields])

    def field(self, name: str) -> Field:
        """Return the field of this name."""
        for field in self.fields:
            if field.name == name:
                return field
        names = [field.name for field in self.fields]
        raise SchemaError(f"schema {self.name!r}: no field {name!r}{did_you_mean(name, names)}")

    def select(self, columns: Iterable[str]) -> Schema:
        """Return the schema with the named columns and every required field, in this schema's order.

        Required fields stay so that a projection rejects exactly the messages that the whole schema rejects
        for a missing value.
        """
        kept = {self.field(name).name for name in columns}
        fields = tuple(each for each in self.fields if each.name in kept or each.required)
        return dataclasses.replace(self, fields=fields)

    def fingerprint(self) -> str:
        """Return a hash of all that changes what is decoded; the schema's own name is not part of it."""
        meaning = json.dumps(self.to_core(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(meaning.encode()).hexdigest()

    def to_core(self, checked: Collection[str] = ()) -> dict[str, Any]:
        """Return the schema as the extension takes it; fields that are only `checked` become no column."""
        return {
            "fields": [
                {**self._field_to_core(field), **({"checked": True} if field.name in checked else {})}
                for field in self.fields
            ],
            "explode": self._arrays(),
            "max_message_bytes": self.max_message_bytes,
            "max_depth": self.max_depth,
            "strict_utf8": self.strict_utf8,
            "array_messages": self.array_messages,
        }

    def _arrays(self) -> list[dict[str, Any]]:
        """Return the exploded arrays, outermost first: keys from the element around it, and its own path."""
        keys, ends = parse_path(self.explode) if self.explode else ((), ())
        starts = (0, *ends)
        return [
            {"path": list(keys[start:end]), "name": join_path(keys[:end], ends[: level + 1])}
            for level, (start, end) in enumerate(zip(starts, ends, strict=False))
        ]

    def _field_to_core(self, field: Field) -> dict[str, Any]:
        keys, ends = parse_path(field.json_path)
        lane = lane_value(field)
        return {
            "name": field.name,
            "path": list(keys[ends[-1] if ends else 0 :]),
            "type": field.type,
            "level": len(ends),
            "required": field.required,
            "coerce": field.coerce,
            "timestamp_forms": sum(TIMESTAMP_FORMATS[form] for form in set(field.format)),
            "has_default": field.default is not None,
            "default_integer": lane if isinstance(lane, int) else 0,
            "default_float": lane if isinstance(lane, float) else 0.0,
            "default_string": lane if isinstance(lane, str) else "",
        }

    def _check(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise SchemaError("the name must be a non-empty string")
        if not self.fields:
            raise SchemaError("no fields; add at least one [[field]]")
        for flag in ("strict_utf8", "array_messages"):
            if not isinstance(getattr(self, flag), bool):
                raise SchemaError(f"{flag} must be true or false, not {getattr(self, flag)!r}")
        for limit, highest in (
            ("max_message_bytes", MAX_MESSAGE_BYTES_LIMIT),
            ("max_depth", MAX_DEPTH_LIMIT),
        ):
            value = getattr(self, limit)
            if type(value) is not int or not 1 <= value <= highest:
                raise SchemaError(f"{limit} must be a whole number from 1 to {highest}, not {value!r}")
        self._check_explode()
        self._check_fields()
        self._check_paths()

    def _check_explode(self) -> None:
        if not isinstance(self.explode, str):
            raise SchemaError(f"explode must be one path such as 'lines[]', not {self.explode!r}")
        if not self.explode:
            return
        keys, ends = parse_path(self.explode)
        if not ends or ends[-1] != len(keys):
            raise SchemaError(f"explode = {self.explode!r} must end with [], such as 'lines[]'")
        if len(ends) > MAX_ARRAYS:
            raise SchemaError(
                f"explode = {self.explode!r} enters {len(ends)} arrays; at most {MAX_ARRAYS} can be"
            )

    def _check_fields(self) -> None:
        names = set()
        levels: Counter[int] = Counter()
        lines, _ = parse_path(self.explode) if self.explode else ((), ())
        objects = {lines[:length] for length in range(1, len(lines) + 1)}
        for field in self.fields:
            where = f"field {field.name!r}"
            if field.name in names:
                raise SchemaError(f"{where}: two fields have this name; rename one")
            names.add(field.name)
            keys, ends = parse_path(field.json_path)
            if ends:
                self._check_line_path(where, field.path, keys, ends)
            levels[len(ends)] += 1
            objects.update(keys[:length] for length in range(1, len(keys)))
            depth = len(keys) + len(ends)
            if depth > self.max_depth:
                raise SchemaError(f"{where}: path is {depth} deep; raise max_depth = {self.max_depth}")
        for level, count in levels.items():
            if count > MAX_FIELDS_PER_LEVEL:
                what = "line-level" if level else "message-level"
                raise SchemaError(f"{count} {what} fields; at most {MAX_FIELDS_PER_LEVEL} can be")
        if len(objects) > MAX_OBJECTS:
            raise SchemaError(f"the paths enter {len(objects)} objects; at most {MAX_OBJECTS} can be")

    def _check_line_path(self, where: str, path: str, keys: tuple[str, ...], ends: tuple[int, ...]) -> None:
        array = join_path(keys[: ends[-1]], ends)
        if not self.explode:
            raise SchemaError(f"{where}: path {path!r} enters an array; set explode = {array!r}")
        known, known_ends = parse_path(self.explode)
        if keys[: ends[-1]] != known[: ends[-1]] or ends != known_ends[: len(ends)]:
            raise SchemaError(
                f"{where}: path {path!r} enters a second array; only {self.explode!r} is exploded"
            )
        if ends[-1] == len(keys):
            raise SchemaError(f"{where}: path {path!r} names a whole line; add a key after []")

    def _check_paths(self) -> None:
        """Refuse two readers of one place, and a place that must be a value and an object at once."""
        owners: dict[tuple[str, ...], str] = {}
        lines = _place(self.explode) if self.explode else ()
        arrays = [lines[: at + 1] for at, key in enumerate(lines) if key == _ELEMENT]
        for array in arrays:
            owners[array] = f"explode = {self.explode!r}"
        for field in self.fields:
            place = _place(field.json_path)
            if place in owners:
                raise SchemaError(
                    f"field {field.name!r}: path {field.json_path!r} feeds {owners[place]}, too"
                )
            owners[place] = f"field {field.name!r}"
        for place, owner in owners.items():
            for length in range(1, len(place)):
                if place[:length] in owners and place[length - 1] != _ELEMENT:
                    leaf = owners[place[:length]]
                    raise SchemaError(f"{leaf} reads a value where {owner} enters it; change one path")
            for array in arrays:
                before = len(array) - 1
                if place[:before] == array[:before] and place[before : before + 1] != (_ELEMENT,):
                    if len(place) == before:
                        raise SchemaError(
                            f"{owner} reads a value where {self.explode!r} enters it; change one path"
                        )
                    raise SchemaError(
                        f"{owner}: its path enters {self.explode!r} without []; write the [], too"
                    )


# Stands between an array's path and the keys of its elements in _check_paths.
_ELEMENT = "[]"


def _place(path: str) -> tuple[str, ...]:
    keys, ends = parse_path(path)
    place: list[str] = []
    for at, key in enumerate(keys, start=1):
        place += [key, _ELEMENT] if at in ends else [key]
    return tuple(place)


_SCHEMA_KEYS = ("name", "explode", "max_message_bytes", "max_depth", "strict_utf8", "array_messages", "field")
_FIELD_KEYS = ("name", "type", "path", "required", "coerce", "format", "default")


@functools.lru_cache(maxsize=4096)
def parse_path(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Split a path into its keys, and where arrays are entered: after how many keys each ``[]`` stands.

    >>> parse_path('order.lines[].sku')
    (('order', 'lines', 'sku'), (2,))
    >>> parse_path('payload."a.b"')
    (('payload', 'a.b'), ())
    """
    keys: list[str] = []
    ends: list[int] = []
    at = 0
    while True:
        key, at = _parse_key(text, at)
        keys.append(key)
        if text.startswith("[]", at):
            ends.append(len(keys))
            at += 2
        if at == len(text):
            return tuple(keys), tuple(ends)
        if text[at] != ".":
            raise SchemaError(f"path {text!r}: {text[at]!r} at character {at + 1}; quote keys that hold it")
        at += 1


def join_path(keys: Iterable[str], ends: Iterable[int] = ()) -> str:
    """Write a path as `parse_path` reads it."""
    arrays = set(ends)
    return ".".join(_quote_key(key) + "[]" * (at in arrays) for at, key in enumerate(keys, start=1))


def _parse_key(text: str, at: int) -> tuple[str, int]:
    if at < len(text) and text[at] == '"':
        key = []
        at += 1
        while at < len(text) and text[at] != '"':
            at += text[at] == "\\"  # \" and \\ stand for the second character
            key.append(text[at : at + 1])
            at += 1
        if at >= len(text):
            raise SchemaError(f"path {text!r}: a quoted key has no closing quote")
        return "".join(key), at + 1
    end = at
    while end < len(text) and text[end] not in '."[]':
        end += 1
    if end == at:
        raise SchemaError(
            f"path {text!r} has an empty key at character {at + 1}; write keys with dots between"
        )
    return text[at:end], end


def _quote_key(key: str) -> str:
    if key and not any(mark in key for mark in '."[]\\'):
        return key
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known word, or all of them."""
    known = list(known)
    near = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _refuse_unknown_keys(where: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in table:
        if key not in known:
            raise SchemaError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")


def lane_value(field: Field) -> int | float | str | None:
    """Return a field's default in the unit of its lane: decimals times 10**4, timestamps in ms since 1970."""
    value = field.default
    if value is None:
        return None
    hint = _DEFAULT_HINT[field.type]
    wrong = SchemaError(f"field {field.name!r}: default {value!r} is no {field.type}; {hint}")
    match field.type:
        case "string" | "dictionary":
            if not isinstance(value, str) or not _is_unicode(value):
                raise wrong
            return value
        case "bool":
            if not isinstance(value, bool):
                raise wrong
            return int(value)
        case "int32" | "int64":
            bound = 1 << (_INT_BITS[field.type] - 1)
            if isinstance(value, bool) or not isinstance(value, int) or not -bound <= value < bound:
                raise wrong
            return value
        case "float64":
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise wrong
            return float(value)
        case "decimal":
            return _decimal_lane(value, wrong)
    return _timestamp_lane(value, wrong)


_DEFAULT_HINT = {
    "string": "write a string",
    "dictionary": "write a string",
    "bool": "write true or false",
    "int32": "write a whole number from -2147483648 to 2147483647",
    "int64": "write a whole number of at most 64 bits",
    "float64": "write a finite number",
    "decimal": f"write a number with at most {DECIMAL_SCALE} decimals, as a string to be exact",
    "timestamp": "write a date and time with an offset, such as 2026-11-11T00:00:00Z",
}


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decimal_lane(value: Default, wrong: SchemaError) -> int:
    if isinstance(value, bool | datetime):
        raise wrong
    try:
        number = Decimal(str(value)).scaleb(DECIMAL_SCALE)
    except InvalidOperation:
        raise wrong from None
    if not number.is_finite() or number != number.to_integral_value() or not -(2**63) <= number < 2**63:
        raise wrong
    return int(number)


def _timestamp_lane(value: Default, wrong: SchemaError) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise wrong from None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise wrong
    return (value - _EPOCH) // timedelta(milliseconds=1)


# The schemas that need no file.

ORDER_EVENT_TYPES = ("created", "paid", "shipped", "delivered", "cancelled", "returned")
STOCK_EVENT_TYPES = ("snapshot", "adjustment")
SHIPMENT_EVENT_TYPES = ("ordered", "expected", "received")

_EVENT = (
    Field("event_id", "string", required=True),
    Field("event_type", "dictionary", required=True),
    Field("event_time", "timestamp", required=True),
)


def _order_line(prefix: str) -> tuple[Field, ...]:
    return (
        Field("sku", "dictionary", f"{prefix}sku", required=True),
        Field("size", "dictionary", f"{prefix}size"),
        Field("quantity", "int64", f"{prefix}qty", required=True),
        Field("unit_price", "decimal", f"{prefix}unit_price", required=True),
        Field("unit_cost", "decimal", f"{prefix}unit_cost"),
        Field("discount", "decimal", f"{prefix}discount"),
    )


_ORDER_HEAD = (
    *_EVENT,
    Field("order_id", "string"),
    Field("channel", "dictionary"),
    Field("store_id", "dictionary"),
)

ORDER = Schema(
    "order",
    (
        *_ORDER_HEAD,
        Field("customer_id", "string", "customer.id"),
        Field("customer_phone", "string", "customer.phone"),
        Field("customer_address", "string", "customer.address"),
        *_order_line("lines[]."),
        Field("currency", "dictionary"),
    ),
    explode="lines[]",
)

ORDER_FLAT = Schema(
    "order_flat",
    (*_ORDER_HEAD, Field("customer_id", "string"), *_order_line(""), Field("currency", "dictionary")),
)

# A snapshot states what is on hand; an adjustment adds to it (shrinkage, counts, transfers).
STOCK_MOVEMENT = Schema(
    "stock_movement",
    (
        *_EVENT,
        Field("location_id", "dictionary", required=True),
        Field("sku", "dictionary", required=True),
        Field("size", "dictionary"),
        Field("quantity", "int64", "qty", required=True),
        Field("cause", "dictionary"),
    ),
)

# One shipment line on its way to a location: ordered, then expected at a time, then received.
INBOUND_SHIPMENT = Schema(
    "inbound_shipment",
    (
        *_EVENT,
        Field("shipment_id", "string", required=True),
        Field("supplier_id", "dictionary"),
        Field("location_id", "dictionary", required=True),
        Field("sku", "dictionary", required=True),
        Field("size", "dictionary"),
        Field("quantity", "int64", "qty", required=True),
        Field("unit_cost", "decimal"),
        Field("expected_time", "timestamp"),
    ),
)

PRICE_CHANGE = Schema(
    "price_change",
    (
        *_EVENT,
        Field("channel", "dictionary"),
        Field("store_id", "dictionary"),
        Field("sku", "dictionary", required=True),
        Field("size", "dictionary"),
        Field("unit_price", "decimal", required=True),
        Field("effective_time", "timestamp"),
        Field("currency", "dictionary"),
    ),
)

BUILTIN: dict[str, Schema] = {
    schema.name: schema for schema in (ORDER, ORDER_FLAT, STOCK_MOVEMENT, INBOUND_SHIPMENT, PRICE_CHANGE)
}
