"""Schemas for people: printed as TOML, compared, and proposed from a sample of messages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from omnistream.errors import SchemaError
from omnistream.schema import Field, Schema

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
# A sample of this many messages shows every common shape; reading more only makes the proposal slower.
SAMPLE_MESSAGES = 10_000
# A text column is a dictionary when values repeat: at most this share of the values seen are distinct ones.
_DICTIONARY_SHARE = 0.5
_DICTIONARY_VALUES_MAX = 5_000
_DECIMAL_PLACES = 4
_INT64_MAX = 2**63 - 1
# Integers of these sizes are taken for times when the field's name says so: years 2001 to 2286.
_EPOCH_S, _EPOCH_MS = (10**9, 10**10), (10**12, 10**13)
_TIME_NAME = re.compile(r"(time|date|(^|_)(at|ts))$", re.IGNORECASE)


def to_toml(schema: Schema) -> str:
    """Return the file that `Schema.from_toml` reads."""
    table = schema.to_dict()
    fields = table.pop("field")
    lines = [f"{key} = {_value(value)}" for key, value in table.items()]
    for each in fields:
        lines += ["", "[[field]]", *(f"{key} = {_value(value)}" for key, value in each.items())]
    return "\n".join(lines) + "\n"


def differences(before: Schema, after: Schema) -> list[str]:
    """Return one line per difference: ``-`` gone, ``+`` new, ``~`` changed. Names of schemas do not count."""
    old, new = before.to_dict(), after.to_dict()
    lines = [
        f"~ {key}: {_value(old.get(key, ''))} -> {_value(new.get(key, ''))}"
        for key in dict.fromkeys([*old, *new])
        if key not in ("name", "field") and old.get(key) != new.get(key)
    ]
    old_fields, new_fields = ({each["name"]: each for each in table["field"]} for table in (old, new))
    for name in dict.fromkeys([*old_fields, *new_fields]):
        if name not in new_fields:
            lines.append(f"- {_inline(old_fields[name])}")
        elif name not in old_fields:
            lines.append(f"+ {_inline(new_fields[name])}")
        elif old_fields[name] != new_fields[name]:
            lines.append(f"~ {_inline(old_fields[name])} -> {_inline(new_fields[name])}")
    shared = [name for name in old_fields if name in new_fields]
    if shared != [name for name in new_fields if name in old_fields]:
        lines.append("~ the order of the fields")
    return lines


def _value(value: Any) -> str:
    """Return a TOML value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the delete character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _inline(each: dict[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in each.items()) + " }"


# ---- infer ----


@dataclass(slots=True)
class _Seen:
    """What the values at one path were."""

    count: int = 0  # of values that are not null
    kinds: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)  # of texts, up to a bound
    forms: set[str] = field(default_factory=set)  # of what may be a time

    def add(self, value: Any) -> None:
        self.count += 1
        if isinstance(value, bool):
            self.kinds.add("bool")
        elif isinstance(value, int | Decimal):
            self.kinds.add(_number_kind(Decimal(value)))
            self.forms.add(_epoch_form(value))
        else:
            self.kinds.add("string")
            self.forms.add(_iso_form(value))
            if len(self.values) <= _DICTIONARY_VALUES_MAX:
                self.values.add(value)


def infer(sample: str | os.PathLike[str]) -> Schema:
    """Propose a schema for the messages of an NDJSON file.

    The first array of objects becomes the explode path; other arrays are left out. Fields that every message
    (or line) has are required. Whoever uses the proposal reads it first: a sample cannot show what may come.

    Raises
    ------
    SchemaError
        When the sample holds no message.
    """
    messages = list(_messages(Path(sample)))
    if not messages:
        raise SchemaError(f"{sample}: holds no JSON object; give a file with one message per line")
    explode = next((path for path in map(_array_of_objects, messages) if path), ())
    outer: dict[tuple[str, ...], _Seen] = {}
    inner: dict[tuple[str, ...], _Seen] = {}
    lines = 0
    for message in messages:
        _collect(message, (), outer)
        for line in _lines_of(message, explode):
            lines += 1
            _collect(line, (), inner)
    # A key that is an object in one message and a value in another is read as the object.
    for seen in (outer, inner):
        inside = {path[:depth] for path in seen for depth in range(1, len(path))}
        for path in inside & seen.keys():
            del seen[path]
    outer = {path: seen for path, seen in outer.items() if path != explode[: len(path)]}
    names: set[str] = set()
    prefix = ".".join(map(_key, explode)) + "[]" if explode else ""
    fields = [_field(path, seen, "", len(messages), names) for path, seen in outer.items()]
    fields += [_field(path, seen, prefix, lines, names) for path, seen in inner.items()]
    if not fields:
        raise SchemaError(f"{sample}: no message has a field; give a file with one message per line")
    name = re.sub(r"\W+", "_", Path(sample).name.split(".")[0]) or "sample"
    return Schema(name, tuple(fields), prefix)


