"""encode: strings to codes, first come first numbered; and a line's amounts."""

from __future__ import annotations

from fractions import Fraction

from tests.reference.decode import INT64, SCALE, Row


class Dictionary:
    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def encode(self, text: str) -> int:
        return self.codes.setdefault(text, len(self.codes))

    def values(self) -> list[str]:
        return list(self.codes)


def add_amounts(
    rows: list[Row], types: dict[str, str], quantity: str, unit_price: str, discount: str
) -> list[int]:
    """Add gross_amount and amount to every row; return the rows with an amount that int64 cannot hold."""
    overflowed = []
    for number, row in enumerate(rows):
        values = row.values
        factors = [values[quantity], values[unit_price]]
        units = SCALE if types[quantity] == "decimal" else 1
        share = SCALE - (values.get(discount) or 0)
        if None in factors:
            values["gross_amount"] = values["amount"] = None
            continue
        gross = half_even(Fraction(factors[0] * factors[1], units))
        net = half_even(Fraction(factors[0] * factors[1] * share, units * SCALE))
        values["gross_amount"] = gross if gross in INT64 else None
        values["amount"] = net if net in INT64 else None
        if gross not in INT64 or net not in INT64:
            overflowed.append(number)
    return overflowed


def half_even(value: Fraction) -> int:
    return round(value)  # of a Fraction: exact, ties to even
