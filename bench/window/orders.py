"""Flat orders as a file: 4 million events in two hours, 50,000 SKUs of Zipf popularity, 6 channels.

Lines are 309 bytes on average; one in ten events is up to 30 s out of order, and one in two hundred is priced
below cost. Numbers are seeded, so the file is the same on every machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

SEED = 20261111
SKUS, CUSTOMERS, STORES = 50_000, 1_000_000, 2_000
SPAN_MS = 2 * 3_600_000
CHUNK = 200_000
CHANNELS = np.array(["tmall", "jd", "douyin", "wechat", "app", "store"])
CHANNEL_SHARES = [0.30, 0.22, 0.20, 0.10, 0.10, 0.08]
TYPES = np.array(["created", "paid", "shipped", "delivered", "cancelled", "returned"])
TYPE_SHARES = [0.10, 0.62, 0.10, 0.08, 0.05, 0.05]
SIZES = np.array(["S", "M", "L", "XL", "39", "40", "41", "42"])
LINE = (
    '{"event_id":"%s","event_type":"%s","event_time":"%s","order_id":"O20261111%07d","channel":"%s",'
    '"store_id":"S%04d","customer_id":"C%07d","sku":"SKU%05d","size":"%s","qty":%d,"unit_price":%.2f,'
    '"unit_cost":%.2f,"discount":%.2f,"currency":"CNY"}\n'
)


def write_orders(path: Path, events: int) -> None:
    random = np.random.default_rng(SEED)
    popular = np.random.default_rng(7).permutation(SKUS)
    weights = 1.0 / np.arange(1, SKUS + 1) ** 1.05
    shares = np.cumsum(weights / weights.sum())
    aside = path.with_suffix(".writing")
    with aside.open("wb") as out:
        for first in range(0, events, CHUNK):
            count = min(CHUNK, events - first)
            out.write(_lines(random, popular, shares, first, count, events).encode())
    aside.rename(path)


def _lines(random: Any, popular: Any, shares: Any, first: int, count: int, events: int) -> str:
    raw = random.bytes(16 * count).hex()
    ids = [raw[i : i + 32] for i in range(0, 32 * count, 32)]
    types = TYPES[random.choice(len(TYPES), count, p=TYPE_SHARES)].tolist()
    even = np.arange(first, first + count) / events * SPAN_MS
    lag = np.where(random.random(count) < 0.10, random.random(count) * 30_000, random.random(count) * 500)
    times = _iso(np.maximum(even - lag, 0).astype(np.int64))
    order = (np.arange(first, first + count) - random.integers(0, 50, count)).clip(0).tolist()
    channel = CHANNELS[random.choice(len(CHANNELS), count, p=CHANNEL_SHARES)].tolist()
    store = random.integers(0, STORES, count).tolist()
    customer = random.integers(0, CUSTOMERS, count).tolist()
    price = np.round(np.exp(random.normal(5.3, 0.7, count)).clip(9.9, 4999.0), 2)
    cost = np.round(price * random.uniform(0.25, 0.80, count), 2)
    below = random.random(count) < 0.005
    cost = np.where(below, np.round(price * random.uniform(1.05, 1.6, count) + 0.01, 2), cost)
    discount = np.where(random.random(count) < 0.4, 0.0, np.round(random.uniform(0, 0.5, count), 2))
    sku = popular[np.minimum(np.searchsorted(shares, random.random(count)), SKUS - 1)].tolist()
    size = SIZES[random.integers(0, len(SIZES), count)].tolist()
    units = random.integers(1, 6, count).tolist()
    columns = (ids, types, times, order, channel, store, customer, sku, size, units)
    rows = zip(*columns, price.tolist(), cost.tolist(), discount.tolist(), strict=True)
    return "".join([LINE % row for row in rows])


def _iso(times_ms: Any) -> list[str]:
    seconds = times_ms // 1000
    parts = (seconds // 3600, seconds // 60 % 60, seconds % 60, times_ms % 1000)
    clocks = zip(*(part.tolist() for part in parts), strict=True)
    return [
        f"2026-11-11T{hour:02d}:{minute:02d}:{second:02d}.{ms:03d}Z" for hour, minute, second, ms in clocks
    ]
