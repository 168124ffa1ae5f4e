"""The benchmarks of ``make gpu-check``: each compares the GPU's answer with the CPU's, then times both.

A benchmark is called with whether this is a rehearsal, then tiny inputs on what stands for a GPU, and with a
function that notes figures.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.device import probe_cuda
from omnistream.features import OPS, STANDARD, measures_used, parse_feature
from omnistream.kernels.derive import MAX_ULP, MAX_ULP_FLOAT32, Kernels
from omnistream.kernels.launch import CudaLauncher, HostLauncher
from omnistream.kernels.window import DeviceWindow
from omnistream.measures import Lifecycle, parse_measure
from omnistream.schema import Schema
from omnistream.spec import WindowSpec

SECONDS_EACH = 45.0  # what a benchmark may take
ROUNDS = 7
KEYS = 10_000_000  # SKU x locations
KEYS_REHEARSED = 96
KEYS_COMPARED = 100_000
WINDOW_ROWS = 4_000_000
WINDOW_ROWS_REHEARSED = 2_000
WINDOW_KEYS = (100, 100_000, 10_000_000)
HORIZON_DAYS = 28

Figure = Callable[..., None]


class Unavailable(Exception):  # noqa: N818
    """What a benchmark lacks."""


class Place:
    """Where arrays live and how long things take there."""

    def __init__(self, rehearse: bool) -> None:
        self.rehearse = rehearse
        self.xp: Any = np
        if not rehearse:
            import cupy

            self.xp = cupy

    def host(self, array: Any) -> np.ndarray:
        return array if isinstance(array, np.ndarray) else array.get()

    def seconds(self, work: Callable[[], Any]) -> float:
        """Return the median of several runs, to the end of what was launched; the first does not count."""
        times = []
        for _ in range(1 if self.rehearse else ROUNDS + 1):
            start = time.perf_counter()
            work()
            if not self.rehearse:
                self.xp.cuda.get_current_stream().synchronize()
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:] or times)


def histories(place: Place, keys: int) -> tuple[Any, Any]:
    """Return units, gross and net amounts of 28 days, as slow sellers have them: most days none."""
    xp = place.xp
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


def statistics_and_stock(rehearse: bool, figure: Figure) -> None:
    """Demand statistics and safety stock of 10M SKU x locations, the history resident."""
    place, keys = Place(rehearse), KEYS_REHEARSED if rehearse else KEYS
    history, known = histories(place, keys)
    gpu, cpu = Kernels("cuda"), Kernels("cpu")
    some = min(keys, KEYS_COMPARED)
    few = np.ascontiguousarray(place.host(history[:1, :, :some]))
    few_known = place.host(known[:some])
    arguments = (1.0, 1.645, 7.0)
    units = place.xp.ascontiguousarray(history[:1])
    got, meant = gpu.demand(units, known, *arguments), cpu.demand(few, few_known, *arguments)
    for ours, theirs in zip(got, meant, strict=True):
        assert_close(place.host(ours[:some]), theirs, 2 * MAX_ULP)
    seconds = place.seconds(lambda: gpu.demand(units, known, *arguments))
    figure("safety stock", keys / seconds / 1e6, "M keys/s", keys=keys, days=HORIZON_DAYS)
    figure("safety stock, read rate", units.nbytes / seconds / 1e9, "GB/s", keys=keys)
    seconds = Place(True).seconds(lambda: cpu.demand(few, few_known, *arguments))
    figure("safety stock, all CPUs of this host", some / seconds / 1e6, "M keys/s", keys=some)


def features(rehearse: bool, figure: Figure) -> None:
    """The standard feature vectors of 10M SKU x locations, the history resident."""
    place, keys = Place(rehearse), KEYS_REHEARSED if rehearse else KEYS
    history, known = histories(place, keys)
    specs = [parse_feature(text) for text in STANDARD]
    names = measures_used(specs)
    types = dict(zip(names, ("int64", "decimal", "decimal"), strict=True))
    places = {name: number for number, name in enumerate(names)}
    columns = [spec.column(OPS[spec.op], places, types) for spec in specs]
    gpu, cpu = Kernels("cuda").features(columns), Kernels("cpu").features(columns)
    some = min(keys, KEYS_COMPARED)
    few = np.ascontiguousarray(place.host(history[:, :, :some]))
    few_known = place.host(known[:some])
    meant = cpu(few, few_known, 3)
    # 1 - ratio loses the digits that the two have in common.
    assert_close(place.host(gpu(history, known, 3)[:some]), meant, 2 * MAX_ULP_FLOAT32, slack=2.0**-23)
    seconds = place.seconds(lambda: gpu(history, known, 3))
    figure("features", keys / seconds / 1e6, "M vectors/s", keys=keys, features=len(columns))
    figure("features, read rate", history.nbytes / seconds / 1e9, "GB/s", keys=keys)
    seconds = Place(True).seconds(lambda: cpu(few, few_known, 3))
    figure("features, all CPUs of this host", some / seconds / 1e6, "M vectors/s", keys=some)


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


def windows(rehearse: bool, figure: Figure) -> None:
    """Rows into a window, from host memory to sums on the device."""
    place = Place(rehearse)
    launcher = HostLauncher() if rehearse else CudaLauncher(probe_cuda().gpus[0].arch)
    rows = WINDOW_ROWS_REHEARSED if rehearse else WINDOW_ROWS
    for keys in (10, 500) if rehearse else WINDOW_KEYS:
        for zipf in (False, True):
            spec, clean = window_rows(rows, keys, zipf)
            ours, theirs = DeviceWindow(launcher, spec), _core.Window(spec)
            ours.push(clean)
            theirs.push(clean)
            got, meant = (pa.record_batch(each.advance(_core.Watermark.END)[0]) for each in (ours, theirs))
            if not got.equals(meant):
                raise AssertionError(f"windows of {keys} keys differ")
            shape = {"rows": rows, "keys": keys, "spread": "Zipf" if zipf else "uniform"}
            name = f"window, {keys} keys, {shape['spread']}"
            # Windows that are open: the keys are known after the first push, which does not count.
            on_device, on_cpu = DeviceWindow(launcher, spec), _core.Window(spec)
            seconds = place.seconds(partial(on_device.push, clean))
            figure(name, rows / seconds / 1e6, "M rows/s", **shape)
            seconds = Place(True).seconds(partial(on_cpu.push, clean))
            figure(f"{name}, one CPU core", rows / seconds / 1e6, "M rows/s", **shape)


ALL: dict[str, Callable[[bool, Figure], None]] = {
    "statistics and safety stock": statistics_and_stock,
    "features": features,
    "windows": windows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="small inputs, for a checker of memory")
    small = parser.parse_args().small
    if small:
        global KEYS, ROUNDS
        KEYS, ROUNDS = 10_000, 1
    for benchmark in ALL.values():
        benchmark(False, lambda name, value, unit, **more: print(f"{name}: {value:.4g} {unit} {more}"))


if __name__ == "__main__":
    main()
