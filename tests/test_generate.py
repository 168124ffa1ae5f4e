"""The generator keeps what its model promises, and its own counts agree with the stream."""

import io
import json
import math
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream import _core
from omnistream.errors import JobError, SinkError
from omnistream.generate import DIRT_OUTCOMES, GenerateSpec, generate, generate_blocks
from omnistream.schema import ORDER, ORDER_FLAT

DAY_MS = 86_400_000
HEAD_KEYS = ["event_id", "event_type", "event_time", "order_id", "channel", "store_id"]
LINE_KEYS = ["sku", "size", "qty", "unit_price", "unit_cost", "discount"]
FLAT_KEYS = [*HEAD_KEYS, "customer_id", *LINE_KEYS, "currency"]
NESTED_KEYS = [*HEAD_KEYS, "customer", "currency", "lines"]


def stream(**options: Any) -> bytes:
    return b"".join(generate_blocks(GenerateSpec(**options)))


def events(**options: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream(**options).splitlines()]


def time_ms(event: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)


def lines(event: dict[str, Any]) -> list[dict[str, Any]]:
    return event.get("lines") or [{key: event[key] for key in LINE_KEYS}]


@pytest.mark.parametrize("nested", [False, True])
def test_a_spec_stands_for_its_bytes_whatever_the_chunks(nested: bool) -> None:
    spec = {"events": 3_000, "nested": nested, "dirt": 0.05, "duplicates": 0.05}
    whole = stream(**spec)
    assert whole == stream(**spec)
    assert whole != stream(**spec, seed=1)

    @settings(derandomize=True, max_examples=20, deadline=None)
    @given(st.lists(st.integers(1, 50_000), min_size=1, max_size=8))
    def check(sizes: list[int]) -> None:
        generator = _core.Generator(**spec)
        blocks = []
        while (block := generator.next(sizes[len(blocks) % len(sizes)])) is not None:
            assert block.endswith(b"\n")
            assert len(block) >= sizes[len(blocks) % len(sizes)] or generator.events == 3_000
            blocks.append(block)
        assert b"".join(blocks) == whole

    check()


def test_the_defaults_are_those_of_the_core() -> None:
    generator = _core.Generator(events=500)
    assert generator.next(1 << 20) == stream(events=500)


def test_both_shapes_have_the_keys_of_the_built_in_schemas() -> None:
    for event in events(events=2_000):
        assert list(event) == FLAT_KEYS
        assert event["sku"].endswith(f"-{event['size']}")
    for event in events(events=2_000, nested=True):
        assert list(event) == NESTED_KEYS
        assert list(event["customer"]) == ["id", "phone", "address"]
        assert event["customer"]["phone"].isdigit()
        assert len(event["customer"]["phone"]) == 11
        assert 1 <= len(event["lines"]) <= 5
        assert all(list(line) == LINE_KEYS for line in event["lines"])


@pytest.mark.parametrize("nested", [False, True])
def test_the_counts_are_those_of_the_stream(nested: bool) -> None:
    file = io.BytesIO()
    said = generate(file, events=20_000, nested=nested, duplicates=0.03, below_cost=0.02)
    text = file.getvalue()
    assert said.size_bytes == len(text)
    found = [json.loads(line) for line in text.splitlines()]
    assert said.events == len(found) == 20_000
    assert said.by_type == Counter(event["event_type"] for event in found)
    assert said.lines == sum(len(lines(event)) for event in found)
    assert said.below_cost_lines == sum(
        line["unit_price"] < line["unit_cost"] for event in found for line in lines(event)
    )
    assert 0.015 < said.below_cost_lines / said.lines < 0.025
    assert set(said.broken.values()) == {0}

    first: dict[str, bytes] = {}
    repeats = [
        line for line in text.splitlines() if first.setdefault(json.loads(line)["event_id"], line) is not line
    ]
    assert said.duplicates == len(repeats) == 20_000 - len(first)
    assert all(first[json.loads(line)["event_id"]] == line for line in repeats)
    assert said.duplicate_lines == sum(len(lines(json.loads(line))) for line in repeats)
    assert 0.02 < said.duplicates / len(first) < 0.04


