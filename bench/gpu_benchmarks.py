"""The benchmarks of ``make gpu-check``: each compares the GPU's answer with the CPU's, then times both.

A benchmark is a function of `Bench`: where to run, how large the inputs are, where figures go. A rehearsal
has tiny inputs and the host launcher (or Numba's simulator) for a GPU; its figures say nothing of one.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pipeline import JOB, stream

from omnistream import Pipeline, _core, parse_job
from omnistream.device import probe_cuda
from omnistream.features import OPS, STANDARD, measures_used, parse_feature
from omnistream.generate import GenerateSpec, generate_blocks
from omnistream.kernels.columns import upload
from omnistream.kernels.copies import Pinned
from omnistream.kernels.decode import DeviceDecoder
from omnistream.kernels.derive import MAX_ULP, MAX_ULP_FLOAT32, Kernels
from omnistream.kernels.launch import CudaLauncher, HostLauncher
from omnistream.kernels.window import DeviceWindow
from omnistream.measures import Lifecycle, parse_measure
from omnistream.schema import BUILTIN, Schema
from omnistream.spec import WindowSpec

SECONDS_EACH = 45.0  # what a benchmark may take
HORIZON_DAYS = 28
# Of the keys, all of which are timed, so many answers are compared with the CPU's.
KEYS_COMPARED = 100_000
# Blocks end to end, half as many for the whole pipeline: the first copy and the last kernels hardly count.
BLOCKS_IN_TURN = 8
# Of the inputs, so much is compared with the CPU's answer; the rest is more of the same.
MOST_BYTES_COMPARED = 4 << 20
MOST_ROWS_COMPARED = 500_000


@dataclass(frozen=True)
class Sizes:
    """How large the inputs are."""

    rounds: int
    text_bytes: int
    copied_bytes: int
    window_rows: int
    window_keys: tuple[int, ...]
    keys: int  # SKU x locations


FULL = Sizes(7, 64 << 20, 1 << 30, 8_000_000, (100, 100_000, 10_000_000), 10_000_000)
# Under compute-sanitizer, which runs each thread some hundred times slower.
SMALL = Sizes(1, 256 << 10, 1 << 20, 50_000, (100, 10_000), 10_000)
REHEARSED = Sizes(1, 20 << 10, 1 << 10, 2_000, (10, 500), 96)


class Unavailable(Exception):  # noqa: N818
    """What a benchmark lacks."""


@dataclass
class Bench:
    """Where to run and what to note.

    Attributes
    ----------
    rehearse : bool
        There is no GPU.
    sizes : Sizes
    figure : callable
        Notes a figure: name, value, unit, how it was taken.
    limits_gb_s : dict
        What this machine's copies and memory reach, as `limits` and the doctor measured them.
    """

    rehearse: bool
    sizes: Sizes
    figure: Callable[..., None]
    limits_gb_s: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.launcher: Any = HostLauncher() if self.rehearse else CudaLauncher(probe_cuda().gpus[0].arch)
        self.xp = self.launcher.xp

    @property
    def numba_xp(self) -> Any:
        """The module of arrays for Numba's kernels: in its simulator they are NumPy's."""
        return np if self.rehearse else self.xp

    def to_host(self, array: Any) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.get()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the median of several runs, to the end of what was launched; the first does not count."""
        return self._median(work, not self.rehearse, self.sizes.rounds)

    def cpu_seconds(self, work: Callable[[], Any], rounds: int | None = None) -> float:
        """Return the median of several runs on the host."""
        return self._median(work, False, rounds or self.sizes.rounds)

    def _median(self, work: Callable[[], Any], wait: bool, rounds: int) -> float:
        times = []
        for _ in range(1 if self.rehearse else rounds + 1):
            start = time.perf_counter()
            work()
            if wait:
                self.xp.cuda.get_current_stream().synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:] or times)

    def against(self, gb_s: float, limit: str) -> dict[str, Any]:
        """Return what of a limit a rate reaches, as more of a figure; nothing where that was not measured."""
        if limit not in self.limits_gb_s:
            return {}
        limit_gb_s = self.limits_gb_s[limit]
        return {"limit": f"{limit} {limit_gb_s:.4g} GB/s", "of_limit": float(f"{gb_s / limit_gb_s:.3g}")}


