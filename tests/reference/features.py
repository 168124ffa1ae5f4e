"""features: numbers of one key for a model, made only from the days before theirs."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np

from tests.reference.window import Moments

DAYS_OF_WEEK = 7


def vector(
    columns: list[dict[str, Any]], history: list[list[int]], known: int, weekday: int
) -> list[np.float32]:
    """Return the features of one key.

    `columns` say op, first and second (places in the history), days and the scale of each measure; the
    history has a list for each measure, yesterday first. `weekday` is of the vector's own day.
    """
    return [np.float32(value(column, history, known, weekday)) for column in columns]


def value(column: dict[str, Any], history: list[list[int]], known: int, weekday: int) -> float:
    days, scale = column["days"], column["first_scale"]
    angle = 2 * math.pi * weekday / DAYS_OF_WEEK
    if column["op"] in ("weekday_sin", "weekday_cos"):
        return math.sin(angle) if column["op"] == "weekday_sin" else math.cos(angle)
    span = min(days, known)
    first, second = history[column["first"]][:span], history[column["second"]][:span]
    match column["op"]:
        case "lag":
            return first[days - 1] / scale if days <= known else math.nan
        case "mean":
            return Moments(first, scale).mean() if first else math.nan
        case "std":
            return (Moments(first, scale).std() or 0.0) if first else math.nan
        case "active":
            return sum(each != 0 for each in first) / span if first else math.nan
        case "since":
            return next((ago + 1 for ago, each in enumerate(first) if each != 0), math.nan)
    if sum(second) == 0:
        return math.nan
    ratio = Fraction(sum(first) * column["second_scale"], sum(second) * scale)
    return float(ratio) if column["op"] == "ratio" else float(1 - ratio)
