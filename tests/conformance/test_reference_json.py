"""The reference reads JSON as Python does: same verdict and same values, whatever the bytes."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference, strategies

DEEP = 10**6  # Python's json has no bound on depth but the stack


def python_value(data: bytes) -> Any:
    """Parse with Python, numbers kept as text; raise ValueError where it or the standard does."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(pairs)

    # Lone surrogates and bad UTF-8 are accepted by the grammar; the columns judge them.
    text = data.decode("utf-8", "surrogateescape")
    if text.startswith("\ufeff"):
        raise ValueError("a byte-order mark is no JSON")
    return json.loads(text, parse_constant=refuse, parse_int=str, parse_float=str, object_pairs_hook=members)


def plain(value: reference.Value) -> Any:
    match value.kind:
        case "object":
            return {key_text(key): plain(member) for key, member in value.data.items()}
        case "array":
            return [plain(element) for element in value.data]
        case "string":
            return key_text(value.data)
    return value.data


def key_text(content: bytes) -> str:
    return content.decode("utf-8", "surrogateescape")


def unite(value: Any) -> Any:
    """Bring both answers to one spelling: Python keeps a lone surrogate, the reference its three bytes."""
    match value:
        case dict():
            return {unite(key): unite(member) for key, member in value.items()}
        case list():
            return [unite(element) for element in value]
        case str():
            out = bytearray()
            for character in value:
                lone_byte = 0xDC80 <= ord(character) <= 0xDCFF
                out += (
                    bytes([ord(character) - 0xDC00])
                    if lone_byte
                    else character.encode("utf-8", "surrogatepass")
                )
            return bytes(out)
    return value


def same_verdict(data: bytes) -> None:
    try:
        expected = python_value(data)
    except ValueError:
        with pytest.raises(reference.JsonError):
            reference.JsonParser(data, DEEP).message()
        return
    value = plain(reference.JsonParser(data, DEEP).message())
    # Python's answer cannot tell an escape of U+DC80..U+DCFF from a raw bad byte: verdicts only.
    if not re.search(rb"\\u[dD][cC][89a-fA-F]", data):
        assert unite(value) == unite(expected)


@given(strategies.documents())
def test_documents(data: bytes) -> None:
    same_verdict(data)


@given(strategies.mutated(strategies.documents()))
def test_mutated_documents(data: bytes) -> None:
    same_verdict(data)


SAMPLE = (
    b' {"a\\u00e9\\n":[-12.50e+3,0,{"b":{}},true],"c" : "\xe2\x82\xac\\ud83d\\ude00\\ud800",'
    b'"d":false,"e":null,"f":[[]]} '
)


@pytest.mark.parametrize("change", ["truncate", "delete", "double", "flip", "space", "insert"])
def test_every_byte_of_a_document(change: str) -> None:
    for at in range(len(SAMPLE)):
        head, byte, tail = SAMPLE[:at], SAMPLE[at : at + 1], SAMPLE[at + 1 :]
        variants = {
            "truncate": [head],
            "delete": [head + tail],
            "double": [head + byte + byte + tail],
            "flip": [head + bytes([byte[0] ^ (1 << bit)]) + tail for bit in range(8)],
            "space": [head + b" " + byte + tail, head + b"\n" + byte + tail],
            "insert": [head + bytes([extra]) + byte + tail for extra in b'"\\{}[],:0-+.eEtnf/\0\x1f\x7f\xff'],
        }
        for variant in variants[change]:
            same_verdict(variant)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "nan", "[NaN]", '{"a":-Infinity}'])
def test_constants_that_only_python_knows(text: str) -> None:
    with pytest.raises(reference.JsonError):
        reference.JsonParser(text.encode()).message()


@pytest.mark.parametrize(
    ("text", "reason", "at"),
    [
        ("", "truncated_json", 0),
        ("  ", "truncated_json", 2),
        ("{", "truncated_json", 1),
        ('{"a":tru', "truncated_json", 8),
        ('{"a":trve}', "invalid_json", 7),
        ('{"a":1,}', "invalid_json", 7),
        ('{"a" 1}', "invalid_json", 5),
        ('{"a":-}', "invalid_json", 6),
        ('{"a":-', "truncated_json", 6),
        ('{"a":1.}', "invalid_json", 7),
        ('{"a":1.e1}', "invalid_json", 7),
        ('{"a":1e+}', "invalid_json", 8),
        ('{"a":01}', "invalid_json", 6),
        ('{"a":.5}', "invalid_json", 5),
        ('{"a":+5}', "invalid_json", 5),
        ('{"a":"\\x"}', "invalid_json", 7),
        ('{"a":"\\u12g4"}', "invalid_json", 10),
        ('{"a":"\\u12', "truncated_json", 10),
        ('{"a":"b\nc"}', "invalid_json", 7),
        ('{"a":"b', "truncated_json", 7),
        ('{"a":1}}', "trailing_data", 7),
        ("{} x", "trailing_data", 3),
        ('{"a":[[]]}', "nesting_too_deep", 6),
        ("é", "invalid_json", 0),
        ("[1 2]", "invalid_json", 3),
    ],
)
def test_where_a_text_goes_wrong(text: str, reason: str, at: int) -> None:
    with pytest.raises(reference.JsonError) as caught:
        reference.JsonParser(text.encode(), max_depth=2).message()
    assert (caught.value.reason, caught.value.at) == (reason, at)


def fault_of(data: bytes) -> tuple[str, int] | None:
    try:
        reference.JsonParser(data).message()
    except reference.JsonError as error:
        return error.reason, error.at
    return None


@given(strategies.mutated(strategies.documents()))
def test_faults_stand_at_the_first_byte_that_cannot_be(data: bytes) -> None:
    """What comes before a fault is the beginning of some text: cut there, it is truncated, or whole."""
    fault = fault_of(data)
    if fault is not None:
        reason, at = fault
        whole = fault_of(data[:at]) is None
        assert whole == (reason == "trailing_data")
        assert whole or fault_of(data[:at]) == ("truncated_json", at)


@given(st.integers(-(10**30), 10**30), st.integers(-40, 40))
def test_numbers_are_exact(digits: int, exponent: int) -> None:
    assert reference.exact(f"{digits}e{exponent}") == digits * Fraction(10) ** exponent