@pytest.mark.parametrize("nested", [False, True])
def test_the_decoder_rejects_what_was_broken_for_the_reason_it_was(nested: bool) -> None:
    file = io.BytesIO()
    said = generate(file, events=20_000, nested=nested, dirt=0.1, duplicates=0.02)
    assert list(said.broken) == list(DIRT_OUTCOMES)
    assert all(count > 0 for count in said.broken.values())
    assert said.events == sum(said.by_type.values()) + sum(said.broken.values())
    expected: Counter[str] = Counter()
    for kind, count in said.broken.items():
        if DIRT_OUTCOMES[kind] not in ("clean", "decoded"):
            expected[DIRT_OUTCOMES[kind]] += count

    schema = ORDER if nested else ORDER_FLAT
    dictionaries = {field.name: _core.Dictionary() for field in schema.fields if field.type == "dictionary"}
    decoder = _core.Decoder(schema.to_core(), dictionaries)
    batch, rejects, counts = decoder.decode_lines(file.getvalue())
    assert Counter(pa.record_batch(rejects)["reason"].to_pylist()) == expected
    assert counts["decoded"] == 20_000 - expected.total()

    decoded = pa.record_batch(batch).to_pylist()
    assert sum(row["quantity"] < 0 for row in decoded) == said.broken["negative_quantity"]
    assert sum(row["unit_price"] > 10_000_000 for row in decoded) == said.broken["absurd_price"]
    odd = Counter(row["event_id"] for row in decoded if row["event_type"] == "refund_pending")
    assert len(odd) == said.broken["unknown_event_type"]
    clocks = {row["event_id"] for row in decoded if row["event_time"].year == 1970}
    assert len(clocks) == said.broken["wrong_clock"]
    assert sum(row["unit_price"] < row["unit_cost"] for row in decoded) == said.below_cost_lines


