"""Several devices, each with partitions of its own: the results are those of one, and of the CPU."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.kernels.clean import DeviceCleaner
from omnistream.kernels.launch import HostLauncher
from omnistream.kernels.spread import Devices, SpreadDecoder, SpreadWindow
from omnistream.measures import Lifecycle, parse_measure
from omnistream.schema import Schema
from omnistream.spec import WindowSpec

PARTITIONS = 5
DISORDER_MS = 20_000
RULES = [
    {
        "kind": "range",
        "column": "units",
        "reason": "units_range",
        "low": 0,
        "high": 8,
        "low_float": 0.0,
        "high_float": 8.0,
    }
]
FIELDS = [
    {"name": "at", "type": "timestamp", "format": "epoch_ms", "required": True},
    {"name": "sku", "type": "dictionary", "required": True},
    {"name": "order", "type": "string", "required": True},
    {"name": "units", "type": "int64", "required": True},
]
TYPES = {each["name"]: each["type"] for each in FIELDS}
SCHEMA = Schema.from_dict({"field": FIELDS}).to_core()
MEASURES = ("count", "sum(units)", "distinct(order)", "distinct(units)", "std(units)", "min(units)")


@dataclass(frozen=True)
class TextBlock:
    data: bytes
    partition: int
    source: str = "push"
    first_position: int = 1


def blocks(count: int) -> list[TextBlock]:
    """Return blocks of all partitions, whose skus and orders are alike, with broken lines and late ones."""
    draw = random.Random(20261111)
    made = []
    for number in range(count):
        lines = []
        for _ in range(draw.randrange(1, 60)):
            order = f"o{draw.randrange(40)}"
            event = {
                "at": 10_000 * number + draw.randrange(60_000),
                "sku": f"s{draw.randrange(6)}",
                "order": order,
                "units": draw.randrange(10),
            }
            lines.append(json.dumps(event) if draw.random() < 0.95 else '{"at": ')
        made.append(TextBlock("\n".join(lines).encode(), draw.randrange(PARTITIONS)))
    return made


def spec() -> dict[str, Any]:
    measures = tuple(parse_measure(text, Lifecycle()) for text in MEASURES)
    window = WindowSpec("half", 30_000, ("sku",), measures)
    return window.to_core("at", TYPES) | {"zone": window.zone()}


Step = tuple[list[int], list[pa.RecordBatch], dict[str, Any]]


def on_cpu(given: list[TextBlock]) -> Iterator[Step]:
    """Yield after each block what was late, what closed, and the state."""
    dictionary, watermark = _core.Dictionary(), _core.Watermark(DISORDER_MS)
    for number in range(PARTITIONS):
        watermark.slot("push", number)
    decoder = _core.Decoder(SCHEMA, {"sku": dictionary})
    cleaner, window = _core.Cleaner(RULES, "at", watermark, None), _core.Window(spec())
    for block in given:
        batch, _, _ = decoder.decode_lines(block.data, "push", block.partition, 1)
        late = window.push(cleaner.clean(batch, 0, [])[0])
        closed = [pa.record_batch(each) for each in window.advance(watermark.value_ms)]
        yield late, closed, {name: pa.record_batch(part) for name, part in window.snapshot().items()}
    yield [], [pa.record_batch(each) for each in window.advance(_core.Watermark.END)], {}


def on_devices(given: list[TextBlock], counts: list[int]) -> Iterator[Step]:
    """As `on_cpu`; in the middle the state moves to another number of devices."""
    dictionary, watermark = _core.Dictionary(), _core.Watermark(DISORDER_MS)
    for number in range(PARTITIONS):
        watermark.slot("push", number)
    state: dict[str, Any] | None = None
    share = -(-len(given) // len(counts))
    for turn, count in enumerate(counts):
        devices = Devices([HostLauncher(order=number % 2) for number in range(count)])
        decoder = SpreadDecoder(devices, SCHEMA, {"sku": dictionary}, watermark)
        cleaners = [
            DeviceCleaner(launcher, RULES, "at", watermark, DISORDER_MS) for launcher in devices.launchers
        ]
        window = SpreadWindow(devices, spec())
        if state is not None:
            window.restore(state)
        for block, place, decoded in decoder.ahead(given[turn * share : (turn + 1) * share]):
            rows = devices.run(place, decoder.decoders[place].rows, decoded)
            cleaned = devices.run(
                place, cleaners[place].clean, rows.columns, rows.rows, "push", block.partition, 0
            )
            late = window.push(lanes(rows, cleaned))
            closed = [pa.record_batch(each) for each in window.advance(watermark.value_ms)]
            state = window.snapshot()
            yield late, closed, state
        if turn == len(counts) - 1:
            yield [], [pa.record_batch(each) for each in window.advance(_core.Watermark.END)], {}
        devices.close()


def lanes(rows: Any, cleaned: Any) -> Any:
    from omnistream.kernels.columns import CleanRows

    survivors = int(cleaned.rows.size)
    return CleanRows(rows.columns, rows.rows, survivors, cleaned.rows, cleaned.watermarks_ms, cleaned.owner)


@pytest.mark.parametrize("counts", [[1], [2], [3, 1], [2, 5]])
def test_any_number_of_devices_gives_the_same_results(counts: list[int]) -> None:
    given = blocks(60)
    some_late, some_closed = 0, 0
    for ours, theirs in zip(on_devices(given, counts), on_cpu(given), strict=True):
        late, closed, state = ours
        meant_late, meant_closed, meant_state = theirs
        assert sorted(late) == sorted(meant_late)
        assert closed == meant_closed
        for name in meant_state:
            if name in ("groups", "distinct"):
                assert held(state, name) == held(meant_state, name)
            else:
                assert state[name].equals(meant_state[name]), name
        some_late += len(late)
        some_closed += sum(each.num_rows for each in closed)
    assert some_late > 10
    assert some_closed > 100


def held(state: dict[str, Any], name: str) -> list[tuple[Any, ...]]:
    """Return what a part of the state holds, whoever owns it and in whatever order it came."""
    groups = [(row["window_start_ms"], row["key sku"]) for row in state["groups"].to_pylist()]
    if name == "groups":
        rows = [{**row, "owner": 0} for row in state["groups"].to_pylist()]
    else:
        rows = [{**row, "group": groups[row["group"]]} for row in state["distinct"].to_pylist()]
    return sorted(tuple(map(str, row.items())) for row in rows)
