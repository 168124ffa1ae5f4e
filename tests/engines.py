"""The engines behind one face, so that a conformance test is written once.

A stage of an engine takes and gives what the engine likes (``native``); ``rows`` show it as the reference's
plain rows: a decimal is an int of 1/10000, a timestamp an int of ms, null is None.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from omnistream.avro import parse_avro_schema
from omnistream.device import probe_cuda
from omnistream.kernels import clean
from omnistream.kernels.decode import Decoded, DeviceDecoder, unsupported
from omnistream.kernels.launch import CudaLauncher, HostLauncher, Launcher
from omnistream.kernels.rows import DeviceClean as RowsOnDevice
from omnistream.kernels.rows import DeviceRows, flags_of
from omnistream.time_zone import zone_offsets
from tests import reference

KERNELS = Path(__file__).parent.parent / "kernels"


@dataclass
class Result:
    """What a stage gave: its rows, its rejects, its counts, and the thing itself for the next stage."""

    rows: list[dict[str, Any]]
    native: Any
    rejects: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    watermarks_ms: list[int] = field(default_factory=list)


# ---- the reference ----


class ReferenceEngine:
    name = "reference"

    def decoder(self, schema: dict[str, Any]) -> ReferenceDecoder:
        return ReferenceDecoder(schema)

    def avro_decoder(self, schema: dict[str, Any], writers: dict[int | None, Any]) -> ReferenceAvroDecoder:
        return ReferenceAvroDecoder(schema, writers)

    def add_amounts(self, decoded: Result, types: dict[str, str]) -> tuple[Result, list[int]]:
        rows = [reference.Row(dict(row.values), row.message, row.line) for row in decoded.native]
        overflowed = reference.add_amounts(rows, types, "quantity", "unit_price", "discount")
        return Result([row.values for row in rows], rows), overflowed

    def watermark(self, max_disorder_ms: int) -> reference.Watermark:
        return reference.Watermark(max_disorder_ms)

    def cleaner(
        self, rules: list[dict[str, Any]], time_column: str, watermark: Any, duplicates: dict[str, Any] | None
    ) -> ReferenceCleaner:
        keys = None if duplicates is None else reference.Duplicates(**duplicates)
        return ReferenceCleaner(reference.Cleaner(rules, time_column, watermark, keys))

    def sales(self, options: dict[str, Any]) -> ReferenceSales:
        return ReferenceSales(reference.Sales(options))

    def window(self, spec: dict[str, Any]) -> ReferenceWindow:
        return ReferenceWindow(reference.window(spec))

    def demand(self, spec: dict[str, Any]) -> ReferenceDemand:
        return ReferenceDemand(reference.Demand(spec))


@dataclass
class ReferenceDecoder:
    schema: dict[str, Any]

    def lines(self, block: bytes, **origin: Any) -> Result:
        return self._result(reference.decode_lines(self.schema, block, **origin))

    def messages(self, messages: list[bytes], **origin: Any) -> Result:
        return self._result(reference.decode_messages(self.schema, messages, **origin))

    def _result(self, decoded: tuple[list[reference.Row], list[dict[str, Any]], dict[str, int]]) -> Result:
        rows, rejects, counts = decoded
        return Result([row.values for row in rows], rows, rejects, counts)


@dataclass
class ReferenceAvroDecoder:
    schema: dict[str, Any]
    writers: dict[int | None, Any]

    def messages(self, messages: list[bytes], **origin: Any) -> Result:
        rows, rejects, counts = reference.decode_avro(self.schema, messages, self.writers, **origin)
        return Result([row.values for row in rows], rows, rejects, counts)


@dataclass
class ReferenceCleaner:
    cleaner: reference.Cleaner

    def clean(self, decoded: Result, now_ms: int, overflowed: list[int] | None = None) -> Result:
        self.cleaner.counts.clear()
        survivors, rejects = self.cleaner.clean(decoded.native, now_ms, overflowed or [])
        counts = {name: self.cleaner.counts[name] for name in ("rows", "rejected", "duplicates")}
        rows = [row.values for row, _ in survivors]
        return Result(rows, survivors, rejects, counts, [watermark_ms for _, watermark_ms in survivors])


@dataclass
class ReferenceSales:
    sales: reference.Sales

    def look_up(self, cleaned: Result) -> Result:
        self.sales.look_up(cleaned.native)
        return cleaned


@dataclass
class ReferenceWindow:
    window: reference.Window | reference.SessionWindow

    def push(self, cleaned: Result) -> list[dict[str, Any]]:
        return [cleaned.rows[place] for place in self.window.push(cleaned.native)]

    def advance(self, watermark_ms: int) -> list[Result]:
        return [Result(rows, rows) for rows in self.window.advance(watermark_ms)]

    @property
    def counts(self) -> dict[str, int]:
        names = ("aggregated", "late", "open_windows", "groups")
        return {name: getattr(self.window, name) for name in names}


@dataclass
class ReferenceDemand:
    demand: reference.Demand

    def push(self, day: Result) -> Result:
        rows = self.demand.push(day.native)
        return Result(rows, rows)

    def current(self) -> Result:
        rows = self.demand.current()
        return Result(rows, rows)


# ---- cpu: the extension ----


class CpuEngine:
    """The C++ core, with the decoder of one instruction set, or of the best that the machine has."""

    def __init__(self, isa: str | None = None) -> None:
        from omnistream import _core

        self.core = _core
        self.isa = isa or _core.decode_isa()
        self.name = f"cpu {self.isa}"

    @contextmanager
    def forced_isa(self) -> Iterator[None]:
        before = self.core.decode_isa()
        self.core.force_decode_isa(self.isa)
        try:
            yield
        finally:
            self.core.force_decode_isa(before)

    def decoder(self, schema: dict[str, Any]) -> CpuDecoder:
        names = [each["name"] for each in schema["fields"] if each["type"] == "dictionary"]
        dictionaries = {name: self.core.Dictionary() for name in names}
        with self.forced_isa():
            return CpuDecoder(self.core.Decoder(schema, dictionaries), dictionaries)

    def avro_decoder(self, schema: dict[str, Any], writers: dict[int | None, Any]) -> CpuDecoder:
        """``writers`` by schema id, as JSON; of the only one without a frame the id is None."""
        types = {id_: parse_avro_schema(json.dumps(writer)) for id_, writer in writers.items() if writer}
        names = [each["name"] for each in schema["fields"] if each["type"] == "dictionary"]
        dictionaries = {name: self.core.Dictionary() for name in names}
        writer = types.get(None, types.get)
        return CpuDecoder(
            self.core.AvroDecoder(schema, dictionaries, writer, None not in types), dictionaries
        )

    def add_amounts(self, decoded: Result, types: dict[str, str]) -> tuple[Result, list[int]]:
        batch, overflowed = self.core.add_amounts(decoded.native, "quantity", "unit_price", "discount")
        return Result(plain_rows(batch), batch), overflowed

    def watermark(self, max_disorder_ms: int) -> Any:
        return self.core.Watermark(max_disorder_ms)

    def cleaner(
        self, rules: list[dict[str, Any]], time_column: str, watermark: Any, duplicates: dict[str, Any] | None
    ) -> CpuCleaner:
        return CpuCleaner(self.core.Cleaner(rules, time_column, watermark, duplicates))

    def sales(self, options: dict[str, Any]) -> CpuSales:
        return CpuSales(self.core.Sales(options))

    def window(self, spec: dict[str, Any]) -> CpuWindow:
        zone = zone_offsets(spec["time_zone"]) if "time_zone" in spec else ()
        return CpuWindow(self.core.Window({**spec, "zone": zone}))

    def demand(self, spec: dict[str, Any]) -> CpuDemand:
        return CpuDemand(self.core.Demand(spec))


@dataclass
class CpuDecoder:
    decoder: Any
    dictionaries: dict[str, Any]

    def lines(self, block: bytes, **origin: Any) -> Result:
        return self._result(self.decoder.decode_lines(block, **origin))

    def messages(self, messages: list[bytes], **origin: Any) -> Result:
        return self._result(self.decoder.decode_messages(messages, **origin))

    def _result(self, decoded: tuple[Any, Any, dict[str, int]]) -> Result:
        batch, rejects, counts = decoded
        counts.pop("speculated")  # says how it was done, not what
        return Result(plain_rows(batch), batch, plain_rows(rejects), counts)


@dataclass
class CpuCleaner:
    cleaner: Any

    def clean(self, decoded: Result, now_ms: int, overflowed: list[int] | None = None) -> Result:
        cleaned, rejects, counts = self.cleaner.clean(decoded.native, now_ms, overflowed or [])
        return Result(
            plain_rows(cleaned.to_batch()), cleaned, plain_rows(rejects), counts, cleaned.watermarks_ms()
        )


@dataclass
class CpuSales:
    sales: Any

    def look_up(self, cleaned: Result) -> Result:
        found = cleaned.native.with_batch(self.sales.look_up(cleaned.native))
        return Result(plain_rows(found.to_batch()), found)


@dataclass
class CpuWindow:
    window: Any

    def push(self, cleaned: Result) -> list[dict[str, Any]]:
        late = self.window.push(cleaned.native)
        all_rows = plain_rows(cleaned.native.batch)
        return [all_rows[row] for row in late]

    def advance(self, watermark_ms: int) -> list[Result]:
        return [Result(plain_rows(batch), batch) for batch in self.window.advance(watermark_ms)]

    @property
    def counts(self) -> dict[str, int]:
        names = ("aggregated", "late", "open_windows", "groups")
        return {name: getattr(self.window, name) for name in names}


@dataclass
class CpuDemand:
    demand: Any

    def push(self, day: Result) -> Result:
        batch = self.demand.push(day.native)
        return Result(plain_rows(batch), batch)

    def current(self) -> Result:
        batch = self.demand.current()
        return Result(plain_rows(batch), batch)


def plain_rows(batch: Any) -> list[dict[str, Any]]:
    """Return an Arrow batch as the reference's rows."""
    table = pa.record_batch(batch)
    table.validate(full=True)
    columns = {name: lanes(table.column(name)) for name in table.schema.names}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def lanes(column: pa.Array) -> list[Any]:
    if pa.types.is_decimal(column.type):
        return [None if value is None else int(value.scaleb(4)) for value in column.to_pylist()]
    if pa.types.is_timestamp(column.type):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode().to_pylist()
    return column.to_pylist()