# ---- limits


def limits(bench: Bench) -> None:
    """What the device's memory reaches: a copy reads and writes every byte."""
    source = bench.xp.zeros(bench.sizes.copied_bytes, np.uint8)
    to = bench.xp.empty(bench.sizes.copied_bytes, np.uint8)

    def copy() -> None:
        to[...] = source

    gb_s = 2 * source.nbytes / bench.seconds(copy) / 1e9
    bench.limits_gb_s["device memory"] = gb_s
    bench.figure("device memory, read and written", gb_s, "GB/s", bytes=source.nbytes)


# ---- decode


def order_text(events_bytes: int, nested: bool) -> bytes:
    """Return about so many bytes of orders, whole lines."""
    events = max(events_bytes // (700 if nested else 330), 10)
    return next(generate_blocks(GenerateSpec(events=events, nested=nested, styles=2_000), 2 * events_bytes))


def decode(bench: Bench) -> None:
    """NDJSON to columns: flat orders, and orders with lines."""
    for name in ("order_flat", "order"):
        decode_schema(bench, name)


def decode_schema(bench: Bench, name: str) -> None:
    """Resident on the device; end to end from pinned memory, copies ahead of kernels; one CPU core."""
    schema = BUILTIN[name].to_core()
    text = order_text(bench.sizes.text_bytes, nested=name == "order")
    on_device = DeviceDecoder(bench.launcher, schema)
    first = text[: text.index(b"\n", min(len(text) // 2, MOST_BYTES_COMPARED)) + 1]
    got = on_device.to_arrow(on_device.decode_lines(first))
    if not got.equals(pa.record_batch(_core.Decoder(plain(schema), {}).decode_lines(first)[0])):
        raise AssertionError(f"decode of {name} differs")

    pinned = Pinned(bench.launcher, len(text))
    pinned.data[:] = text
    resident = on_device.send(pinned)
    resident.mark.wait()
    counts = on_device.decode_lines(resident).counts

    def note(what: str, seconds: float, blocks: int = 1, **more: Any) -> None:
        more |= {"bytes": blocks * len(text)}
        bench.figure(f"decode {name}, {what}", blocks * len(text) / seconds / 1e9, "GB/s", **more)
        events = blocks * counts["messages"]
        bench.figure(f"decode {name}, {what}, events", events / seconds / 1e6, "M events/s", **more)

    left = {"left_to_cpu": counts["left"]}
    note("resident", bench.seconds(lambda: on_device.decode_lines(resident)), **left)

    def end_to_end() -> None:
        for sent in on_device.ahead([pinned] * BLOCKS_IN_TURN):
            on_device.decode_lines(sent)

    seconds = bench.seconds(end_to_end)
    gb_s = BLOCKS_IN_TURN * len(text) / seconds / 1e9
    note("from pinned memory", seconds, BLOCKS_IN_TURN, **left, **bench.against(gb_s, "pinned_to_gpu"))
    on_cpu = _core.Decoder(schema, {each["name"]: _core.Dictionary() for each in schema["fields"]})
    note("one CPU core", bench.cpu_seconds(lambda: on_cpu.decode_lines(text)))


def plain(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema without dictionaries, whose codes are not decode's part on a device."""
    kinds = {"dictionary": "string"}
    fields = [{**each, "type": kinds.get(each["type"], each["type"])} for each in schema["fields"]]
    return {**schema, "fields": fields}


# ---- windows


def window_rows(rows: int, keys: int, zipf: bool) -> tuple[dict[str, Any], Any]:
    """Return a window and rows for it, of keys that are equally likely or Zipf's, as SKUs are."""
    draw = np.random.default_rng(20261111)
    key = draw.zipf(1.2, rows) % keys if zipf else draw.integers(0, keys, rows)
    table = pa.record_batch(
        {
            "at": pa.array(np.sort(draw.integers(0, 60_000, rows))).cast(pa.timestamp("ms", "UTC")),
            "key": pa.array(key),
            "units": pa.array(draw.integers(1, 9, rows)),
        }
    )
    types = {"at": "timestamp", "key": "int64", "units": "int64"}
    fields = [{"name": name, "type": kind, "required": True} for name, kind in types.items()]
    fields[0]["format"] = "epoch_ms"
    batch = _core.import_rows(table, Schema.from_dict({"field": fields}).to_core(), "bench", 0, 0)
    clean, _, _ = _core.Cleaner([], "at", _core.Watermark(60_000), None).clean(batch, 0, [])
    window = WindowSpec(
        "minute",
        60_000,
        ("key",),
        (parse_measure("count", Lifecycle()), parse_measure("sum(units)", Lifecycle())),
    )
    return window.to_core("at", types) | {"zone": window.zone()}, clean


def windows(bench: Bench) -> None:
    """Few keys and many, equally likely and Zipf's."""
    for keys in bench.sizes.window_keys:
        for zipf in (False, True):
            window(bench, keys, zipf)


def window(bench: Bench, keys: int, zipf: bool) -> None:
    """Rows on the device into an open window there, whose keys are known."""
    rows = bench.sizes.window_rows
    spec, few = window_rows(min(rows, MOST_ROWS_COMPARED), keys, zipf)
    pair = DeviceWindow(bench.launcher, spec), _core.Window(spec)
    for each in pair:
        each.push(few)
    got, meant = (pa.record_batch(each.advance(_core.Watermark.END)[0]) for each in pair)
    if not got.equals(meant):
        raise AssertionError(f"windows of {keys} keys differ")

    spec, clean = window_rows(rows, keys, zipf)
    resident = upload(bench.launcher, clean, spec["types"], spec["types"])
    on_device, on_cpu = DeviceWindow(bench.launcher, spec), _core.Window(spec)
    shape = {"rows": rows, "keys": keys, "spread": "Zipf" if zipf else "uniform"}
    name = f"window, {keys} keys, {shape['spread']}"
    seconds = bench.seconds(lambda: on_device.push(resident))
    bench.figure(name, rows / seconds / 1e6, "M rows/s", **shape)
    gb_s = rows * _bytes_of_row(resident) / seconds / 1e9
    more = bench.against(gb_s, "device memory")
    bench.figure(f"{name}, columns read", gb_s, "GB/s", **shape, **more)
    seconds = bench.cpu_seconds(lambda: on_cpu.push(clean), rounds=1)
    bench.figure(f"{name}, one CPU core", rows / seconds / 1e6, "M rows/s", **shape)


def _bytes_of_row(rows: Any) -> int:
    """Return what of a row a window must read: its columns and its watermark."""
    return (
        sum(lane.values.dtype.itemsize for lane in rows.columns.values()) + rows.watermarks_ms.dtype.itemsize
    )


# ---- derive


def histories(bench: Bench, keys: int) -> tuple[Any, Any]:
    """Return units, gross and net amounts of 28 days, as slow sellers have them: most days none."""
    xp = bench.numba_xp
    draw = xp.random.default_rng(20261111)
    history = xp.zeros((3, HORIZON_DAYS, keys), xp.int64)
    for day in range(HORIZON_DAYS):
        sold = draw.integers(0, 8, keys) - 4
        units = xp.maximum(sold, 0)
        price = draw.integers(200_000, 2_000_000, keys)
        history[0, day], history[1, day] = units, units * price
        history[2, day] = units * (price - price // 8)
    return history, draw.integers(1, HORIZON_DAYS + 1, keys).astype(xp.int32)


def assert_close(got: np.ndarray, meant: np.ndarray, ulp: int, slack: float = 0.0) -> None:
    """Compare floats in units in the last place; NaN is NaN."""
    off = np.abs(got - meant) > ulp * np.spacing(np.abs(meant)) + slack
    off &= ~(np.isnan(got) & np.isnan(meant))
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise AssertionError(f"{got.flat[first]!r} is not {meant.flat[first]!r}, at {first}")


def statistics_and_stock(bench: Bench) -> None:
    """Demand statistics and safety stock of SKU x locations, the history resident."""
    keys = bench.sizes.keys
    history, known = histories(bench, keys)
    gpu, cpu = Kernels("cuda"), Kernels("cpu")
    some = min(keys, KEYS_COMPARED)
    few = np.ascontiguousarray(bench.to_host(history[:1, :, :some]))
    few_known = bench.to_host(known[:some])
    arguments = (1.0, 1.645, 7.0)
    units = bench.numba_xp.ascontiguousarray(history[:1])
    got, meant = gpu.demand(units, known, *arguments), cpu.demand(few, few_known, *arguments)
    for ours, theirs in zip(got, meant, strict=True):
        assert_close(bench.to_host(ours[:some]), theirs, 2 * MAX_ULP)
    seconds = bench.seconds(lambda: gpu.demand(units, known, *arguments))
    gb_s = units.nbytes / seconds / 1e9
    bench.figure("safety stock", keys / seconds / 1e6, "M keys/s", keys=keys, days=HORIZON_DAYS)
    more = bench.against(gb_s, "device memory")
    bench.figure("safety stock, history read", gb_s, "GB/s", keys=keys, **more)
    seconds = bench.cpu_seconds(lambda: cpu.demand(few, few_known, *arguments))
    bench.figure("safety stock, all CPUs of this host", some / seconds / 1e6, "M keys/s", keys=some)


def features(bench: Bench) -> None:
    """The standard feature vectors of SKU x locations, the history resident."""
    keys = bench.sizes.keys
    history, known = histories(bench, keys)
    specs = [parse_feature(text) for text in STANDARD]
    names = measures_used(specs)
    types = dict(zip(names, ("int64", "decimal", "decimal"), strict=True))
    places = {name: number for number, name in enumerate(names)}
    columns = [spec.column(OPS[spec.op], places, types) for spec in specs]
    gpu, cpu = Kernels("cuda").features(columns), Kernels("cpu").features(columns)
    some = min(keys, KEYS_COMPARED)
    few = np.ascontiguousarray(bench.to_host(history[:, :, :some]))
    few_known = bench.to_host(known[:some])
    meant = cpu(few, few_known, 3)
    # 1 - ratio loses the digits that the two have in common.
    assert_close(bench.to_host(gpu(history, known, 3)[:some]), meant, 2 * MAX_ULP_FLOAT32, slack=2.0**-23)
    seconds = bench.seconds(lambda: gpu(history, known, 3))
    gb_s = history.nbytes / seconds / 1e9
    bench.figure("features", keys / seconds / 1e6, "M vectors/s", keys=keys, features=len(columns))
    more = bench.against(gb_s, "device memory")
    bench.figure("features, history read", gb_s, "GB/s", keys=keys, **more)
    seconds = bench.cpu_seconds(lambda: cpu(few, few_known, 3))
    bench.figure("features, all CPUs of this host", some / seconds / 1e6, "M vectors/s", keys=some)


# ---- the whole pipeline


@dataclass(frozen=True)
class TextBlock:
    """What a source yields."""

    data: bytes
    source: str = "bench"
    partition: int = 0
    first_position: int = 1


def run_pipeline(bench: Bench, device: str, blocks: list[TextBlock]) -> dict[str, list[pa.RecordBatch]]:
    """Push all blocks through the job of bench/pipeline.py and return its outputs.

    Without duplicates: they are looked up on the CPU, row after row, on either device.
    """
    clean = {"rule": JOB["clean"]["rule"]}
    job = parse_job({**JOB, "job": {"name": "bench", "device": device}, "clean": clean})
    pipeline = Pipeline(job, clock=lambda: 0, launcher=None if device == "cpu" else bench.launcher)
    outputs: dict[str, list[pa.RecordBatch]] = {}

    def keep(made: dict[str, list[pa.RecordBatch]]) -> None:
        for name, batches in made.items():
            outputs.setdefault(name, []).extend(batches)

    for block, data in pipeline.decode_ahead(blocks):
        keep(pipeline.push(data, source=block.source, first_position=block.first_position))
    keep(pipeline.flush())
    if not pipeline.metrics().balanced:
        raise AssertionError("the ledger does not balance")
    return outputs


def pipeline(bench: Bench) -> None:
    """Bytes to closed windows, demand and safety stock: on the device, and on one CPU core."""
    size = bench.sizes.text_bytes
    events = max(BLOCKS_IN_TURN // 2 * size // 330, 40)
    spec = GenerateSpec(**stream(events))
    blocks, position = [], 1
    for text in generate_blocks(spec, size):
        blocks.append(TextBlock(text, first_position=position))
        position += text.count(b"\n")
    few = [TextBlock(blocks[0].data[: blocks[0].data.index(b"\n", min(size // 2, MOST_BYTES_COMPARED)) + 1])]
    got, meant = (run_pipeline(bench, device, few) for device in ("cuda", "cpu"))
    if {*got} != {*meant} or any(joined(got[name]) != joined(meant[name]) for name in meant):
        raise AssertionError("the pipelines' outputs differ")
    size = sum(len(block.data) for block in blocks)
    took = {
        "on the device": bench.seconds(lambda: run_pipeline(bench, "cuda", blocks)),
        "one CPU core": bench.cpu_seconds(lambda: run_pipeline(bench, "cpu", blocks), rounds=1),
    }
    for what, seconds in took.items():
        more = {"bytes": size, "blocks": len(blocks)}
        if what == "on the device":
            more["times_one_core"] = float(f"{took['one CPU core'] / seconds:.3g}")
        bench.figure(f"pipeline, {what}", events / seconds / 1e6, "M events/s", **more)
        bench.figure(f"pipeline, {what}, bytes", size / seconds / 1e9, "GB/s", **more)


def joined(batches: list[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(batches).combine_chunks()


# ---- cuDF


def cudf_peer(bench: Bench) -> None:
    """The same flat orders through cuDF: ``read_json(lines=True)``, then units by SKU and channel."""
    try:
        import cudf
    except ImportError as error:
        raise Unavailable("cuDF is not installed") from error
    text = order_text(bench.sizes.text_bytes, nested=False)
    schema = BUILTIN["order_flat"].to_core()
    cpu = _core.Decoder(schema, {each["name"]: _core.Dictionary() for each in schema["fields"]})
    batch, _, counts = cpu.decode_lines(text)
    keys = ["sku", "channel"]
    table = pa.table(pa.record_batch(batch)).select([*keys, "quantity"])
    for place, name in enumerate(keys):
        table = table.set_column(place, name, table.column(name).cast(pa.utf8()))
    meant = {
        (row["sku"], row["channel"]): row["quantity_sum"]
        for row in table.group_by(keys).aggregate([("quantity", "sum")]).to_pylist()
    }

    def read() -> Any:
        return cudf.read_json(io.BytesIO(text), lines=True)

    def read_and_sum() -> Any:
        return read().groupby(keys, dropna=False)["qty"].sum()

    summed = read_and_sum().to_pandas()
    if {key: int(units) for key, units in summed.items()} != meant:
        raise AssertionError("cuDF's units by SKU and channel differ")
    shape = {"bytes": len(text), "events": counts["messages"]}
    for name, work in (("read_json", read), ("read_json and group-by", read_and_sum)):
        seconds = bench.seconds(work)
        bench.figure(f"cuDF, {name}", len(text) / seconds / 1e9, "GB/s", **shape)
        bench.figure(f"cuDF, {name}, events", counts["messages"] / seconds / 1e6, "M events/s", **shape)


ALL: dict[str, Callable[[Bench], None]] = {
    "limits": limits,
    "decode": decode,
    "windows": windows,
    "statistics and safety stock": statistics_and_stock,
    "features": features,
    "pipeline": pipeline,
    "cuDF": cudf_peer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small inputs, for a checker of memory")
    small = parser.parse_args().small

    def show(name: str, value: float, unit: str, **more: Any) -> None:
        print(f"{name}: {value:.4g} {unit} {more}")

    bench = Bench(False, SMALL if small else FULL, show)
    if small:
        # Every array is an allocation of its own then, and a step beyond it is seen.
        bench.xp.cuda.set_allocator(None)
    for name, benchmark in ALL.items():
        try:
            benchmark(bench)
        except Unavailable as error:
            print(f"{name}: skipped, {error}")


if __name__ == "__main__":
    main()
