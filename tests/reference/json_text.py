"""JSON, with the place of every value and of every fault."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


class JsonError(Exception):
    """Why bytes are no JSON: a reason, and the first byte that no JSON text with this beginning has."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason, at)
        self.reason = reason
        self.at = at


@dataclass
class Value:
    """A JSON value.

    ``data`` is a dict from keys to their last values, a list, a string's bytes, a number's text, or a bool.
    """

    kind: str  # object, array, string, number, bool, null
    at: int  # its first byte
    data: Any = None

    def for_column(self, column: dict[str, Any]) -> tuple[dict[str, Any], Value]:
        """Return how to read the value for a column; JSON is the same for all."""
        return column, self


# Places of a schema: an object's keys, an exploded array's element, or a field. What has none is skipped.
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
    """Recursive descent over bytes. Strings are UTF-8 bytes; a lone surrogate has three, too."""

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
            raise JsonError("trailing_data", at)
        return value

    def fail(self, at: int) -> JsonError:
        at = min(at, len(self.text))
        return JsonError("truncated_json" if at == len(self.text) else "invalid_json", at)

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
                raise JsonError("nesting_too_deep", at)
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
            keys = place if isinstance(place, dict) and ELEMENT not in place else NOWHERE
            inner = keys.get(key)
            self.skipped += inner is None and keys is not NOWHERE
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
            except JsonError as fault:
                if skipped:
                    self.check_utf8(start, fault.at)
                raise
            if done:
                if skipped:
                    self.check_utf8(start, at)
                return bytes(content), at + 1

    def check_utf8(self, start: int, end: int) -> None:
        """With strict_utf8: raw bytes must be UTF-8, but the end of the message may cut a character."""
        if not self.strict_utf8:
            return
        try:
            self.text[start:end].decode()
        except UnicodeDecodeError as error:
            cut = end == len(self.text) and error.reason == "unexpected end of data"
            if not cut:
                raise JsonError("invalid_json", start + error.start) from None

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
    """Return the value of a JSON number: None for the huge, some tiny fraction for the tiny."""
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