# ---- cuda, and its sources on the host ----


class DeviceEngine(CpuEngine):
    """Stages that have kernels run on a launcher's device, the others on the CPU, as in a pipeline."""

    def __init__(self, launcher: Launcher, name: str) -> None:
        super().__init__()
        self.launcher = launcher
        self.name = name

    def decoder(self, schema: dict[str, Any]) -> Any:
        if unsupported(schema):
            return super().decoder(schema)
        names = [each["name"] for each in schema["fields"] if each["type"] == "dictionary"]
        dictionaries = {name: self.core.Dictionary() for name in names}
        return DeviceDecode(DeviceDecoder(self.launcher, schema, dictionaries))

    def add_amounts(self, decoded: Result, types: dict[str, str]) -> tuple[Result, list[int]]:
        if not isinstance(decoded.native, DeviceRows):
            return super().add_amounts(decoded, types)
        cleaner = clean.DeviceCleaner(self.launcher, [], "", self.core.Watermark(0), 0)
        flags = cleaner.add_amounts(decoded.native, "quantity", "unit_price", "discount")
        overflowed = self.launcher.to_host(flags).nonzero()[0].tolist()
        return Result(plain_rows(decoded.native.to_host()), decoded.native), overflowed

    def watermark(self, max_disorder_ms: int) -> Any:
        self.max_disorder_ms = max_disorder_ms  # of the one stream that a test has
        return super().watermark(max_disorder_ms)

    def cleaner(
        self, rules: list[dict[str, Any]], time_column: str, watermark: Any, duplicates: dict[str, Any] | None
    ) -> Any:
        host = self.core.Cleaner(rules, time_column, watermark, duplicates)
        given: tuple[Any, ...] = (rules, time_column, watermark, self.max_disorder_ms)
        if duplicates is not None:
            given += (duplicates["key"], host)
        return DeviceClean(
            clean.DeviceCleaner(self.launcher, *given), HostClean(host), duplicates is not None
        )

    def window(self, spec: dict[str, Any]) -> CpuWindow:
        from omnistream.kernels.window import DeviceWindow, refusal

        if refusal(spec):
            zone = zone_offsets(spec["time_zone"]) if "time_zone" in spec else ()
            return HostWindow(self.core.Window({**spec, "zone": zone}))
        return DeviceWindowed(DeviceWindow(self.launcher, spec))


