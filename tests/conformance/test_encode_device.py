"""encode: the device gives each string the code that the host gives it, whichever saw it first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import _core
from omnistream.kernels.columns import upload_column
from omnistream.kernels.encode import DeviceDictionary
from omnistream.kernels.launch import Launcher
from tests import strategies
from tests.engines import driver_launchers

LAUNCHERS = driver_launchers()
TEXT = st.one_of(st.text("ab", max_size=20), strategies.TEXTS)
COLUMN = st.lists(st.one_of(TEXT, TEXT, TEXT, st.none()), max_size=40)


def encode(
    launcher: Launcher,
    dictionary: DeviceDictionary,
    texts: list[str | None],
    rows: list[int] | None = None,
) -> list[int]:
    column = upload_column(launcher, pa.array(texts, pa.utf8()), "string")
    codes = dictionary.encode_text(
        column.values,
        column.offsets,
        column.validity,
        None if rows is None else launcher.to_device(np.array(rows, np.uint32)),
        len(texts) if rows is None else len(rows),
    )
    return [int(code) for code in codes]


def codes_of(dictionary: Any, texts: list[str | None]) -> list[int]:
    return [0 if text is None else dictionary.encode([text.encode()])[0] for text in texts]


@given(st.lists(st.tuples(st.booleans(), COLUMN), max_size=6), st.sampled_from(LAUNCHERS))
def test_codes_whoever_saw_them_first(steps: list[tuple[bool, list[str | None]]], launcher: Launcher) -> None:
    """Batches that go to the device and batches that go to the host, in any order, on one dictionary."""
    expected, dictionary = _core.Dictionary(), DeviceDictionary(launcher)
    for on_device, texts in steps:
        codes = encode(launcher, dictionary, texts) if on_device else codes_of(dictionary.host, texts)
        assert codes == codes_of(expected, texts)
        assert dictionary.host.values() == expected.values()


@given(COLUMN, st.data(), st.sampled_from(LAUNCHERS))
def test_codes_come_in_the_order_of_the_rows_taken(
    texts: list[str | None], data: st.DataObject, launcher: Launcher
) -> None:
    rows = [number for number in range(len(texts)) if data.draw(st.booleans())]
    expected, dictionary = _core.Dictionary(), DeviceDictionary(launcher)
    assert encode(launcher, dictionary, texts, rows) == codes_of(expected, [texts[row] for row in rows])
    assert dictionary.host.values() == expected.values()


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_dictionary_that_grows(launcher: Launcher) -> None:
    texts: list[str | None] = [
        f"style-{number * 7919 % 30_011}-{'x' * (number % 40)}" for number in range(30_000)
    ]
    dictionary = DeviceDictionary(launcher)
    assert encode(launcher, dictionary, texts[:1]) == [0]
    assert encode(launcher, dictionary, texts) == list(range(len(texts)))
    assert encode(launcher, dictionary, texts[::-1]) == list(range(len(texts)))[::-1]
    assert len(dictionary) == len(texts)
    dictionary.host.encode([f"more-{number}".encode() for number in range(70_000)])
    mixed = encode(launcher, dictionary, ["more-69999", texts[-1], "new", "more-0"])
    assert mixed == [99_999, 29_999, 100_000, 30_000]


def test_long_strings() -> None:
    """Longer than a word, than a warp reads, than the host compares in registers; equal but for one byte."""
    base = "é" * 50_000
    texts: list[str | None] = [base, base[:-1] + "e", "e" + base[1:], base + "\0", "", "\0", None, base]
    launcher = LAUNCHERS[0]
    dictionary = DeviceDictionary(launcher)
    assert encode(launcher, dictionary, texts) == [0, 1, 2, 3, 4, 5, 0, 0]
    assert [value.decode() for value in dictionary.host.values()] == texts[:6]


def test_a_table_that_is_half_full() -> None:
    launcher = LAUNCHERS[1]
    dictionary = DeviceDictionary(launcher)
    texts: list[str | None] = [f"{number:x}" for number in range(512)]
    assert encode(launcher, dictionary, texts) == list(range(512))
    assert encode(launcher, dictionary, texts[100:101]) == [100]
