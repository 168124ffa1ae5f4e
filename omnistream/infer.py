"""Propose a schema from a sample of messages, and say how a schema and a sample differ.

The sample is read in Python with ``json``: it is small, and every value is looked at. The way is: read
messages, collect the values of every place in them, choose the array to explode, then type and name the rest.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from omnistream.errors import SchemaError, SourceError
from omnistream.schema import DECIMAL_SCALE, MAX_FIELDS_PER_LEVEL, Field, Schema, join_path, parse_path

MAX_MESSAGES = 10_000
MAX_BYTES = 16 << 20
# A type is proposed when this share of the values fits it: dirt must not turn a price into a string.
FITTING_SHARE = 0.95
# Stricter for whole numbers: real fractions may be rare.
WHOLE_SHARE = 0.99
# Numbers with no more decimals than money has are taken for exact ones, whatever their name.
MONEY_SCALE = 2
# Strings with at most this share of distinct values become dictionaries; below so many values, by name only.
DICTIONARY_SHARE = 0.1
DICTIONARY_MIN_VALUES = 50
# A name may say "category" as long as its values are not nearly all distinct.
NAMED_DICTIONARY_SHARE = 0.9

_CATEGORY = re.compile(
    r"(^|_)(sku|size|colou?r|channel|currency|status|type|country|store|category|brand|warehouse|location)(_|$)"
)
_MONEY = re.compile(r"(^|_)(price|cost|amount|discount|fee|tax|revenue|subtotal|total)(_|$)")
_QUANTITY = re.compile(r"(^|_)(qty|quantity|count|units|stock|weight|grams)(_|$)")
_TIME = re.compile(r"(^|_)(time|date|timestamp|ts|at|on|created|updated|modified)(_|$|ms$)")
# Last keys that say too little alone: customer.id is customer_id.
_GENERIC = frozenset(
    (
        "id",
        "name",
        "type",
        "code",
        "value",
        "key",
        "number",
        "status",
        "phone",
        "email",
        "address",
        "title",
        "url",
    )
)

_JSON_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?")
_ISO8601 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?P<offset>[Zz]|[+-]\d\d(?::?\d\d)?)?", re.ASCII
)
_EPOCH_S = (10**9, 4 * 10**9)  # the years 2001 to 2096
_INT64 = 2**63

# A place in a message: its keys, and None for "each element of this array".
Place = tuple[str | None, ...]
Sample = str | os.PathLike[str] | bytes | bytearray | memoryview


@dataclass(frozen=True)
class Inference:
    """A proposed schema, and what a reader of it should know.

    Attributes
    ----------
    schema : Schema
    notes : tuple of str
        About places that are left out, and values that the proposal would reject.
    remarks : dict
        By field: how many values were missing or null.
    messages, broken : int
        Messages looked at, and lines that are no JSON object.
    """

    schema: Schema
    notes: tuple[str, ...]
    remarks: dict[str, str]
    messages: int
    broken: int


@dataclass(frozen=True)
class Unread:
    """A place of the sample that a schema does not read.

    Attributes
    ----------
    path : str
    type : str
        One for a field that reads it; empty for an array of plain values, which no column can hold.
    share : float
        Of the messages, or of the elements of its array, that have a value there.
    """

    path: str
    type: str
    share: float


@dataclass(frozen=True)
class SchemaDiff:
    """How a schema and a sample differ.

    Attributes
    ----------
    unread : tuple of Unread
        Places with values that the schema does not read.
    absent : tuple of Field
        Fields of the schema that no message of the sample has.
    """

    unread: tuple[Unread, ...]
    absent: tuple[Field, ...]

    def __bool__(self) -> bool:
        return bool(self.unread or self.absent)

    def __str__(self) -> str:
        lines = [f"+ {each.path}: {each.type or 'array'}, in {each.share:.1%}" for each in self.unread]
        lines += [f"- {each.name} ({each.json_path}): not in the sample" for each in self.absent]
        return "\n".join(lines)


def infer_schema(
    sample: Sample, *, name: str = "inferred", max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
) -> Schema:
    """Propose a schema for NDJSON: a path (``.gz`` and ``.zst`` too) or the bytes themselves.

    A sample that is one JSON document, printed over many lines or not, is one message, or an array of them.

    Raises
    ------
    SchemaError
        When no message of the sample is a JSON object with a value.
    SourceError
        When the path cannot be read.
    """
    return infer(sample, name=name, max_messages=max_messages, max_bytes=max_bytes).schema


def infer(
    sample: Sample, *, name: str = "inferred", max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
) -> Inference:
    """Propose a schema like `infer_schema`, with what was noticed on the way; `to_toml` prints both."""
    profile = _profile(sample, max_messages, max_bytes)
    explode, notes = _choose_array(profile)
    columns: list[tuple[Place, list[Any], _Typing]] = []
    for place, values in profile.leaves.items():
        if not _readable(place, explode):
            continue
        if not any(value is not None for value in values):
            notes.append(f"{_path(place)} is always null; left out")
            continue
        if any(inner[: len(place)] == place and len(inner) > len(place) for inner in profile.leaves):
            notes.append(
                f"{_path(place)} is a value in some messages and an object or array in others; left out"
            )
            continue
        columns.append((place, values, _type(_snake_case(str(place[-1])), values)))
    columns = _limit(columns, notes)
    if not columns:
        raise SchemaError(
            "the sample has no message with a value to read; give NDJSON, one JSON object per line"
        )

    names = _names([place for place, _, _ in columns])
    fields = []
    remarks = {}
    for column, (place, values, typing) in zip(names, columns, strict=True):
        of = profile.count(place)
        nulls = sum(value is None for value in values)
        path = _path(place)
        fields.append(
            Field(
                name=column,
                type=typing.type,
                path="" if path == column else path,
                required=len(values) == of and nulls == 0,
                coerce=typing.coerce,
                format=typing.format,
            )
        )
        said = [f"missing in {of - len(values)}"] * (len(values) < of) + [f"null in {nulls}"] * (nulls > 0)
        if said:
            remarks[column] = f"{', '.join(said)} of {of}"
        if typing.misfits:
            notes.append(
                f"{path}: {typing.misfits} of {len(values)} values are no {typing.type} and would be rejected"
            )
    schema = Schema(name, tuple(fields), explode=_path(explode), array_messages=profile.in_arrays)
    return Inference(schema, tuple(notes), remarks, profile.messages, profile.broken)


def to_toml(proposal: Schema | Inference) -> str:
    """Return the TOML that `Schema.from_toml` reads back; of an `Inference` with its notes as comments."""
    schema = proposal if isinstance(proposal, Schema) else proposal.schema
    remarks: dict[str, str] = {}
    lines: list[str] = []
    if isinstance(proposal, Inference):
        remarks = proposal.remarks
        broken = f"; {proposal.broken} lines are no JSON object" if proposal.broken else ""
        lines.append(f"# Proposed from {proposal.messages} messages{broken}.")
        lines += [f"# {_one_line(note)}" for note in proposal.notes]
    table = schema.to_dict()
    lines += [f"{key} = {_toml(value)}" for key, value in table.items() if key != "field"]
    for each in table["field"]:
        lines += ["", "[[field]]"]
        if each["name"] in remarks:
            lines.append(f"# {remarks[each['name']]}")
        lines += [f"{key} = {_toml(value)}" for key, value in each.items()]
    return "\n".join(lines) + "\n"


def diff_schema(
    schema: Schema, sample: Sample, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES
) -> SchemaDiff:
    """Compare a schema with a sample: what it does not read, and what the sample lacks."""
    profile = _profile(sample, max_messages, max_bytes)
    read = {_place(each.json_path): each for each in schema.fields}
    unread = []
    for place, values in profile.leaves.items():
        filled = sum(value is not None for value in values)
        if place in read or not filled:
            continue
        typing = _type(_snake_case(str(next(key for key in reversed(place) if key is not None))), values)
        unread.append(Unread(_path(place), typing.type, filled / profile.count(place)))
    seen = set(profile.leaves) | profile.containers
    return SchemaDiff(tuple(unread), tuple(each for place, each in read.items() if place not in seen))


# ---- messages of the sample ----


def _messages(sample: Sample, max_messages: int, max_bytes: int) -> Iterator[tuple[Any, bool]]:
    """Yield messages as Python values, and whether each stood in an array; one that is no JSON is None."""
    if isinstance(sample, bytes | bytearray | memoryview):
        block = bytes(sample[:max_bytes])
        whole = len(sample) <= max_bytes
    else:
        block = _head(Path(sample), max_bytes + 1)
        whole = len(block) <= max_bytes
        block = block[:max_bytes]
    block = block.removeprefix(b"\xef\xbb\xbf")
    document = _parse(block) if whole else None
    # A document of one value may spread over lines, as a payload that a person saved does.
    parsed = iter([document]) if isinstance(document, dict | list) else _parse_lines(block, whole)
    every = itertools.chain.from_iterable(map(_elements, parsed))
    return itertools.islice(every, max_messages)


def _parse_lines(block: bytes, whole: bool) -> Iterator[Any]:
    lines = block.split(b"\n")
    if not whole and len(lines) > 1:
        lines.pop()  # cut by the limit
    return (_parse(line) for line in lines if line.strip())


def _elements(value: Any) -> list[tuple[Any, bool]]:
    if isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
        return [(element, True) for element in value]
    return [(value, False)]


def _parse(text: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text.decode(), parse_float=Decimal, parse_constant=_refuse_constant)
    return None


def _head(path: Path, size_bytes: int) -> bytes:
    try:
        with pa.input_stream(os.fspath(path)) as file:
            return bytes(file.read(size_bytes))
    except OSError as error:
        raise SourceError(f"{path}: cannot read: {error.strerror or error}; name an NDJSON file") from error


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


# ---- places and their values ----


@dataclass
class _Profile:
    messages: int = 0
    broken: int = 0
    in_arrays: bool = False  # messages came as arrays of messages
    leaves: dict[Place, list[Any]] = field(default_factory=dict)  # scalars, nulls, and arrays of scalars
    containers: set[Place] = field(default_factory=set)  # places that hold objects, or arrays of them
    arrays: dict[Place, list[int]] = field(default_factory=dict)  # arrays of objects: the length of each

    def count(self, place: Place) -> int:
        """Return how many values a place could have: the messages, or the elements of its innermost array."""
        if None not in place:
            return self.messages
        return sum(self.arrays[place[: len(place) - 1 - place[::-1].index(None)]])


def _profile(sample: Sample, max_messages: int, max_bytes: int) -> _Profile:
    profile = _Profile()
    for message, in_array in _messages(sample, max_messages, max_bytes):
        if not isinstance(message, dict):
            profile.broken += 1
            continue
        profile.messages += 1
        profile.in_arrays |= in_array
        _walk((), message, profile)
    return profile


def _walk(place: Place, value: Any, profile: _Profile) -> None:
    if isinstance(value, dict):
        profile.containers.add(place)
        for key, inner in value.items():
            if key.isprintable():  # no other key could be written as a path and read by a person
                _walk((*place, key), inner, profile)
    elif isinstance(value, list) and value and all(isinstance(element, dict) for element in value):
        profile.containers.add(place)
        profile.arrays.setdefault(place, []).append(len(value))
        for element in value:
            _walk((*place, None), element, profile)
    elif value != []:
        profile.leaves.setdefault(place, []).append(value)


def _place(path: str) -> Place:
    keys, ends = parse_path(path)
    place: list[str | None] = []
    for at, key in enumerate(keys, start=1):
        place += [key, None] if at in ends else [key]
    return tuple(place)


def _path(place: Place) -> str:
    text = ""
    for key in place:
        if key is None:
            text += "[]"
        else:
            text += ("." if text else "") + join_path([key])
    return text


# ---- the array to explode ----


def _choose_array(profile: _Profile) -> tuple[Place, list[str]]:
    """Choose the array of objects that most messages have; among equals the deepest, then the longest."""
    arrays = {place: lengths for place, lengths in profile.arrays.items() if None not in place}
    notes = [
        f"{_path(place)}[] stands inside another array; explode it instead to read it"
        for place in profile.arrays
        if None in place
    ]
    for place, values in profile.leaves.items():
        lists = sum(isinstance(value, list) for value in values)
        if lists:
            notes.append(
                f"{_path(place)} is an array of plain values in {lists} messages; no column can hold it"
            )
    if not arrays:
        return (), notes
    best = max(arrays, key=lambda place: (len(arrays[place]), len(place), sum(arrays[place])))
    for place, lengths in arrays.items():
        if place != best:
            share = f"{len(lengths)} of {profile.messages} messages"
            notes.append(
                f"{_path(place)}[] is an array of objects, too, in {share}; explode it instead to read it"
            )
    return (*best, None), notes


def _readable(place: Place, explode: Place) -> bool:
    if None not in place:
        # Null, or an object, instead of the array is not a place of its own.
        return not explode or place[: len(explode) - 1] != explode[:-1]
    return (
        place[: len(explode)] == explode and None not in place[len(explode) :] and len(place) > len(explode)
    )


def _limit(
    columns: list[tuple[Place, list[Any], _Typing]], notes: list[str]
) -> list[tuple[Place, list[Any], _Typing]]:
    """Keep the places with the most values when a level has more than a schema can read; drop arrays."""
    columns = [each for each in columns if each[2].type]
    for in_line in (False, True):
        level = [each for each in columns if (None in each[0]) is in_line]
        if len(level) > MAX_FIELDS_PER_LEVEL:
            level.sort(key=lambda each: -sum(value is not None for value in each[1]))
            dropped = [each[0] for each in level[MAX_FIELDS_PER_LEVEL:]]
            notes.append(f"left out, as a level has at most {MAX_FIELDS_PER_LEVEL} fields: "
                         + ", ".join(map(_path, dropped)))  # fmt: skip
            columns = [each for each in columns if each[0] not in dropped]
    return columns


# ---- types ----


@dataclass(frozen=True)
class _Typing:
    type: str  # empty: no column can hold the values
    coerce: bool = False
    format: tuple[str, ...] = ("iso8601",)
    misfits: int = 0  # values that the type refuses


def _type(name: str, values: Sequence[Any]) -> _Typing:
    filled = [value for value in values if value is not None]
    if sum(isinstance(value, list | dict) for value in filled) * 2 > len(filled):
        return _Typing("")
    for propose in (_as_bool, _as_timestamp, _as_number, _as_text):
        typing = propose(name, filled)
        if typing is not None:
            return typing
    return _Typing(
        "string", coerce=True, misfits=sum(isinstance(value, bool | list | dict) for value in filled)
    )


def _fits(filled: Sequence[Any], test: Callable[[Any], bool]) -> int | None:
    """Return the number of values that fail, or None when they are too many."""
    misfits = sum(not test(value) for value in filled)
    return misfits if len(filled) - misfits >= FITTING_SHARE * len(filled) else None


def _as_bool(name: str, filled: Sequence[Any]) -> _Typing | None:
    misfits = _fits(filled, lambda value: isinstance(value, bool))
    return None if misfits is None else _Typing("bool", misfits=misfits)


def _as_timestamp(name: str, filled: Sequence[Any]) -> _Typing | None:
    misfits = _fits(filled, _is_iso8601)
    if misfits is not None:
        matches = [_ISO8601.fullmatch(value) for value in filled if _is_iso8601(value)]
        offsets = all(match is not None and match["offset"] for match in matches)
        return _Typing("timestamp", format=("iso8601",) if offsets else ("iso8601_utc",), misfits=misfits)
    if not _TIME.search(name):
        return None
    for form, scale in (("epoch_s", 1), ("epoch_ms", 1000)):
        low, high = (bound * scale for bound in _EPOCH_S)

        def in_range(value: Any, low: int = low, high: int = high) -> bool:
            number = _number(value)
            return number is not None and (number == 0 or low <= number < high)

        misfits = _fits(filled, in_range)
        if misfits is not None:
            return _Typing("timestamp", any(isinstance(value, str) for value in filled), (form,), misfits)
    return None


def _is_iso8601(value: Any) -> bool:
    if not isinstance(value, str) or not _ISO8601.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value[:19].replace("t", "T"))
    except ValueError:
        return False
    return value[17:19] != "60"


def _number(value: Any) -> Decimal | None:
    """Return a number, or the number in a string."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and _JSON_NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def _as_number(name: str, filled: Sequence[Any]) -> _Typing | None:
    coerce = any(isinstance(value, str) and _number(value) is not None for value in filled)
    # Digits in a string are a number where the name says so, or a fraction does; else an id, a phone, a size.
    money = _MONEY.search(name) is not None
    if coerce and not money and not _QUANTITY.search(name):
        in_strings = [value for value in filled if isinstance(value, str)]
        if len(in_strings) == len(filled) and not any("." in value for value in in_strings):
            return None
    misfits = _fits(filled, lambda value: _number(value) is not None or (coerce and value == ""))
    if misfits is None:
        return None
    numbers = [number for number in map(_number, filled) if number is not None]
    if not numbers:
        return None
    if all(number == number.to_integral_value() and abs(number) >= _INT64 for number in numbers):
        return _Typing("string", coerce=True)  # ids beyond 64 bits, kept as their text
    broken = sum(not _is_whole(number) for number in numbers)
    if not money and broken <= (1 - WHOLE_SHARE) * len(numbers):
        return _Typing("int64", coerce, misfits=misfits + broken)
    beyond = sum(_scale(number) > DECIMAL_SCALE or not _in_decimal(number) for number in numbers)
    fine = sum(_scale(number) > MONEY_SCALE for number in numbers) if not money else beyond
    if max(fine, beyond) <= (1 - FITTING_SHARE) * len(numbers):
        return _Typing("decimal", coerce, misfits=misfits + beyond)
    return _Typing("float64", coerce, misfits=misfits)


