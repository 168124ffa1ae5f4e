"""When each sale was, for the returns and cancellations that come after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.reference.clean import Duplicates
from tests.reference.decode import Row
from tests.reference.window import weight


class Sales:
    """The first sale of a key is remembered until the watermark has passed it by more than `within_ms`."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.remembered = Duplicates(options["key"], options["within_ms"])
        self.time_column = options["time_column"]
        self.condition = options["condition"]

    def look_up(self, survivors: Iterable[tuple[Row, int]]) -> None:
        """Give every row a "sale time": of a correction, when its sale was, else None."""
        for row, watermark_ms in survivors:
            row.values["sale time"] = None
            fate = weight(self.condition, row.values)
            if fate > 0:
                self.remembered.seen(row.values, row.values[self.time_column], watermark_ms)
            elif fate < 0:
                key = tuple(row.values[name] for name in self.remembered.key)
                sold_ms = self.remembered.accepted.get(key)
                if sold_ms is not None and watermark_ms <= sold_ms + self.remembered.within_ms:
                    row.values["sale time"] = sold_ms