@dataclass
class DeviceDecode:
    decoder: DeviceDecoder

    def lines(self, block: bytes, **origin: Any) -> Result:
        return self._result(self.decoder.decode_lines(block, **origin))

    def messages(self, messages: list[bytes], **origin: Any) -> Result:
        return self._result(self.decoder.decode_messages(messages, **origin))

    def _result(self, decoded: Decoded) -> Result:
        decoded.counts.pop("left")  # says how it was done, not what
        rows = self.decoder.rows(decoded)
        return Result(plain_rows(rows.to_host()), rows, plain_rows(decoded.rejects), decoded.counts)


@dataclass
class HostClean(CpuCleaner):
    """The CPU's, for rows of either side."""

    def clean(self, decoded: Result, now_ms: int, overflowed: list[int] | None = None) -> Result:
        native = decoded.native
        batch = native.to_host() if isinstance(native, DeviceRows) else native
        return super().clean(Result(decoded.rows, batch), now_ms, overflowed)


@dataclass
class DeviceClean:
    cleaner: clean.DeviceCleaner
    host: HostClean
    has_duplicates: bool

    def clean(self, decoded: Result, now_ms: int, overflowed: list[int] | None = None) -> Result:
        batch, launcher = decoded.native, self.cleaner.launcher
        if not isinstance(batch, DeviceRows):
            if self.has_duplicates:
                return self.host.clean(decoded, now_ms, overflowed)
            table = pa.record_batch(batch)
            types = {name: column_type(table.schema.field(name).type) for name in table.schema.names}
            batch = DeviceRows.upload(launcher, batch, types, {})
        flags = flags_of(launcher, overflowed or [], batch.rows)
        place = batch.origin.source, batch.origin.partition
        cleaned = self.cleaner.clean(batch.columns, batch.rows, *place, now_ms, flags, batch)
        rejects = plain_rows(self.cleaner.rejects(batch, cleaned))
        survivors = RowsOnDevice(batch, cleaned.rows, cleaned.watermarks_ms, cleaned.owner)
        repeated = self.cleaner.count_duplicates(cleaned)
        rejected = batch.rows - survivors.rows - repeated
        counts = {"rows": batch.rows, "rejected": rejected, "duplicates": repeated}
        watermarks_ms = launcher.to_host(cleaned.watermarks_ms).tolist()
        return Result(plain_rows(survivors.to_host().to_batch()), survivors, rejects, counts, watermarks_ms)


