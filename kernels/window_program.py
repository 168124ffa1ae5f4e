"""What a window comes to on a device: where its keys lie in the words of a group, what its measures add up.

The accumulators and their names are those of ``cpp/src/window_program.cpp``, the fields of a key those of
``cpp/src/key_layout.cpp``, so that either side reads a snapshot of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEAST, MOST = -(2**63), 2**63 - 1
MOST_SIZE_MS = 2**61
LANES = {  # how the kernels read a column
    "dictionary": 0,
    "string": 0,
    "int32": 1,
    "bool": 2,
    "int64": 3,
    "decimal": 3,
    "timestamp": 3,
    "float64": 4,
}
WIDE = ("int64", "decimal", "timestamp")
TEXT = ("string", "dictionary")
_FIELD_BITS = {"bool": 2, "int32": 33, "string": 31, "dictionary": 31}
_FRESH = {"min": MOST, "max": LEAST + 2**64}
_NEEDS = {  # the accumulators of an operation, in the order in which the CPU makes them
    "count": ("count",),
    "sum": ("sum",),
    "distinct": ("distinct",),
    "mean": ("sum", "count"),
    "std": ("squares", "sum", "count"),
    "variance": ("squares", "sum", "count"),
}


def refusal(spec: Mapping[str, Any]) -> str | None:
    """Return why a window has no kernels (``hopping windows have no kernel``), or None.

    Parameters
    ----------
    spec : mapping
        What `_core.Window` takes.
    """
    kind = spec.get("kind", "tumbling")
    if kind != "tumbling":
        return f"{kind} windows have no kernel"
    if spec.get("early_ms"):
        return "early results have no kernel"
    if spec.get("original_time"):
        return "corrections of the original sale have no kernel"
    if spec["size_ms"] > MOST_SIZE_MS:
        return "its size is beyond what the kernel reckons with"
    known = {*_NEEDS, "min", "max"}
    for measure in spec["measures"]:
        if measure["op"] not in known:
            return f"{measure['op']} has no kernel"
    return None


@dataclass(frozen=True, slots=True)
class Accumulator:
    """One or two words of a group."""

    name: str
    measure: str  # the first that needs it
    add: str
    column: str
    condition: Mapping[str, Any]
    word: int

    @property
    def weighing(self) -> str:
        """Says which rows count, and how: the same for accumulators that share their weights."""
        return self.column + _condition_text(self.condition)


@dataclass(frozen=True, slots=True)
class KeyField:
    """Where a key lies in the words of a group: as `_core`'s key layout, behind the start of the window."""

    column: str
    type: str
    word: int
    shift: int
    value_word: int  # 0: none

    @property
    def mask(self) -> np.uint64:
        """The bits of the field, moved down."""
        return np.uint64((1 << _FIELD_BITS.get(self.type, 1)) - 1)