def _messages(sample: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects among the first lines; of other lines a schema says nothing."""
    with sample.open("rb") as file:
        for _, line in zip(range(SAMPLE_MESSAGES), file, strict=False):
            try:
                message = json.loads(line, parse_float=Decimal)
            except (ValueError, RecursionError):
                continue
            if isinstance(message, dict):
                yield message


def _array_of_objects(node: Any, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the path of the first array of objects, () when there is none."""
    for key, value in node.items():
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            return (*path, key)
        if isinstance(value, dict) and (found := _array_of_objects(value, (*path, key))):
            return found
    return ()


def _lines_of(message: Any, explode: tuple[str, ...]) -> Iterable[Any]:
    node = message if explode else None
    for key in explode:
        node = node.get(key) if isinstance(node, dict) else None
    return [each for each in node if isinstance(each, dict)] if isinstance(node, list) else []


def _collect(node: dict[str, Any], path: tuple[str, ...], seen: dict[tuple[str, ...], _Seen]) -> None:
    for key, value in node.items():
        if isinstance(value, dict):
            _collect(value, (*path, key), seen)
        elif not isinstance(value, list) and value is not None:
            seen.setdefault((*path, key), _Seen()).add(value)


def _field(path: tuple[str, ...], seen: _Seen, prefix: str, total: int, names: set[str]) -> Field:
    name = path[-1]
    if name in names:
        name = "_".join(path)
    while name in names:
        name += "_"
    names.add(name)
    written = ".".join([*([prefix] if prefix else []), *map(_key, path)])
    kind, form = _type(seen, path[-1])
    plain = written == _key(name)
    return Field(
        name,
        kind,
        "" if plain else written,
        required=seen.count == total,
        coerce=kind == "string" and seen.kinds != {"string"} and "bool" not in seen.kinds,
        format=(form,) if form else ("iso8601",),
    )


def _type(seen: _Seen, name: str) -> tuple[str, str]:
    """Return the narrowest type that holds every value seen and, for times, the form."""
    forms = seen.forms
    if len(forms) == 1 and "" not in forms and seen.kinds <= {"string", "int64"} and "bool" not in seen.kinds:
        form = next(iter(forms))
        if form.startswith("iso") or _TIME_NAME.search(name):
            return "timestamp", form
    if forms == {"iso8601", "iso8601_utc"}:
        return "timestamp", "iso8601_utc"
    if seen.kinds == {"bool"}:
        return "bool", ""
    for kinds, kind in (({"int64"}, "int64"), ({"int64", "decimal"}, "decimal")):
        if seen.kinds <= kinds:
            return kind, ""
    if seen.kinds <= {"int64", "decimal", "float64"}:
        return "float64", ""
    repeats = len(seen.values) <= min(_DICTIONARY_VALUES_MAX, seen.count * _DICTIONARY_SHARE)
    return ("dictionary" if repeats and seen.kinds == {"string"} else "string"), ""


def _number_kind(number: Decimal) -> str:
    if number == number.to_integral_value():
        return "int64" if abs(number) <= _INT64_MAX else "float64"
    scaled = number.scaleb(_DECIMAL_PLACES)
    return "decimal" if scaled == scaled.to_integral_value() and abs(scaled) <= _INT64_MAX else "float64"


def _epoch_form(number: int | Decimal) -> str:
    if _EPOCH_S[0] <= number < _EPOCH_S[1]:
        return "epoch_s"
    return "epoch_ms" if _EPOCH_MS[0] <= number < _EPOCH_MS[1] else ""


def _iso_form(text: str) -> str:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", text):
        return ""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return ""
    return "iso8601_utc" if moment.tzinfo is None else "iso8601"


def _key(key: str) -> str:
    if _BARE_KEY.fullmatch(key):
        return key
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
