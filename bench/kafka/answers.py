"""One-minute windows by SKU and channel in the plainest Python, and what two programs must agree on."""

from __future__ import annotations

import datetime as dt
import math
import resource
import time
from typing import Any

# start of the window in ms, SKU, channel
Key = tuple[int, str, str]
# events, units, amount
Sums = list[float]

MINUTE_MS = 60_000
MAX_DISORDER_MS = 10_000


class Windows:
    """Counts, units and amounts of events; a window is closed when the largest event time is past its end."""

    def __init__(self) -> None:
        self.open: dict[int, dict[tuple[str, str], Sums]] = {}
        self.closed: dict[Key, Sums] = {}
        self.watermark_ms = 0

    def add(self, event: dict[str, Any]) -> None:
        if event["unit_price"] < event["unit_cost"]:
            return
        time_ms = int(dt.datetime.fromisoformat(event["event_time"]).timestamp() * 1_000)
        window = self.open.setdefault(time_ms - time_ms % MINUTE_MS, {})
        sums = window.setdefault((event["sku"], event["channel"]), [0, 0, 0.0])
        sums[0] += 1
        sums[1] += event["qty"]
        sums[2] += event["qty"] * event["unit_price"] * (1 - event["discount"])
        if time_ms - MAX_DISORDER_MS > self.watermark_ms:
            self.watermark_ms = time_ms - MAX_DISORDER_MS
            if self.watermark_ms >= min(self.open) + MINUTE_MS:
                self.close([start for start in self.open if start + MINUTE_MS <= self.watermark_ms])

    def close(self, starts: list[int]) -> None:
        for start in starts:
            for (sku, channel), sums in self.open.pop(start).items():
                self.closed[start, sku, channel] = sums

    def finish(self) -> None:
        self.close(list(self.open))


def digest(closed: dict[Key, Sums]) -> dict[str, float]:
    """Return sums that differ when a window is missing, is there twice, or has other values."""
    return {
        "windows": len(closed),
        "starts": sum(start // MINUTE_MS for start, _, _ in closed),
        "events": sum(int(count) for count, _, _ in closed.values()),
        "weighted": sum(
            len(sku + channel) * int(count) * int(units + 1)
            for (_, sku, channel), (count, units, _) in closed.items()
        ),
        "units": sum(int(units) for _, units, _ in closed.values()),
        "amount": math.fsum(amount for _, _, amount in closed.values()),
    }


def same(one: dict[str, float], other: dict[str, float]) -> bool:
    """Whether two digests agree; amounts of programs that add floats do so to nine digits."""
    return one.keys() == other.keys() and all(
        math.isclose(one[name], other[name], rel_tol=1e-9 if name == "amount" else 0) for name in one
    )


class Clock:
    """Measures from the first message to the last result; what comes before is start-up."""

    def __init__(self) -> None:
        self.began = 0.0

    def first(self) -> None:
        if not self.began:
            self.began, self.engine_began = time.perf_counter(), time.thread_time()

    def stop(self, version: str, messages: int) -> dict[str, Any]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "version": version,
            "messages": messages,
            "seconds": time.perf_counter() - self.began,
            "engine_cpu_s": time.thread_time() - self.engine_began,
            "cpu_s": usage.ru_utime + usage.ru_stime,
        }
