"""window: kernels and host give the same bytes, in results as in snapshots, and take over from each other.

The kernels run in the host launcher, threads forwards and backwards: what depends on their order would
differ.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnistream import _core
from omnistream.errors import SchemaError, StateError
from omnistream.kernels.launch import Launcher
from omnistream.kernels.window import DeviceWindow, refusal
from omnistream.schema import Field, Schema
from tests.conformance import test_window
from tests.conformance.test_window import END_MS, KEYS, NET, SCHEMA, SOLD, event
from tests.engines import driver_launchers
from tests.strategies import EVENT_TYPES, HOUR_MS, START_MS, batches, events

LAUNCHERS = driver_launchers()
ANY_KEYS = [*KEYS, ["unit_price", "gift"], ["size", "event_type", "small"]]


class Stream:
    """Messages on their way to a window, with the watermark that each row meets."""

    def __init__(self, disorder_ms: int = 0) -> None:
        names = [each["name"] for each in SCHEMA["fields"] if each["type"] == "dictionary"]
        self.decoder = _core.Decoder(SCHEMA, {name: _core.Dictionary() for name in names})
        self.watermark = _core.Watermark(disorder_ms)
        rule = {
            "kind": "range",
            "column": "quantity",
            "other": "",
            "low": -2,
            "high": 2**63 - 1,
            "values": [],
        }
        self.strict = _core.Cleaner([rule | {"reason": "low"}], "event_time", self.watermark, None)
        self.cleaner = _core.Cleaner([], "event_time", self.watermark, None)

    def clean(self, messages: list[bytes], partition: int = 0, strict: bool = False) -> _core.CleanBatch:
        batch, _, _ = self.decoder.decode_messages(messages, "push", partition, 0)
        batch, overflowed = _core.add_amounts(batch, "quantity", "unit_price", "discount")
        return (self.strict if strict else self.cleaner).clean(batch, 0, overflowed)[0]


def measures() -> list[dict[str, Any]]:
    """Those that have a kernel."""
    return [each for each in test_window.measures() if refusal(test_window.spec(measures=[each])) is None]


def spec(**changes: Any) -> dict[str, Any]:
    return test_window.spec(**{"measures": measures(), **changes})


def tables(batches: list[Any]) -> list[pa.RecordBatch]:
    return [pa.record_batch(batch) for batch in batches]


def assert_same(got: Any, expected: Any) -> None:
    """Counts, and the snapshots to the last row."""
    for name in ("aggregated", "late", "open_windows", "groups"):
        assert getattr(got, name) == getattr(expected, name), name
    got_parts, expected_parts = got.snapshot(), expected.snapshot()
    assert list(got_parts) == list(expected_parts)
    for name, part in expected_parts.items():
        assert pa.record_batch(got_parts[name]).equals(pa.record_batch(part)), name


@given(
    batches(events(max_size=12)),
    st.sampled_from(ANY_KEYS),
    st.sampled_from([HOUR_MS, 7 * 60_000, 24 * HOUR_MS, 1]),
    st.sampled_from([0, 1, -1, 30 * 60_000, 10**15]),
    st.sampled_from([0, 1, HOUR_MS]),
    st.sampled_from([0, HOUR_MS]),
    st.sampled_from(LAUNCHERS),
    st.integers(0, 4),
)
def test_any_window_and_any_change_of_sides(
    parts: list[list[bytes]],
    keys: list[str],
    size_ms: int,
    offset_ms: int,
    lateness_ms: int,
    disorder_ms: int,
    launcher: Launcher,
    change_at: int,
) -> None:
    names = {*keys, "window_start", "window_end"}
    wanted = spec(
        keys=keys,
        size_ms=size_ms,
        offset_ms=offset_ms,
        allowed_lateness_ms=lateness_ms,
        measures=[each for each in measures() if each["name"] not in names],
    )
    stream = Stream(disorder_ms)
    host, device = _core.Window(wanted), DeviceWindow(launcher, wanted)
    for number, part in enumerate(parts):
        clean = stream.clean(part, partition=number % 2, strict=number % 3 == 1)
        assert device.push(clean) == host.push(clean)
        assert_same(device, host)
        closed, expected = device.advance(stream.watermark.value_ms), host.advance(stream.watermark.value_ms)
        assert tables(closed) == tables(expected)
        assert_same(device, host)
        if number == change_at:
            other_device, other_host = DeviceWindow(launcher, wanted), _core.Window(wanted)
            other_device.restore(host.snapshot())
            other_host.restore(device.snapshot())
            device, host = other_device, other_host
            assert_same(device, host)
    assert tables(device.advance(END_MS)) == tables(host.advance(END_MS))
    assert (device.groups, device.open_windows) == (0, 0)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_hot_keys_and_many_keys(launcher: Launcher) -> None:
    """Tiles that add up in shared memory first, tiles that do not, and tables that grow."""
    stream = Stream(HOUR_MS)
    host, device = _core.Window(spec()), DeviceWindow(launcher, spec())
    hot = [event(START_MS + i, i % 7, f"{i % 11}.5", sku=f"sku-{i % 5 if i % 3 else i}") for i in range(3000)]
    many = [event(START_MS + i, i, "1", ("paid", "returned")[i % 2], f"sku-{i}") for i in range(5000)]
    for messages in (hot, many, hot[::-1], many[:1]):
        clean = stream.clean(messages)
        assert device.push(clean) == host.push(clean) == []
    assert device.groups > 4000
    assert_same(device, host)
    assert tables(device.advance(END_MS)) == tables(host.advance(END_MS))


def test_sums_at_the_edge_of_int64() -> None:
    """Whatever leaves int64 on its way is refused, as on the host; what does not is exact."""
    most = 2**63 - 1
    chosen = [
        {"name": "units", "op": "sum", "column": "quantity", "condition": NET},
        {"name": "spread", "op": "std", "column": "quantity", "condition": SOLD},
    ]
    wanted = spec(measures=chosen)
    for amounts in (
        [(most, "paid"), (most, "returned"), (-most, "returned")],
        [(-most - 1, "returned")],
        [(most, "paid"), (1, "paid"), (1, "returned")],
        [(-most - 1, "paid"), (1, "returned"), (1, "paid")],
        [(most, "returned"), (1, "returned"), (0, "paid")],
        [(-most - 1, "returned"), (-1, "paid")],
        [(-most - 1, "paid"), (most, "paid"), (most, "paid"), (-most - 1, "paid")],
        [(-most - 1, "paid")] * 2,
    ):
        for at_once in (True, False):
            stream, host, device = Stream(HOUR_MS), _core.Window(wanted), DeviceWindow(LAUNCHERS[0], wanted)
            messages = [event(START_MS, number, "0", kind) for number, kind in amounts]
            faults = []
            for part in [messages] if at_once else [[message] for message in messages]:
                clean = stream.clean(part)
                for window in (host, device):
                    try:
                        window.push(clean)
                    except StateError as error:
                        faults.append(str(error))
                if faults:
                    break
            assert len(faults) in (0, 2)
            if faults:
                assert faults[0] == faults[1]
                with pytest.raises(StateError, match="units"):
                    device.snapshot()
            else:
                assert_same(device, host)


def test_sums_of_squares_beyond_128_bits() -> None:
    chosen = [{"name": "spread", "op": "variance", "column": "quantity"}]
    wanted = spec(measures=chosen)
    least = event(START_MS, -(2**63), "0")
    most = event(START_MS, 2**63 - 1, "0")
    stream, host, device = Stream(HOUR_MS), _core.Window(wanted), DeviceWindow(LAUNCHERS[0], wanted)
    messages = [least if number % 2 else most for number in range(8)]
    for window in (host, device):
        window.push(stream.clean(messages[:4]))
    assert_same(device, host)
    faults = []
    for window in (host, device):
        with pytest.raises(StateError, match="128 bits") as fault:
            window.push(stream.clean([*messages[4:], most]))
        faults.append(str(fault.value))
    assert faults[0] == faults[1]


def test_times_at_the_ends_of_int64() -> None:
    """Windows whose start or end no int64 holds, pushed as rows: decode knows only the years 1 to 9999."""
    times = [-(2**63), -(2**63) + 1, -1, 0, 2**63 - 2, 2**63 - 1]
    schema = Schema("times", (Field("at", "timestamp", required=True),)).to_core()
    rows = pa.record_batch([pa.array(times, pa.timestamp("ms", "UTC"))], ["at"])
    for size_ms in (1, 7, HOUR_MS):
        for watermark_ms in (-(2**63), -(2**63) + size_ms, 0, 2**63 - 2, 2**63 - 1):
            wanted = {
                "name": "ends",
                "size_ms": size_ms,
                "offset_ms": size_ms // 2,
                "allowed_lateness_ms": 1,
                "time_column": "at",
                "keys": ["at"],
                "measures": [{"name": "rows", "op": "count"}],
                "types": {"at": "timestamp"},
            }
            watermark = _core.Watermark(0)
            clean = _core.Cleaner([], "at", watermark, None).clean(_core.import_rows(rows, schema), 0)[0]
            host, device = _core.Window(wanted), DeviceWindow(LAUNCHERS[0], wanted)
            assert device.push(clean) == host.push(clean)
            assert_same(device, host)
            assert tables(device.advance(watermark_ms)) == tables(host.advance(watermark_ms))
            assert_same(device, host)


def test_state_moves_with_its_partition() -> None:
    """Where one process is ahead of the other: what it has closed stays closed for what it hands over."""
    wanted = spec()
    for ahead in (0, 1):
        streams, windows = (Stream(), Stream()), []
        for window_type in (_core.Window, lambda spec: DeviceWindow(LAUNCHERS[1], spec)):
            here, there = window_type(wanted), window_type(wanted)
            windows.append((here, there))
        for partition in range(3):
            messages = [
                event(START_MS + 3 * HOUR_MS * ahead, 5, sku=sku) for sku in ("a", "b", f"c{partition}")
            ]
            for process, stream in enumerate(streams):
                clean = stream.clean(messages[process:], partition)
                for pair in windows:
                    pair[process].push(clean)
        for _, there in windows:
            there.advance(START_MS + (2 + ahead) * HOUR_MS)
        host, device = windows
        for owner in range(3):
            for name, part in host[1].snapshot(owner).items():
                assert pa.record_batch(device[1].snapshot(owner)[name]).equals(pa.record_batch(part))
        moved = host[1].snapshot(1)
        for here, there in windows:
            here.take(moved, 0, 1)
            there.drop(1)
        assert_same(device[0], host[0])
        assert_same(device[1], host[1])
        for partition in (0, 1):
            clean = streams[0].clean([event(START_MS + HOUR_MS // 2, 1, sku="b")], partition)
            assert device[0].push(clean) == host[0].push(clean)
        assert_same(device[0], host[0])
        for watermark_ms in (START_MS + 2 * HOUR_MS, END_MS):
            assert tables(device[0].advance(watermark_ms)) == tables(host[0].advance(watermark_ms))
            assert_same(device[0], host[0])


def test_a_snapshot_of_another_window_is_refused() -> None:
    window = DeviceWindow(LAUNCHERS[0], spec())
    with pytest.raises(StateError, match="size_ms"):
        window.restore(_core.Window(spec(size_ms=7)).snapshot())


def test_a_row_without_a_time_is_refused() -> None:
    schema = Schema("times", (Field("at", "timestamp"), Field("quantity", "int64"))).to_core()
    clean = _core.Cleaner([], "at", _core.Watermark(0), None)
    wanted = spec(time_column="quantity", keys=[], measures=[], types={"quantity": "timestamp"})
    rows = pa.record_batch(
        [pa.array([START_MS], pa.timestamp("ms", "UTC")), pa.array([None], pa.int64())], ["at", "quantity"]
    )
    batch = clean.clean(_core.import_rows(rows, schema), 0)[0]
    with pytest.raises(SchemaError, match="'quantity' of row 0 is null"):
        DeviceWindow(LAUNCHERS[0], wanted).push(batch)


def test_what_has_no_kernel_says_so() -> None:
    assert refusal(spec()) is None
    assert refusal(spec(kind="hopping", hop_ms=HOUR_MS)) == "hopping windows have no kernel"
    assert refusal(spec(kind="session", gap_ms=1)) == "session windows have no kernel"
    with pytest.raises(ValueError, match="window 'sales': global windows have no kernel"):
        DeviceWindow(LAUNCHERS[0], spec(kind="global"))


def test_plain_text_is_forgotten_with_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dictionary of order ids must not grow for the life of a job."""
    monkeypatch.setattr("omnistream.kernels.window._TEXTS_TO_REBUILD", 10)
    chosen = [{"name": "orders", "op": "distinct", "column": "size"}]
    wanted = spec(measures=chosen, keys=["size"], types=EVENT_TYPES)
    stream, host, device = Stream(), _core.Window(wanted), DeviceWindow(LAUNCHERS[0], wanted)
    for hour in range(10):
        messages = [
            b'{"event_type":"paid","event_time":%d,"lines":[{"size":"order %d"}]}'
            % (START_MS + hour * HOUR_MS + number, hour * 40 + number)
            for number in range(40)
        ]
        clean = stream.clean(messages)
        assert device.push(clean) == host.push(clean)
        closed, expected = device.advance(stream.watermark.value_ms), host.advance(stream.watermark.value_ms)
        assert tables(closed) == tables(expected)
        assert_same(device, host)
        assert len(device._texts["size"]) <= 200
