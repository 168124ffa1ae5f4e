"""A device whose memory is short: the same results from smaller parts, or an error that says so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.errors import DeviceError
from omnistream.job import parse_job
from omnistream.kernels.columns import upload_column
from omnistream.kernels.decode import DeviceDecoder
from omnistream.kernels.encode import DeviceDictionary
from omnistream.kernels.launch import HostLauncher
from omnistream.kernels.memory import HostPool, in_parts
from omnistream.kernels.window import DeviceWindow
from omnistream.measures import Lifecycle, parse_measure
from omnistream.pipeline import Pipeline
from omnistream.placement import LAUNCHER_VARIABLE
from omnistream.schema import Schema
from omnistream.spec import WindowSpec

ROWS = 8_000
TYPES = {"at": "timestamp", "key": "string", "units": "int64"}
FIELDS = [{"name": name, "type": kind, "required": True} for name, kind in TYPES.items()]
FIELDS[0]["format"] = "epoch_ms"
SCHEMA = Schema.from_dict({"field": FIELDS}).to_core()


def spec() -> dict[str, Any]:
    texts = ("count", "sum(units)", "distinct(key)", "distinct(units)", "std(units)", "max(units)")
    measures = tuple(parse_measure(text, Lifecycle()) for text in texts)
    window = WindowSpec("minute", 60_000, ("key",), measures)
    return window.to_core("at", TYPES) | {"zone": window.zone()}


def cleaned(batches: int, keys: int) -> list[_core.CleanBatch]:
    """Return batches with new and known keys, rows of several minutes and late ones."""
    draw = np.random.default_rng(1)
    cleaner = _core.Cleaner([], "at", _core.Watermark(60_000), None)
    made = []
    for number in range(batches):
        at = draw.integers(0, 120_000, ROWS) + 90_000 * number
        table = pa.record_batch(
            {
                "at": pa.array(at).cast(pa.timestamp("ms", "UTC")),
                "key": pa.array([f"style-{key}" for key in draw.integers(0, keys, ROWS)]),
                "units": pa.array(draw.integers(-50, 50, ROWS)),
            }
        )
        made.append(cleaner.clean(_core.import_rows(table, SCHEMA, "push", 0, 0), 0, [])[0])
    return made


def drive(window: Any, batches: list[_core.CleanBatch]) -> list[Any]:
    """Return late rows and closed windows, some of them before the end."""
    results: list[Any] = []
    for number, batch in enumerate(batches):
        results.append(sorted(window.push(batch)))
        results += [pa.record_batch(each) for each in window.advance(90_000 * number)]
    return [*results, *(pa.record_batch(each) for each in window.advance(_core.Watermark.END))]


@pytest.mark.parametrize("keys", [20, 3_000])
def test_a_window_takes_smaller_parts_where_memory_is_short(keys: int) -> None:
    batches = cleaned(3, keys)
    meant = drive(_core.Window(spec()), batches)
    roomy = HostLauncher()
    assert drive(DeviceWindow(roomy, spec()), batches) == meant
    fitted, refused = 0, 0
    for percent in (10, 20, 35, 50, 60, 70, 80, 90, 95):
        limit_bytes = roomy.xp.peak_bytes * percent // 100
        try:
            assert drive(DeviceWindow(HostLauncher(limit_bytes=limit_bytes), spec()), batches) == meant
            fitted += 1
        except DeviceError as error:
            assert "memory is short" in str(error)  # noqa: PT017
            refused += 1
    # With few keys a batch takes most of the memory and can be made smaller; with many the groups do.
    assert fitted >= (2 if keys < 100 else 0), "no limit made the batches smaller"
    assert refused >= 2, "no limit was too low"


def test_a_window_that_cannot_close_is_as_it_was() -> None:
    launcher, host = HostLauncher(), _core.Window(spec())
    window = DeviceWindow(launcher, spec())
    for each in (window, host):
        each.push(cleaned(1, 3_000)[0])
    launcher.pool.limit_bytes = launcher.xp.limit_bytes = launcher.xp.used_bytes
    with pytest.raises(DeviceError, match=r"window 'minute', \d+ groups, closing some: .*memory is short"):
        window.advance(_core.Watermark.END)
    launcher.xp.limit_bytes = None
    closed, meant = (each.advance(_core.Watermark.END) for each in (window, host))
    assert [pa.record_batch(each) for each in closed] == [pa.record_batch(each) for each in meant]


def test_the_error_says_how_much_there_is() -> None:
    batch = cleaned(1, 3_000)[0]
    window = DeviceWindow(HostLauncher(limit_bytes=200 << 10), spec())
    said = r"window 'minute'.*: the device's memory is short: 0\.\d MiB in use, the limit is 0\.2 MiB"
    with pytest.raises(DeviceError, match=said):
        window.push(batch)


def test_codes_are_the_same_after_memory_was_short() -> None:
    """Whatever allocation fails, the strings of that batch get the codes that they would have had."""
    texts = [[f"{batch}-{row % 300}" * (1 + row % 7) for row in range(500)] for batch in range(3)]
    meant = _core.Dictionary()
    codes = [meant.encode([text.encode() for text in batch]) for batch in texts]
    for headroom in range(0, 60_000, 512):
        launcher = HostLauncher()
        dictionary = DeviceDictionary(launcher)
        columns = [upload_column(launcher, pa.array(batch), "string") for batch in texts]

        def encode(place: int, dictionary: Any = dictionary, columns: Any = columns) -> list[int]:
            column = columns[place]
            taken = dictionary.encode_text(column.values, column.offsets, None, None, 500)
            return [int(code) for code in taken]

        assert encode(0) == codes[0]
        launcher.xp.limit_bytes = launcher.xp.used_bytes + headroom
        try:
            encode(1)
            assert headroom > 0
        except MemoryError:
            launcher.xp.limit_bytes = None
            assert encode(1) == codes[1]
        launcher.xp.limit_bytes = None
        assert encode(2) == codes[2]
        assert dictionary.host.values() == meant.values()


def test_lines_are_decoded_in_parts_with_their_positions() -> None:
    lines = [
        json.dumps({"at": row, "key": f"k{row}", "units": row}) if row % 500 else '{"at": broken'
        for row in range(1, 6001)
    ]
    text = "\n".join(["", *lines]).encode()
    batch, rejects, counts = _core.Decoder(SCHEMA, {}).decode_lines(text)
    roomy = HostLauncher()
    [*DeviceDecoder(roomy, SCHEMA).line_parts(text)]
    for divisor in (2, 4, 8):
        decoder = DeviceDecoder(HostLauncher(limit_bytes=roomy.xp.peak_bytes // divisor), SCHEMA)
        # Whoever keeps rows on the device keeps their memory.
        by_lines = [(rows.to_host(), *rest) for rows, *rest in decoder.line_parts(text)]
        messages = _core.Messages(text.splitlines()[1:], "push", 0, 2)
        by_messages = [(rows.to_host(), *rest) for rows, *rest in decoder.message_parts(messages)]
        for parts in (by_lines, by_messages):
            assert len(parts) >= divisor
            assert joined(rows for rows, _, _ in parts) == joined([batch])
            assert joined(each for _, each, _ in parts) == joined([rejects])
            assert sum(each["messages"] for _, _, each in parts) == counts["messages"]
    with pytest.raises(DeviceError, match=r"decode of \d+ bytes: the device's memory is short"):
        [*DeviceDecoder(HostLauncher(limit_bytes=8 << 10), SCHEMA).line_parts(text)]


def joined(batches: Iterable[_core.Batch]) -> pa.Table:
    return pa.Table.from_batches([pa.record_batch(each) for each in batches]).combine_chunks()


def test_a_job_says_how_much_a_device_may_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "host")
    text = b"\n".join(
        json.dumps({"at": 10 * row, "key": f"k{row % 9}", "units": row % 50}).encode() for row in range(8_000)
    )

    def run(text: bytes, **job: Any) -> tuple[dict[str, list[pa.RecordBatch]], Any]:
        fields = [{"path": each["name"], **each} for each in FIELDS]
        measures = ["count", "sum(units)", "distinct(units)"]
        window = {"name": "minute", "size": "1m", "keys": ["key"], "measures": measures}
        document = {"job": job, "schema": {"field": fields}, "time": {"column": "at"}, "window": [window]}
        pipeline = Pipeline(parse_job(document))
        outputs = pipeline.push(text)
        for name, batches in pipeline.flush().items():
            outputs.setdefault(name, []).extend(batches)
        return outputs, pipeline.metrics()

    meant, counted = run(text, device="cpu")
    for limit in ("1 MiB", "512 KiB"):  # the text alone takes 300
        outputs, metrics = run(text, device="cuda", device_memory=limit)
        assert outputs == meant
        assert (metrics.messages, metrics.aggregated) == (counted.messages, counted.aggregated)
    long = json.dumps({"at": 1, "key": "x" * 500_000, "units": 1}).encode()  # cannot be cut
    with pytest.raises(DeviceError, match=r"decode of .*memory is short: .* the limit is 0\.4 MiB"):
        run(long, device="cuda", device_memory="400 KiB")


def test_parts_come_in_their_order() -> None:
    pool = HostPool(HostLauncher().xp)

    def run(part: list[int]) -> list[int]:
        if len(part) > 3:
            raise MemoryError
        return part

    def halves(part: list[int]) -> tuple[list[int], list[int]]:
        return part[: len(part) // 2], part[len(part) // 2 :]

    parts = [*in_parts(pool, "sums", list(range(20)), run, halves)]
    assert [each for part in parts for each in part] == list(range(20))
    assert max(map(len, parts)) == 3
