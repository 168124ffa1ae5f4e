"""clean: rules, duplicates and the watermark; every engine gives the reference's survivors and rejects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import _core
from omnistream.errors import SchemaError
from omnistream.kernels import clean
from omnistream.kernels.columns import Lane, upload_column
from omnistream.kernels.launch import HostLauncher
from tests.engines import CpuEngine, DeviceEngine, ReferenceEngine, Result
from tests.strategies import EVENTS, HOUR_MS, START_MS, batches, events

SCHEMA = EVENTS.to_core()
NOW_MS = START_MS + 2 * HOUR_MS
ENGINES = [
    CpuEngine(),
    *(DeviceEngine(HostLauncher(order), f"cuda-host-{order}") for order in (0, 1)),
]

RULES = [
    {"kind": "less_than", "column": "unit_price", "other": "unit_cost", "reason": "price_below_cost"},
    {"kind": "range", "column": "quantity", "low": 1, "reason": "not_positive"},
    {"kind": "range", "column": "unit_price", "low": 0, "high": 4_000_000, "reason": "price_range"},
    {"kind": "range", "column": "weight", "low_float": 0.0, "high_float": 1e299, "reason": "weight_range"},
    {"kind": "range", "column": "small", "low": -1, "high": 2**31 - 2, "reason": "small_range"},
    {"kind": "ahead", "column": "event_time", "high": HOUR_MS, "reason": "event_time_ahead"},
    {"kind": "behind", "column": "event_time", "low": HOUR_MS, "reason": "event_time_behind"},
    {"kind": "required", "column": "sku", "reason": "no_sku"},
    {"kind": "required", "column": "size", "reason": "no_size"},
    {"kind": "allowed", "column": "event_type", "values": ["paid", "returned"], "reason": "event_type"},
    {"kind": "allowed", "column": "size", "values": ["36", "鞋"], "reason": "size"},
]


def run(
    engine: Any,
    parts: list[list[bytes]],
    rules: list[dict[str, Any]],
    max_disorder_ms: int,
    duplicates: dict[str, Any] | None,
    partitions: list[int],
) -> tuple[list[Result], int]:
    decoder = engine.decoder(SCHEMA)
    watermark = engine.watermark(max_disorder_ms)
    if 9 in partitions:
        watermark.declare("topic", 9)
    cleaner = engine.cleaner(rules, "event_time", watermark, duplicates)
    results = []
    at = 0
    for number, part in enumerate(parts):
        partition = partitions[number % len(partitions)]
        decoded = decoder.messages(part, source="topic", partition=partition, first_position=at)
        at += len(part)
        results.append(cleaner.clean(decoded, NOW_MS))
    return results, watermark.value_ms


def plain(result: Result) -> tuple[Any, ...]:
    return result.rows, result.watermarks_ms, result.rejects, result.counts


@given(
    batches(events()),
    st.lists(st.sampled_from(RULES), max_size=4),
    st.sampled_from([0, 1, HOUR_MS]),
    st.sampled_from(
        [
            None,
            {"key": ["event_id"], "within_ms": HOUR_MS},
            {"key": ["event_id", "sku"], "within_ms": 0},
            {"key": ["event_type", "quantity", "size"], "within_ms": 10 * HOUR_MS},
        ]
    ),
    st.lists(st.sampled_from([0, 1, 9]), min_size=1, max_size=3),
)
def test_any_rules(
    parts: list[list[bytes]],
    rules: list[dict[str, Any]],
    max_disorder_ms: int,
    duplicates: dict[str, Any] | None,
    partitions: list[int],
) -> None:
    expected, watermark_ms = run(ReferenceEngine(), parts, rules, max_disorder_ms, duplicates, partitions)
    for engine in ENGINES:
        got, got_watermark_ms = run(engine, parts, rules, max_disorder_ms, duplicates, partitions)
        assert list(map(plain, got)) == list(map(plain, expected))
        assert got_watermark_ms == watermark_ms


@given(batches(events()), st.lists(st.sampled_from(RULES), max_size=2))
def test_any_batching(parts: list[list[bytes]], rules: list[dict[str, Any]]) -> None:
    duplicates = {"key": ["event_id"], "within_ms": HOUR_MS}
    whole = [[message for part in parts for message in part]]
    for engine in (ReferenceEngine(), *ENGINES):
        pieces, piecewise_ms = run(engine, parts, rules, HOUR_MS, duplicates, [0])
        at_once, watermark_ms = run(engine, whole, rules, HOUR_MS, duplicates, [0])
        assert [row for piece in pieces for row in piece.rows] == at_once[0].rows
        assert [value for piece in pieces for value in piece.watermarks_ms] == at_once[0].watermarks_ms
        assert [each for piece in pieces for each in piece.rejects] == at_once[0].rejects
        assert piecewise_ms == watermark_ms
        counts = at_once[0].counts
        assert counts["rows"] == len(at_once[0].rows) + counts["rejected"] + counts["duplicates"]


def event(event_id: str, time_ms: int, *quantities: int) -> bytes:
    lines = ",".join(f'{{"qty":{quantity}}}' for quantity in quantities)
    return f'{{"event_id":"{event_id}","event_time":{time_ms},"lines":[{lines}]}}'.encode()


def test_duplicates_within_a_bound(engine: Any) -> None:
    parts = [
        [event("a", 1000, 1, 2), event("b", 1500, 1), event("a", 1000, 1, 2)],
        # The watermark stands at 2000 = 1000 + within: `a` is still known; at 2001 it is not.
        [event("c", 2000, 1), event("a", 2000, 1)],
        [event("d", 2001, 1), event("a", 2001, 1), event("a", 2001, 1)],
    ]
    results, watermark_ms = run(engine, parts, [], 0, {"key": ["event_id"], "within_ms": 1000}, [0])
    rejected = [
        (each["position"], each["line"], each["reason"]) for result in results for each in result.rejects
    ]
    assert rejected == [
        (2, 0, "duplicate"),
        (2, 1, "duplicate"),
        (4, 0, "duplicate"),
        (7, 0, "duplicate"),
    ]
    assert [result.counts["duplicates"] for result in results] == [2, 1, 1]
    assert watermark_ms == 2001


def test_the_first_surviving_line_speaks_for_its_message(engine: Any) -> None:
    rules = [{"kind": "range", "column": "quantity", "low": 1, "reason": "not_positive"}]
    parts = [[event("a", 1000, 0, 1), event("a", 1000, 0), event("b", 1000, 0), event("b", 1000, 5)]]
    results, _ = run(engine, parts, rules, 0, {"key": ["event_id"], "within_ms": 1000}, [0])
    assert [row["quantity"] for row in results[0].rows] == [1, 5]
    assert [
        (each["position"], each["line"], each["reason"], each["field"]) for each in results[0].rejects
    ] == [
        (0, 0, "not_positive", "quantity"),
        (1, 0, "not_positive", "quantity"),
        (2, 0, "not_positive", "quantity"),
    ]


def test_a_row_meets_the_watermark_before_it_moves_it(engine: Any) -> None:
    rules = [{"kind": "range", "column": "quantity", "low": 1, "reason": "not_positive"}]
    parts = [[event("a", 5000, 1), event("b", 9000, 0), event("c", 7000, 1, 1), event("d", 6000, 1)]]
    results, watermark_ms = run(engine, parts, rules, 500, None, [0])
    none = -(2**63)
    assert results[0].watermarks_ms == [none, 4500, 6500, 6500]
    assert watermark_ms == 6500


def test_the_slowest_partition_holds_the_watermark(engine: Any) -> None:
    watermark = engine.watermark(0)
    cleaner = engine.cleaner([], "event_time", watermark, None)
    decoder = engine.decoder(SCHEMA)

    def push(partition: int, time_ms: int) -> int:
        cleaner.clean(decoder.messages([event("a", time_ms, 1)], source="t", partition=partition), 0)
        return watermark.value_ms

    watermark.declare("t", 1)
    assert push(0, 5000) == -(2**63)
    assert push(1, 3000) == 3000
    assert push(1, 4000) == 4000
    assert push(2, 1000) == 4000  # who joins late does not move it back
    assert push(2, 6000) == 4000
    watermark.set_idle("t", 1)
    assert watermark.value_ms == 5000
    assert push(1, 4500) == 5000
    watermark.advance(5500)
    assert watermark.value_ms == 5500
    watermark.advance(5400)
    assert watermark.value_ms == 5500


def test_amounts_that_overflow_are_rejected_unless_a_rule_was_first(engine: Any) -> None:
    rules = [{"kind": "range", "column": "quantity", "low": 1, "reason": "not_positive"}]
    cleaner = engine.cleaner(rules, "event_time", engine.watermark(0), None)
    decoded = engine.decoder(SCHEMA).messages([event("a", 1000, 5, 0, 6)])
    result = cleaner.clean(decoded, 0, [0, 1])
    assert [row["quantity"] for row in result.rows] == [6]
    assert [(each["line"], each["reason"], each["field"]) for each in result.rejects] == [
        (0, "amount_overflow", None),
        (1, "not_positive", "quantity"),
    ]


@pytest.mark.parametrize("kind", ["ahead", "behind"])
def test_time_bounds_include_their_ends(engine: Any, kind: str) -> None:
    bound = {"ahead": ("high", NOW_MS + 1000), "behind": ("low", NOW_MS - 1000)}[kind]
    beyond = 1 if kind == "ahead" else -1
    rules = [{"kind": kind, "column": "event_time", bound[0]: 1000, "reason": "time"}]
    results, _ = run(
        engine, [[event("a", bound[1], 1), event("b", bound[1] + beyond, 1)]], rules, 0, None, [0]
    )
    assert [each["position"] for each in results[0].rejects] == [1]


# ---- what only a device does ----


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("rows", [1, 255, 2048, 2049, 300 * 2048 + 7])
def test_the_watermark_of_many_tiles(rows: int, order: int) -> None:
    times_ms = np.random.default_rng(rows).integers(0, 10**9, rows)
    watermark, launcher = _core.Watermark(1000), HostLauncher(order)
    device = clean.DeviceCleaner(launcher, [], "time", watermark, 1000)
    cleaned = device.clean({"time": Lane(launcher.to_device(times_ms))}, rows, "s", 0, 0)
    newest_ms = np.maximum.accumulate(times_ms)
    watermarks_ms = launcher.to_host(cleaned.watermarks_ms)
    assert watermarks_ms[0] == -(2**63)
    assert (watermarks_ms[1:] == newest_ms[:-1] - 1000).all()
    assert watermark.value_ms == newest_ms[-1] - 1000
    assert (launcher.to_host(cleaned.rows) == np.arange(rows)).all()


def test_a_row_without_a_time_is_an_error_unless_a_rule_took_it() -> None:
    launcher, watermark = HostLauncher(), _core.Watermark(0)
    times, validity = np.zeros(3, np.int64), np.array([0b101], np.uint8)
    columns = {"time": Lane(launcher.to_device(times), launcher.to_device(validity))}
    required = {"kind": "required", "column": "time", "reason": "no_time"}
    taken = clean.DeviceCleaner(launcher, [required], "time", watermark, 0).clean(columns, 3, "s", 0, 0)
    assert launcher.to_host(taken.rows).tolist() == [0, 2]
    assert launcher.to_host(taken.failed).tolist() == [clean.PASSED, 0, clean.PASSED]
    with pytest.raises(SchemaError, match='column "time" is null in row 1'):
        clean.DeviceCleaner(launcher, [], "time", watermark, 0).clean(columns, 3, "s", 0, 0)
    with pytest.raises(SchemaError, match='names column "other"'):
        clean.DeviceCleaner(launcher, [], "other", watermark, 0).clean(columns, 3, "s", 0, 0)


@pytest.mark.parametrize("values", [[], ["36"], ["", "鞋"], ["365", "36"]])
def test_strings_that_are_allowed(values: list[str]) -> None:
    texts = ["36", "", "鞋", None, "3", "365"]
    launcher = HostLauncher()
    column = upload_column(launcher, pa.array(texts), "string")
    rule = {"kind": "allowed", "column": "size", "values": values, "reason": "size"}
    columns = {"size": column, "time": Lane(launcher.to_device(np.zeros(6, np.int64)))}
    device = clean.DeviceCleaner(launcher, [rule], "time", _core.Watermark(0), 0)
    expected = [row for row, text in enumerate(texts) if text is None or text in values]
    assert launcher.to_host(device.clean(columns, 6, "s", 0, 0).rows).tolist() == expected