def _is_whole(number: Decimal) -> bool:
    """Tell whether a number was written without a fraction and fits 64 bits."""
    return number.as_tuple().exponent == 0 and -_INT64 <= number < _INT64


def _in_decimal(number: Decimal) -> bool:
    return -_INT64 <= number.scaleb(DECIMAL_SCALE) < _INT64


def _scale(number: Decimal) -> int:
    """Return the decimals that a number needs."""
    exponent = number.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0


def _as_text(name: str, filled: Sequence[Any]) -> _Typing | None:
    misfits = _fits(filled, lambda value: isinstance(value, str))
    if misfits is None:
        return None
    share = len({value for value in filled if isinstance(value, str)}) / len(filled)
    few = len(filled) < DICTIONARY_MIN_VALUES
    by_name = _CATEGORY.search(name) is not None and (few or share <= NAMED_DICTIONARY_SHARE)
    return _Typing(
        "dictionary" if by_name or (not few and share <= DICTIONARY_SHARE) else "string", misfits=misfits
    )


# ---- names ----


def _snake_case(key: str) -> str:
    text = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3_\2\4", key)
    text = re.sub(r"\W+", "_", text).strip("_").lower()
    return text or "field"


def _names(places: Sequence[Place]) -> list[str]:
    """Name each place by its last key; those that say too little or collide take the keys before it, too."""
    keys = [[_snake_case(key) for key in place if key is not None] for place in places]
    lengths = [
        2 if len(words) > 1 and words[-1] in _GENERIC and None not in place else 1
        for words, place in zip(keys, places, strict=True)
    ]

    def names() -> list[str]:
        return ["_".join(words[-length:]) for words, length in zip(keys, lengths, strict=True)]

    while True:
        current = names()
        taken = {name for name in current if current.count(name) > 1}
        longer = [i for i, name in enumerate(current) if name in taken and lengths[i] < len(keys[i])]
        if not longer:
            break
        for i in longer:
            lengths[i] += 1
    unique: list[str] = []
    for name in current:
        candidate, number = name, 2
        while candidate in unique or (candidate != name and candidate in current):
            candidate, number = f"{name}_{number}", number + 1
        unique.append(candidate)
    return unique


# ---- TOML ----


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Decimal):
        return _toml(str(value))
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