@dataclass
class HostWindow(CpuWindow):
    """The CPU's, for rows of either side."""

    def push(self, cleaned: Result) -> list[dict[str, Any]]:
        native = cleaned.native.to_host() if isinstance(cleaned.native, RowsOnDevice) else cleaned.native
        return super().push(Result(cleaned.rows, native))


@dataclass
class DeviceWindowed(CpuWindow):
    """A device's, for rows of either side."""

    def push(self, cleaned: Result) -> list[dict[str, Any]]:
        if not isinstance(cleaned.native, RowsOnDevice):
            return super().push(cleaned)
        late = self.window.push(cleaned.native.lanes())
        all_rows = plain_rows(cleaned.native.batch.to_host())
        return [all_rows[row] for row in late]


def column_type(kind: pa.DataType) -> str:
    """Return the schema's name of an Arrow type."""
    if pa.types.is_decimal(kind):
        return "decimal"
    if pa.types.is_dictionary(kind):
        return "dictionary"
    return {pa.int32(): "int32", pa.float64(): "float64", pa.bool_(): "bool", pa.utf8(): "string"}.get(
        kind, "int64"
    )


def device_engine(name: str) -> DeviceEngine:
    """Make the engine ``cuda`` or ``cuda-host``."""
    launcher = HostLauncher() if name == "cuda-host" else CudaLauncher(probe_cuda().gpus[0].arch)
    return DeviceEngine(launcher, name)


def driver_launchers() -> list[Launcher]:
    """Return where tests of a driver run: on the host, both ways round; on a GPU where gpu-check says so."""
    if os.environ.get("OMNISTREAM_TEST_LAUNCHER") == "cuda":
        return [CudaLauncher(probe_cuda().gpus[0].arch)] * 2
    return [HostLauncher(order=0), HostLauncher(order=1)]


def missing_for_cuda_host(stage: str) -> str | None:
    """Name what keeps the CUDA sources from running on the host, or return None."""
    return None if (KERNELS / f"{stage}.cu").exists() else f"kernels/{stage}.cu does not exist"


def missing_for_cuda(stage: str) -> str | None:
    """Name what keeps the cuda engine from running, or return None."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'omnistream[gpu]')"
    import cupy

    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"no usable GPU: {error}"
    return missing_for_cuda_host(stage)


def missing_for_numba_cuda() -> str | None:
    """Name what keeps Numba's kernels from running on a GPU, or return None."""
    if importlib.util.find_spec("cupy") is None:
        return "CuPy is not installed (pip install 'omnistream[gpu]')"
    from numba import cuda

    return None if cuda.is_available() else "Numba finds no usable GPU"
