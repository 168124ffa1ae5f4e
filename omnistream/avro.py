"""Writer schemas of Avro messages: parsed from JSON, their names resolved, for the decoder in C++.

The meaning of the messages is in ``tests/reference/avro.py``; the C++ engine is ``cpp/src/avro.cpp`` and what
it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from omnistream.errors import SchemaError

PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
NAMED = ("record", "error", "enum", "fixed")
UNITS_PER_MS = {"millis": 1, "micros": 1_000, "nanos": 1_000_000}
# Digits of a decimal of 64 bytes: beyond them the logical type is as if it were not there.
MAX_PRECISION = 154
MAX_TYPES = 100_000
MAX_NESTING = 200


def parse_avro_schema(text: str, referenced: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Parse a writer schema.

    Parameters
    ----------
    text : str
        The schema in JSON.
    referenced : iterable of str
        Schemas in JSON that define names which `text` uses, each after those that it uses itself.

    Returns
    -------
    list of dict
        Its types; the first is that of a message. Each has ``kind`` and, as the kind asks for, ``names`` (of
        fields, symbols), ``children`` (indexes of types), ``size``, ``scale`` and ``logical``.

    Raises
    ------
    SchemaError
        When it is no Avro schema: the message names the place.
    """
    parser = _Parser()
    for other in referenced:
        parser.parse(_load(other), "", "a referenced schema")
    parser.types[0] = parser.types[parser.parse(_load(text), "", "the schema")]
    return parser.types


def _load(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # A lone name, as registries hold for primitive types, may come without quotes.
        if text.strip() in PRIMITIVES:
            return text.strip()
        raise SchemaError(f"the Avro schema is not JSON: {error}") from None


class _Parser:
    """Reads schemas one after the other; names live on from each to the next."""

    def __init__(self) -> None:
        self.types: list[dict[str, Any]] = [{}]  # [0] is kept free for the root
        self._named: dict[str, int] = {}
        self._primitive: dict[str, int] = {}
        self._depth = 0

    def parse(self, schema: Any, namespace: str, where: str) -> int:
        """Return the index of a type."""
        self._depth += 1
        if self._depth > MAX_NESTING or len(self.types) > MAX_TYPES:
            raise SchemaError(f"{where}: the Avro schema is too deep or too large")
        if isinstance(schema, str):
            index = self._name(schema, namespace, where)
        elif isinstance(schema, list):
            index = self._union(schema, namespace, where)
        elif isinstance(schema, dict):
            index = self._object(schema, namespace, where)
        else:
            raise SchemaError(f"{where}: {schema!r} is no Avro type")
        self._depth -= 1
        return index

    def _add(self, **type_: Any) -> int:
        self.types.append(type_)
        return len(self.types) - 1

    def _name(self, name: str, namespace: str, where: str) -> int:
        if name in PRIMITIVES:
            if name not in self._primitive:
                self._primitive[name] = self._add(kind=name)
            return self._primitive[name]
        for full in (_full_name(name, namespace), name):
            if full in self._named:
                return self._named[full]
        raise SchemaError(f"{where}: the Avro type {name!r} is not defined")

    def _union(self, branches: list[Any], namespace: str, where: str) -> int:
        index = self._add(kind="union", children=[])
        for number, branch in enumerate(branches):
            child = self.parse(branch, namespace, f"{where}, branch {number}")
            if self.types[child]["kind"] == "union":
                raise SchemaError(f"{where}: a union stands in a union")
            self.types[index]["children"].append(child)
        return index

    def _object(self, schema: dict[str, Any], namespace: str, where: str) -> int:
        kind = schema.get("type")
        if isinstance(kind, dict | list):
            return self.parse(kind, namespace, where)
        if not isinstance(kind, str):
            raise SchemaError(f"{where}: a type is missing in {json.dumps(schema)[:80]}")
        if kind in NAMED:
            return self._definition(kind, schema, namespace, where)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            if inner not in schema:
                raise SchemaError(f"{where}: {kind} without {inner}")
            index = self._add(kind=kind)
            self.types[index]["children"] = [self.parse(schema[inner], namespace, f"{where}, {inner}")]
            return index
        if kind in PRIMITIVES and "logicalType" in schema:
            return self._add(kind=kind, **_logical(kind, schema))
        return self._name(kind, namespace, where)

    def _definition(self, kind: str, schema: dict[str, Any], namespace: str, where: str) -> int:
        name = schema.get("name")
        if not isinstance(name, str) or not name:
            raise SchemaError(f"{where}: {kind} without a name")
        full = _full_name(name, schema.get("namespace", namespace))
        where = f"{where}, {kind} {full}"
        if full in self._named or name in PRIMITIVES:
            raise SchemaError(f"{where}: this name is defined twice")
        index = self._add(kind="record" if kind == "error" else kind)
        self._named[full] = index
        type_ = self.types[index]
        if kind == "fixed":
            size = schema.get("size")
            if type(size) is not int or not 0 <= size < 2**31:
                raise SchemaError(f"{where}: size must be a whole number of bytes, not {size!r}")
            type_.update(size=size, **_logical(kind, schema))
        elif kind == "enum":
            type_["names"] = _texts(schema.get("symbols"), f"{where}: symbols")
        else:
            fields = schema.get("fields")
            if not isinstance(fields, list) or not all(
                isinstance(each, dict) and "type" in each for each in fields
            ):
                raise SchemaError(f"{where}: fields must be a list of objects with a name and a type")
            type_["names"] = _texts([each.get("name") for each in fields], f"{where}: names of fields")
            type_["children"] = [
                self.parse(each["type"], full.rpartition(".")[0], f"{where}, field {each['name']}")
                for each in fields
            ]
        return index


def _full_name(name: str, namespace: Any) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _texts(values: Any, what: str) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise SchemaError(f"{what} must be a list of texts")
    if len(set(values)) != len(values):
        raise SchemaError(f"{what}: one stands there twice")
    return values


def _logical(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return what a logical type adds; one that Avro does not allow here is as if it were not there."""
    name = schema.get("logicalType")
    if name == "decimal" and kind in ("bytes", "fixed"):
        precision, scale = (schema.get(key, 0) for key in ("precision", "scale"))
        whole = type(precision) is int and type(scale) is int
        if whole and 1 <= precision <= MAX_PRECISION and 0 <= scale <= precision:
            return {"logical": "decimal", "scale": scale}
    elif kind == "long" and isinstance(name, str):
        for prefix, logical in (("timestamp-", "moment"), ("local-timestamp-", "local")):
            unit = name.removeprefix(prefix)
            if name.startswith(prefix) and unit in UNITS_PER_MS:
                return {"logical": logical, "size": UNITS_PER_MS[unit]}
    if (kind, name) in (("int", "date"), ("int", "time-millis"), ("long", "time-micros")):
        return {"logical": "clock"}
    if (kind, name) == ("fixed", "uuid") and schema.get("size") == 16:
        return {"logical": "uuid"}
    return {}