@pytest.mark.parametrize("max_disorder_ms", [0, 200, 30_000, 3_600_000])
def test_disorder_is_bounded_and_the_bound_is_used(max_disorder_ms: int) -> None:
    found = events(events=30_000, max_disorder_ms=max_disorder_ms, duplicates=0.05, span_ms=DAY_MS // 4)
    largest = 0
    worst = 0
    for event in found:
        at = time_ms(event)
        worst = max(worst, largest - at)
        largest = max(largest, at)
    assert worst <= max_disorder_ms
    assert worst >= max_disorder_ms * 0.8


def test_event_times_cover_the_span() -> None:
    spec = GenerateSpec(events=50_000, span_ms=10 * DAY_MS)
    times = [time_ms(json.loads(line)) for line in b"".join(generate_blocks(spec)).splitlines()]
    assert min(times) >= spec.start_ms
    assert abs(max(times) - spec.start_ms - spec.span_ms) < 0.02 * spec.span_ms


def test_orders_live_in_order_and_returns_refer_to_what_was_paid() -> None:
    spec = GenerateSpec(events=60_000, span_ms=40 * DAY_MS, nested=True, return_rate=0.2)
    orders: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in b"".join(generate_blocks(spec)).splitlines():
        event = json.loads(line)
        orders[event["order_id"]].append(event)
    lives: Counter[tuple[str, ...]] = Counter()
    returned = 0
    for order_id, life in orders.items():
        types = tuple(event["event_type"] for event in life)
        times = [time_ms(event) for event in life]
        assert len(set(types)) == len(types)
        assert times == sorted(times)
        same = [
            {key: value for key, value in event.items() if not key.startswith("event_")} for event in life
        ]
        assert all(each == same[0] for each in same)
        if order_id[1:9] < "20261112":  # may have begun before the stream did
            continue
        assert types[0] == "created"
        lives[types] += 1
        if "returned" in types:
            returned += 1
            assert types.index("paid") < types.index("returned")
            assert 5 * DAY_MS < times[-1] - times[0] < 15 * DAY_MS
    assert returned > 500
    assert set(lives) <= {
        ("created",),
        ("created", "paid"),
        ("created", "paid", "returned"),
        ("created", "cancelled"),
        ("created", "paid", "cancelled"),
        ("created", "paid", "shipped"),
        ("created", "paid", "shipped", "delivered"),
        ("created", "paid", "shipped", "delivered", "returned"),
    }


def test_rates_are_kept() -> None:
    # Orders of the first ten days of forty: their lives have ended.
    spec = GenerateSpec(events=100_000, span_ms=40 * DAY_MS, return_rate=0.1, cancel_rate=0.2)
    orders: dict[str, set[str]] = defaultdict(set)
    for line in b"".join(generate_blocks(spec)).splitlines():
        event = json.loads(line)
        if "20261112" <= event["order_id"][1:9] <= "20261121":
            orders[event["order_id"]].add(event["event_type"])
    kept = [life for life in orders.values() if "cancelled" not in life]
    assert 0.17 < 1 - len(kept) / len(orders) < 0.23
    assert 0.08 < sum("returned" in life for life in kept) / len(kept) < 0.12
    assert sum(life == {"created", "cancelled"} for life in orders.values()) > 0.08 * len(orders)


def test_style_colours_follow_zipf_and_sizes_a_curve() -> None:
    orders = {event["order_id"]: event["sku"] for event in events(events=200_000, styles=300)}
    option = Counter(sku[:11] for sku in orders.values())
    size = Counter(sku[12:] for sku in orders.values())
    count = 300 * 3.5  # colours are 2 to 5
    harmonic = sum(rank**-1.05 for rank in range(1, int(count) + 1))
    ranked = [number for _, number in option.most_common()]
    for rank in (1, 2, 10):
        assert math.isclose(ranked[rank - 1] / len(orders), rank**-1.05 / harmonic, rel_tol=0.1)
    assert size["M"] > 2 * size["XS"]
    assert size["41"] > 2 * size["44"]

    even = Counter(event["sku"][:11] for event in events(events=100_000, styles=20, zipf_exponent=0))
    assert max(even.values()) < 1.5 * min(even.values())


def test_bursts_stand_out() -> None:
    created = Counter(
        event["event_time"][11:16] for event in events(events=200_000) if event["event_type"] == "created"
    )
    for before, burst in (("19:50", "20:00"), ("09:50", "10:00")):
        assert created[burst] > 5 * created[before]


def test_prices_are_one_per_style_with_charm_endings() -> None:
    prices = defaultdict(set)
    for event in events(events=20_000, styles=50):
        prices[event["sku"][:7]].add(event["unit_price"])
        assert 0 <= event["discount"] <= 0.55
    assert all(len(each) == 1 for each in prices.values())
    assert all(f"{price:.2f}"[-4:] in ("9.00", "9.90") for each in prices.values() for price in each)


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_file_is_compressed_by_its_suffix_and_appears_whole(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"orders.ndjson{suffix}"
    seen: list[tuple[int, int]] = []
    generate(path, events=20_000, progress=lambda done, total: seen.append((done, total)))
    with pa.input_stream(str(path)) as file:
        assert file.read() == stream(events=20_000)
    assert seen == sorted(seen)
    assert seen[-1] == (20_000, 20_000)
    assert (path.read_bytes()[:1] == b"{") == (suffix == "")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "orders.ndjson"
    path.write_text("before")

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(path, events=10, progress=stop)
    assert path.read_text() == "before"
    assert [each.name for each in tmp_path.iterdir()] == ["orders.ndjson"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        SinkError, match=r"nowhere/orders.ndjson: cannot write: .*; name a file in a folder that exists"
    ):
        generate(tmp_path / "nowhere" / "orders.ndjson", events=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": -1}, "events must be a whole number from 0 to"),
        ({"events": 1.5}, "events must be a whole number from 0 to"),
        ({"events": True}, "events must be a whole number from 0 to"),
        ({"styles": 100_000}, "styles must be a whole number from 1 to 99999, not 100000"),
        ({"dirt": 2}, "dirt must be a number from 0 to 1, not 2"),
        ({"dirt": math.nan}, "dirt must be a number from 0 to 1, not nan"),
        ({"nested": "yes"}, "nested must be true or false, not 'yes'"),
        ({"span_ms": 0}, "span_ms must be a whole number from 1"),
        ({"start_ms": 250_000_000_000_000, "span_ms": 300_000_000_000}, "shorten span_ms"),
        ({"dirty": 0.1}, "unknown option 'dirty'; known: seed, events"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_do(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JobError, match=message):
        generate(io.BytesIO(), **options)


def test_all_wrong_options_are_named_at_once() -> None:
    with pytest.raises(JobError) as raised:
        GenerateSpec(dirt=-1, stores=0)
    assert len(raised.value.problems) == 2


def test_no_events_is_an_empty_file(tmp_path: Path) -> None:
    assert generate(tmp_path / "none", events=0).events == 0
    assert (tmp_path / "none").read_bytes() == b""


def test_a_pipe_is_written_to_and_stays_one(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as readers:
        read = readers.submit(pipe.read_bytes)
        counts = generate(pipe, events=100)
        assert read.result(30) == stream(events=100)
    assert counts.size_bytes == len(stream(events=100))
    assert pipe.is_fifo()