class Program:
    """A window, compiled for the device.

    Parameters
    ----------
    spec : dict
        What `_core.Window` takes.

    Attributes
    ----------
    fields : list of KeyField
    key_words : int
        Words of a key, the start of its window first. Behind them is the owner.
    accumulators : list of Accumulator
    fresh : list of int
        The words of accumulators that have seen no row.
    stride : int
        Words of a group: of its key, its owner, and its accumulators.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.name: str = spec["name"]
        self.time_column: str = spec["time_column"]
        self.types: dict[str, str] = spec["types"]
        self.size_ms: int = spec["size_ms"]
        self.offset_ms: int = spec.get("offset_ms", 0) % self.size_ms
        self.lateness_ms: int = spec.get("allowed_lateness_ms", 0)
        self.fields, self.key_words = _key_layout([(name, self.types[name]) for name in spec["keys"]])
        self.accumulators = _accumulators(spec, self.key_words + 1)
        self.fresh = [
            word
            for each in self.accumulators
            for word in ([_FRESH.get(each.add, 0)] if each.add != "squares" else [0, 0])
        ]
        self.stride = self.key_words + 1 + len(self.fresh)

    @property
    def sums(self) -> range:
        """The words of the accumulators."""
        return range(self.key_words + 1, self.stride)

    @property
    def sum_names(self) -> list[str]:
        """Their names in a snapshot."""
        return [
            name
            for each in self.accumulators
            for name in ([each.name] if each.add != "squares" else [each.name, f"{each.name} high"])
        ]

    def columns_used(self) -> list[str]:
        """Return the columns that a push reads."""
        names = [self.time_column, *self.spec["keys"]]
        for each in self.accumulators:
            names += [each.column] if each.column else []
            names += [each.condition["column"]] if each.condition else []
        return list(dict.fromkeys(names))

    def coded_columns(self) -> list[str]:
        """Return the dictionary columns that a push reads."""
        return [name for name in self.columns_used() if self.types[name] == "dictionary"]

    def text_columns(self) -> list[str]:
        """Return the columns of plain text whose values are told apart, and not only counted."""
        keyed = {*self.spec["keys"], *(each.column for each in self.accumulators if each.add == "distinct")}
        return [name for name in self.columns_used() if self.types[name] == "string" and name in keyed]

    def last_final_start(self, closed_ms: int) -> int | None:
        """Return the start of the last window that is final, in Python's integers, which do not overflow."""
        if closed_ms == MOST:
            return MOST
        past_ms = closed_ms - self.lateness_ms - self.offset_ms
        start = (past_ms // self.size_ms - 1) * self.size_ms + self.offset_ms
        # A window that begins before the first int64 is known by that one; see interval_of in window.cuh.
        return start if start >= LEAST else LEAST if start + self.size_ms > LEAST else None


def closing_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a window with the same results, where distinct values are a number that was added up before.

    So the values themselves need not come back from the device.
    """
    types, measures = dict(spec["types"]), []
    for measure in spec["measures"]:
        if measure["op"] == "distinct":
            counted = f"distinct({measure['column']}){_condition_text(measure.get('condition') or {})}"
            types[counted] = "int64"
            measures.append({"name": measure["name"], "op": "sum", "column": counted})
        else:
            measures.append(measure)
    return {**spec, "measures": measures, "types": types}


def _key_layout(keys: Iterable[tuple[str, str]]) -> tuple[list[KeyField], int]:
    """Put narrow values side by side into words, 64-bit ones into words of their own, behind the start."""
    used = [64]
    fields = []
    for column, kind in keys:
        bits = _FIELD_BITS.get(kind, 1)
        word = next((word for word, taken in enumerate(used) if taken + bits <= 64), len(used))
        if word == len(used):
            used.append(0)
        shift = used[word]
        used[word] += bits
        value_word = 0
        if kind in WIDE:
            value_word = len(used)
            used.append(64)
        fields.append(KeyField(column, kind, word, shift, value_word))
    return fields, len(used)


def _accumulators(spec: Mapping[str, Any], words: int) -> list[Accumulator]:
    """Return what the measures add up, shared where two need the same: `Window::Impl::compile`, again."""
    found: dict[str, Accumulator] = {}
    word = words
    for measure in spec["measures"]:
        column, condition = measure.get("column") or "", measure.get("condition") or {}
        op = measure["op"]
        needs: tuple[str, ...] = _NEEDS.get(op, (op,))
        if op in ("min", "max") and spec["types"][column] in WIDE:
            needs = (op, "count")
        for add in needs:
            name = add + (f"({column})" if column else "") + _condition_text(condition)
            if name in found:
                continue
            found[name] = Accumulator(name, measure["name"], add, column, condition, word)
            word += 2 if add == "squares" else 1
    return list(found.values())


def _condition_text(condition: Mapping[str, Any]) -> str:
    if not condition:
        return ""

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    plus = "".join(f" +{quoted(text)}" for text in condition["plus"])
    minus = "".join(f" -{quoted(text)}" for text in condition["minus"])
    return f" where {quoted(condition['column'])}:{plus}{minus}"
