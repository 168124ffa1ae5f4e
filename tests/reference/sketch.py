"""Sketches: approximate distinct counts and quantiles, from all values at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

MASK = 2**64 - 1
REGISTER_BITS = 12
REGISTERS = 2**REGISTER_BITS
LARGEST_RANK = 64 - REGISTER_BITS + 1


def hash_of(value: Any) -> int:
    """Integers are finished as SplitMix64 does, texts are FNV-1a 64, finished likewise."""
    if isinstance(value, str):
        hashed = 0xCBF29CE484222325
        for byte in value.encode():
            hashed = (hashed ^ byte) * 0x100000001B3 & MASK
    else:
        hashed = (int(value) + 0x9E3779B97F4A7C15) & MASK
    hashed = (hashed ^ hashed >> 30) * 0xBF58476D1CE4E5B9 & MASK
    hashed = (hashed ^ hashed >> 27) * 0x94D049BB133111EB & MASK
    return hashed ^ hashed >> 31


def estimate_distinct(values: Iterable[Any]) -> int:
    """HyperLogLog: the first 12 bits of a hash choose a register; it keeps the longest run of zeros after."""
    registers: dict[int, int] = {}
    for value in set(values):
        hashed = hash_of(value)
        index, rest = hashed >> (64 - REGISTER_BITS), hashed << REGISTER_BITS & MASK
        rank = 64 - rest.bit_length() + 1 if rest else LARGEST_RANK
        registers[index] = max(registers.get(index, 0), rank)
    by_rank = Counter(registers.values())
    by_rank[0] = REGISTERS - len(registers)
    z = REGISTERS * tau(1 - by_rank[LARGEST_RANK] / REGISTERS)
    for rank in range(LARGEST_RANK - 1, 0, -1):
        z = 0.5 * (z + by_rank[rank])
    z += REGISTERS * sigma(by_rank[0] / REGISTERS)
    return round(REGISTERS * REGISTERS / (2 * math.log(2)) / z)


def sigma(x: float) -> float:
    """x + the sum of x ** 2 ** k * 2 ** (k - 1), of an estimator by Ertl (arXiv:1702.01284)."""
    if x == 1:
        return math.inf
    y, z, before = 1.0, x, -1.0
    while z != before:
        x, before = x * x, z
        z += x * y
        y += y
    return z


def tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    y, z, before = 1.0, 1 - x, -1.0
    while z != before:
        x, before = math.sqrt(x), z
        y *= 0.5
        z -= (1 - x) * (1 - x) * y
    return z / 3


def quantile(values: Sequence[int], which: Fraction) -> Fraction | None:
    """The middle of the bucket of the value of rank ceil(which * n), at least 1."""
    if not values:
        return None
    rank = max(math.ceil(which * len(values)), 1)
    return middle(sorted(values)[rank - 1])


def middle(value: int) -> Fraction:
    """A bucket holds the values that share their sign, magnitude and first eight bits."""
    shift = max(abs(value).bit_length() - 8, 0)
    least = abs(value) >> shift << shift
    found = least + Fraction((1 << shift) - 1, 2)
    return -found if value < 0 else found
