"""encode: codes are dense and first come first numbered; amounts are exact."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import _core
from omnistream.schema import Field, Schema
from tests import reference, strategies
from tests.engines import CpuEngine, ReferenceEngine, device_engine

TEXTS = st.lists(st.one_of(st.text("ab", max_size=20), strategies.TEXTS), max_size=60)


@given(TEXTS, st.integers(0, 60))
def test_codes(texts: list[str], cut: int) -> None:
    expected, dictionary = reference.Dictionary(), _core.Dictionary()
    for part in (texts[:cut], texts[cut:]):
        assert dictionary.encode([text.encode() for text in part]) == [expected.encode(text) for text in part]
    assert [value.decode() for value in dictionary.values()] == expected.values()
    assert pa.record_batch(dictionary.to_batch()).column("value").to_pylist() == expected.values()


def test_a_dictionary_that_grows() -> None:
    texts = [f"style-{number * 7919 % 30_011}-{'x' * (number % 40)}".encode() for number in range(30_000)]
    dictionary = _core.Dictionary()
    codes = dictionary.encode(texts + texts[::-1])
    assert codes[: len(texts)] == list(range(len(texts)))
    assert codes[len(texts) :] == codes[: len(texts)][::-1]


@given(TEXTS)
def test_a_restored_dictionary_goes_on(texts: list[str]) -> None:
    first, second = _core.Dictionary(), _core.Dictionary()
    first.encode([text.encode() for text in texts])
    second.restore(pa.record_batch(first.to_batch()))
    assert second.values() == first.values()
    more = [b"new", *first.values(), b"newer"]
    assert second.encode(more) == first.encode(more)


@given(st.lists(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "é", ""])), max_size=5), max_size=4))
def test_decoded_codes_come_in_the_order_of_the_rows(batches: list[list[str | None]]) -> None:
    schema = Schema("s", (Field("sku", "dictionary"),)).to_core()
    expected, dictionary = reference.Dictionary(), _core.Dictionary()
    decoder = _core.Decoder(schema, {"sku": dictionary})
    for texts in batches:
        messages = [json.dumps({"sku": text}).encode() for text in texts]
        column = pa.record_batch(decoder.decode_messages(messages)[0]).column("sku")
        codes = [None if text is None else expected.encode(text) for text in texts]
        assert column.indices.to_pylist() == codes
        assert column.dictionary.to_pylist() == expected.values()


LINE = {
    wide: Schema(
        "line",
        (
            Field("quantity", wide),
            Field("unit_price", "decimal"),
            Field("discount", "decimal"),
        ),
    )
    for wide in ("int64", "int32", "decimal")
}


def amounts(
    engine: Any, quantity_type: str, lines: list[tuple[Any, Any, Any]]
) -> tuple[list[Any], list[int]]:
    names = ("quantity", "unit_price", "discount")
    messages = [
        ("{" + ",".join(f'"{name}":{value}' for name, value in zip(names, line, strict=True)) + "}").encode()
        for line in lines
    ]
    schema = LINE[quantity_type]
    decoded = engine.decoder(schema.to_core()).messages(messages)
    assert decoded.rejects == []
    types = {field.name: field.type for field in schema.fields}
    result, overflowed = engine.add_amounts(decoded, types)
    return [(row["gross_amount"], row["amount"]) for row in result.rows], overflowed


@pytest.mark.parametrize(
    ("quantity", "unit_price", "discount", "gross", "amount"),
    [
        ("3", "19.99", "0.15", 599_700, 509_745),
        ("1", "0.0001", "0.5", 1, 0),  # 0.5 of the last digit: to even
        ("3", "0.0001", "0.5", 3, 2),  # 1.5: to even, again
        ("-1", "0.0001", "0.5", -1, 0),
        ("-3", "0.0001", "0.5", -3, -2),
        ("2", "10", "null", 200_000, 200_000),
        ("null", "10", "0", None, None),
        ("2", "null", "0", None, None),
        ("2", "1", "1", 20_000, 0),
        ("2", "1", "2", 20_000, -20_000),
    ],
)
def test_amounts(
    engine: Any, quantity: str, unit_price: str, discount: str, gross: int | None, amount: int | None
) -> None:
    assert amounts(engine, "int64", [(quantity, unit_price, discount)]) == ([(gross, amount)], [])


def test_amounts_that_do_not_fit(engine: Any) -> None:
    most = 2**63 - 1
    lines = [
        ("2", "922337203685477.5807", "0"),
        ("1", "922337203685477.5807", "0"),
        ("2", "500000000000000", "0.5"),
    ]
    got, overflowed = amounts(engine, "int64", lines)
    assert got[:2] == [(None, None), (most, most)]
    assert got[2] == (None, 5 * 10**18)
    assert overflowed == [0, 2]


WIDE = st.one_of(st.integers(-1000, 1000), st.integers(-(2**63), 2**63 - 1), st.integers(-(2**33), 2**33))
LANES = st.one_of(WIDE, WIDE, WIDE, st.none())


def decimal_text(value: int | None) -> str:
    return "null" if value is None else f"{value}e-4"


@pytest.mark.parametrize("quantity_type", LINE)
@pytest.mark.parametrize("name", ["cpu", "cuda-host"])
@given(st.lists(st.tuples(LANES, LANES, LANES), max_size=8))
def test_amounts_of_all_sizes(name: str, quantity_type: str, lines: list[tuple[int | None, ...]]) -> None:
    def quantity_text(value: int | None) -> str:
        if quantity_type == "decimal":
            return decimal_text(value)
        if value is None:
            return "null"
        return str(value if quantity_type == "int64" else value % 2**32 - 2**31)

    texts = [
        (quantity_text(quantity), decimal_text(price), decimal_text(share))
        for quantity, price, share in lines
    ]
    engine = CpuEngine() if name == "cpu" else device_engine(name)
    assert amounts(engine, quantity_type, texts) == amounts(ReferenceEngine(), quantity_type, texts)
