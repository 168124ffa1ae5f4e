"""The path of the data: source -> decode -> clean -> encode -> window -> derive -> sink.

Sources and sinks stand outside (`omnistream.source`, `omnistream.sink`, joined by `omnistream.run`): a
`Pipeline` is what a job does between them, for anybody who has a loop of their own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from omnistream import _core
from omnistream.checkpoint import LateParts, Snapshot, latest
from omnistream.clean import Clean
from omnistream.decode import Decode
from omnistream.decode_ahead import AnyBlock
from omnistream.derive import Derive, Derived
from omnistream.device import Device
from omnistream.encode import Encode
from omnistream.errors import MemoryLimitError, StateError
from omnistream.memory import default_limit_bytes
from omnistream.migration import check_fits, spec_of
from omnistream.placement import Placement
from omnistream.remote import AnyPath, place_of
from omnistream.sales import Sales
from omnistream.schema import Schema
from omnistream.sink import REJECT_SCHEMA
from omnistream.spec import AMOUNTS, REJECTS, ROWS, JobSpec
from omnistream.window import Windows

if TYPE_CHECKING:
    from omnistream.kernels.launch import Launcher

Outputs = dict[str, list[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Metrics:
    """The ledger and the size of the state.

    ``messages = decoded + rejected messages`` and ``rows = aggregated + rejected rows + duplicates + late``;
    `balanced` says whether both hold.

    Attributes
    ----------
    left_to_cpu : int
        Messages that came to a device and were finished by the CPU's decoder.
    rejects : dict of str to int
        Messages and rows that are not used, by reason; duplicates and late rows are counted on their own.
    watermark_ms, max_event_time_ms : int or None
        None before the first row.
    windows : dict of str to dict
        By window: ``open`` intervals, ``groups`` in them, and their ``bytes``.
    """

    messages: int = 0
    decoded: int = 0
    empty_messages: int = 0
    speculated: int = 0
    left_to_cpu: int = 0
    unknown_fields: int = 0
    rows: int = 0
    rejected_messages: int = 0
    rejected_rows: int = 0
    duplicates: int = 0
    late: int = 0
    aggregated: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    emitted: dict[str, int] = field(default_factory=dict)
    watermark_ms: int | None = None
    max_event_time_ms: int | None = None
    windows_open: int = 0
    groups: int = 0
    state_bytes: int = 0
    windows: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether nothing was lost and nothing counted twice."""
        rows = self.aggregated + self.rejected_rows + self.duplicates + self.late
        return self.messages == self.decoded + self.rejected_messages and self.rows == rows

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


class Pipeline:
    """A job between its source and its sinks.

    Parameters
    ----------
    job : JobSpec
        From `omnistream.job.load_job` or `parse_job`.
    clock : callable, optional
        Returns the current time in ms since the epoch, for rules that compare event time with now.
    threads : int, optional
        The caller's and those of `decode_ahead`; by default what the job says.
    launcher : kernels.launch.Launcher, optional
        Stands for the GPU, unless the job asks for the CPU: for tests and rehearsals.

    Raises
    ------
    DeviceError
        When the job asks for a device that cannot be used.
    """

    def __init__(
        self,
        job: JobSpec,
        clock: Callable[[], int] | None = None,
        threads: int | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self.job = job
        self._placement = placement = Placement(job.device, launcher, job.device_memory_bytes)
        self._clock = clock or (lambda: time.time_ns() // 1_000_000)
        self._wants_rows = not job.windows or any(sink.output == ROWS for sink in job.sinks)
        used = _names_used(job)
        columns = [field.name for field in job.schema.fields if field.name in used]
        schema = job.schema if self._wants_rows else job.schema.select(columns)
        texts = [field.name for field in schema.fields if field.type in ("string", "dictionary")]
        # The stages, in the order of the data; decode writes the codes of encode's dictionaries.
        self.encode = Encode(schema)
        dictionaries = self.encode.dictionaries
        refusals = self._refusals(schema) if placement.usable else {}
        kafka = job.source.kafka if job.source else None
        self.decode = Decode(
            schema,
            dictionaries,
            kafka,
            threads or job.threads,
            job.messages,
            job.registry,
            placement.seat("decode", refusals.get("decode")),
            () if self._wants_rows else [name for name in texts if name not in used],
        )
        amounts = AMOUNTS if self._wants_rows else [each for each in AMOUNTS if each in used]
        self.clean = Clean(job, placement.seat("clean", refusals.get("clean")), dictionaries, amounts)
        self.sales = Sales(job)
        self.windows = Windows(
            job, placement.seat("window", refusals.get("window"), stays=True), dictionaries
        )
        features = placement.seat("derive", refusals.get("derive"))
        self.derive = Derive(job, "cuda" if features.fixed else "cpu")
        placement.check()
        self._limit_bytes = job.state.memory_limit_bytes or default_limit_bytes()
        self._rejects: Counter[str] = Counter()
        self._emitted: Counter[str] = Counter()

    @property
    def device(self) -> Device:
        """The device of the stages that have kernels, and why it was taken."""
        return self._placement.device

    def push(
        self, data: Any, *, source: str = "push", partition: int = 0, first_position: int | None = None
    ) -> Outputs:
        """Take in data and return what it made final.

        Parameters
        ----------
        data : bytes-like, list of bytes, or an Arrow object
            NDJSON (whole lines), or one message if ``job.messages`` says Avro or Arrow; messages; an Arrow
            array of messages; or Arrow rows of the schema. Buffers must not change while results of this push
            are in use.
        source, partition : str, int
            Where it comes from: rejects say so, and each pair has a watermark of its own.
        first_position : int, optional
            Line number or offset of the first message. By default counted on from the pushes before that
            left it out: lines from 1, messages from 0.

        Returns
        -------
        dict of str to list of pyarrow.RecordBatch
            By output: closed windows, derived results, ``rows`` if the job wants them, and ``rejects``.

        Raises
        ------
        SchemaError
            When the data is neither messages nor rows of the schema; nothing has changed then.
        StateError
            When a sum overflows. The pipeline is of no use any more: go on from a snapshot.
        MemoryLimitError
            When the state takes more than the job allows, or three quarters of the memory that there is.
            Nothing of this push was taken: `snapshot` is whole, and `advance` and `flush` go on to work.
        """
        self._check_memory()
        outputs: Outputs = {}
        now_ms = self._clock()
        for batch, undecoded in self.decode.run(data, source, partition, first_position):
            clean, unclean = self.clean.run(batch, now_ms)
            clean = self.encode.run(clean)
            late = self.windows.run(self.sales.run(clean))
            if self._wants_rows:
                rows = clean if isinstance(clean, _core.CleanBatch) else clean.to_host()
                self._emit(outputs, ROWS, [rows.to_batch()])
            self._emit(outputs, REJECTS, [undecoded, unclean, *late])
        self._close(outputs)
        return outputs

    def decode_ahead(self, blocks: Iterable[AnyBlock]) -> Iterator[tuple[AnyBlock, Any]]:
        """Decode blocks of NDJSON in other threads, while earlier ones are pushed.

        Parameters
        ----------
        blocks : iterable
            Of objects with ``data``, ``source``, ``partition`` and ``first_position``, such as a source's.
            With several threads a few are taken from it ahead of time: it should not be one that waits.

        Yields
        ------
        tuple
            The block, and the data to `push` for it: in this order, once, and to this pipeline. Results are
            the same for any number of threads; with one thread it is the block's own data.
        """
        return self.decode.ahead(blocks)

    def advance(self, watermark_ms: int) -> Outputs:
        """Assert that no row before `watermark_ms` will come any more, and return what that made final."""
        self.clean.watermark.advance(watermark_ms)
        outputs: Outputs = {}
        self._close(outputs)
        return outputs

    def mark_idle(self, source: str, partition: int = 0) -> Outputs:
        """Stop waiting for a partition until it sends again, and return what that made final."""
        self.clean.watermark.set_idle(source, partition)
        outputs: Outputs = {}
        self._close(outputs)
        return outputs

    def declare_partition(self, source: str, partition: int = 0) -> None:
        """Wait for the first row of a partition: until then it holds the watermark where it is."""
        self.clean.watermark.declare(source, partition)

    def flush(self) -> Outputs:
        """End the input: close every window and return all that is left. Rows pushed later are late."""
        if self.clean.watermark.value_ms == _core.Watermark.END:
            return {}
        outputs = self.advance(_core.Watermark.END)
        self._emit_all(outputs, self.derive.finish())
        return outputs

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the Arrow schema of every output."""
        amounts = [pa.field(name, pa.decimal128(19, 4)) for name in AMOUNTS if self.job.amount is not None]
        types = {"timestamp": pa.timestamp("ms", "UTC"), "int32": pa.int32(), "int64": pa.int64()}
        details = [
            pa.field(name, types.get(type_, pa.utf8())) for name, type_ in self.job.message_columns.items()
        ]
        rows = pa.schema([*self.decode.schema.arrow_schema(), *details, *amounts])
        return {
            ROWS: rows,
            REJECTS: REJECT_SCHEMA,
            **self.windows.schemas(),
            **self.derive.schemas(),
        }

    def metrics(self) -> Metrics:
        """Return the ledger and the size of the state."""
        decoded, cleaned = self.decode.counts, self.clean.counts
        watermark = self.clean.watermark
        return Metrics(
            messages=decoded["messages"],
            decoded=decoded["decoded"],
            empty_messages=decoded["empty"],
            speculated=decoded["speculated"],
            left_to_cpu=decoded["left"],
            unknown_fields=decoded["unknown_fields"],
            rows=decoded["rows"],
            rejected_messages=decoded["rejected"],
            rejected_rows=cleaned["rejected"],
            duplicates=cleaned["duplicates"],
            late=self.windows.late,
            aggregated=self.windows.aggregated,
            rejects={reason: count for reason, count in sorted(self._rejects.items()) if count},
            emitted=dict(self._emitted),
            watermark_ms=_known(watermark.value_ms),
            max_event_time_ms=_known(watermark.max_event_time_ms),
            windows_open=self.windows.open_windows,
            groups=self.windows.groups,
            state_bytes=sum(self._state_bytes().values()),
            windows=self.windows.sizes,
        )

    def explain(self) -> str:
        """Return the stages of this job, one a line, each with its device and what it does."""
        sinks = ", ".join(f"{sink.output} to {sink.type}" for sink in self.job.sinks) or "the caller"
        stages = {
            "source": self.job.source.type if self.job.source else "the caller",
            "decode": self.decode.explain(),
            "clean": self.clean.explain(),
            "encode": self.encode.explain(),
            "window": "; ".join(filter(None, (self.sales.explain(), self.windows.explain()))),
            "derive": self.derive.explain(),
            "sink": sinks,
        }
        lines = [f"job {self.job.name}, device {self.device.name} ({self.device.reason})"]
        for name, text in stages.items():
            seat = self._placement.seats.get("decode" if name == "encode" else name)
            device = seat.device if seat else ""
            why = f" [{seat.why}]" if seat and seat.why and name != "encode" else ""
            lines.append(f"  {name:<7} {device:<4} {text}{why}")
        return "\n".join(lines)

    def _refusals(self, schema: Schema) -> dict[str, str | None]:
        """Return by stage what of the job has no kernel."""
        from omnistream import clean, decode, derive, window

        windows = window.refusals(self.job)
        none_left = len(windows) == len(self.job.windows)
        why = "; ".join(f"{name}: {reason}" for name, reason in windows.items()) or "there is no window"
        decoded = decode.refusal(self.job, schema)
        return {
            "decode": decoded,
            "clean": clean.refusal(self.job, decoded),
            "window": why if none_left else None,
            "derive": derive.refusal(self.job, self.device.name),
        }

    def snapshot(self, positions: Mapping[str, Any] | None = None) -> Snapshot:
        """Return all state as one thing: dictionaries, event ids, watermark, windows, demand and the ledger.

        Windows and dictionaries are not copied here: their parts are written, as they are now, when somebody
        asks for them. `Snapshot.save` does, and may be called in another thread while the pipeline goes on.

        Parameters
        ----------
        positions : mapping, optional
            How far the caller's sources are, in JSON types; `Snapshot.manifest["positions"]` gives it back.
        """
        frozen = {
            "encode": self.encode.freeze(),
            "clean": _given(self.clean.snapshot()),
            "sales": _given(self.sales.snapshot()),
            "window": self.windows.freeze(),
            "derive": _given(self.derive.snapshot()),
        }
        manifest = {
            "job": self.job.name,
            "spec": spec_of(self.job),
            "next_positions": self.decode.snapshot(),
            "watermark": self.clean.watermark.snapshot(),
            "ledger": {
                "decode": dict(self.decode.counts),
                "clean": dict(self.clean.counts),
                "aggregated": self.windows.aggregated,
                "late": self.windows.late,
                "rejects": dict(self._rejects),
                "emitted": dict(self._emitted),
            },
            "positions": dict(positions or {}),
        }

        def write() -> dict[str, pa.RecordBatch]:
            return {
                name: batch
                for stage, parts in frozen.items()
                for name, batch in _named(stage, parts()).items()
            }

        return Snapshot(LateParts(write), manifest)

    @classmethod
    def restore(
        cls,
        snapshot: Snapshot | str | AnyPath,
        job: JobSpec,
        clock: Callable[[], int] | None = None,
        launcher: Launcher | None = None,
    ) -> Self:
        """Build a pipeline that goes on where a snapshot was taken.

        Parameters
        ----------
        snapshot : Snapshot or path
            A snapshot in memory, or the folder that its ``save`` wrote to: the newest complete one is taken.
        job : JobSpec
            The job that took it, on whatever device.
        launcher : kernels.launch.Launcher, optional
            As for a new pipeline.

        Raises
        ------
        StateError
            When there is none, it is damaged, or it is of another job: the message says what differs.
        """
        if not isinstance(snapshot, Snapshot):
            place = place_of(snapshot)
            folder = latest(place)
            if folder is None:
                raise StateError(f"{place}: there is no checkpoint here")
            snapshot = Snapshot.load(folder)
        check_fits(snapshot.manifest, job)
        pipeline = cls(job, clock, launcher=launcher)
        for name, stage in (
            ("encode", pipeline.encode),
            ("clean", pipeline.clean),
            ("sales", pipeline.sales),
            ("window", pipeline.windows),
            ("derive", pipeline.derive),
        ):
            stage.restore(_parts_of(name, snapshot))
        pipeline.decode.restore(snapshot.manifest["next_positions"])
        pipeline.clean.watermark.restore(snapshot.manifest["watermark"])
        ledger = snapshot.manifest["ledger"]
        pipeline.decode.counts.update(ledger["decode"])
        pipeline.clean.counts.update(ledger["clean"])
        pipeline.windows.aggregated = ledger["aggregated"]
        pipeline.windows.late = ledger["late"]
        pipeline._rejects.update(ledger["rejects"])
        pipeline._emitted.update(ledger["emitted"])
        return pipeline

    def drop_partition(self, source: str, partition: int = 0) -> Snapshot:
        """Part with the state of one partition, for `take_partition` of another pipeline of the job.

        A partition owns what its rows were the first to bring: keys of open windows, remembered event ids,
        keys of demand. What other partitions have added to these goes along; what it has added to theirs
        stays. So rows that are to meet in one result must be in one partition once partitions are shared out.

        Returns
        -------
        Snapshot
            Of this partition alone. It can be saved, restored as a pipeline, or taken. The counts of the
            ledger stay here.
        """
        owner = self.clean.watermark.slot(source, partition)
        watermark = self.clean.watermark.snapshot()
        parts = {
            **_named("clean", self.clean.snapshot(owner)),
            **_named("sales", self.sales.snapshot(owner)),
            **_named("window", self.windows.snapshot(owner)),
            **_named("derive", self.derive.snapshot(owner)),
        }
        place = (source, partition)
        manifest = {
            "job": self.job.name,
            "spec": spec_of(self.job),
            "next_positions": [each for each in self.decode.snapshot() if _place(each) == place],
            "watermark": watermark
            | {"partitions": [each for each in watermark["partitions"] if _place(each) == place]},
            "ledger": _NO_LEDGER,
            "positions": {},
        }
        for stage in (self.clean, self.sales, self.windows, self.derive):
            stage.drop(owner)
        self.clean.watermark.drop(owner)
        self.decode.next_position.pop(place, None)
        return Snapshot(parts, manifest)

    def take_partition(self, snapshot: Snapshot, source: str, partition: int = 0) -> None:
        """Add the state of one partition from a snapshot of another pipeline of the job.

        Where that pipeline was behind, the watermark moves back, so that no row is late for having moved;
        windows that were closed here meanwhile stay closed for the partitions that were here.

        Parameters
        ----------
        snapshot : Snapshot
            From `drop_partition`, or of a whole pipeline: what other partitions own in it is left out.
        source, partition : str, int
            The partition to take. There must be no state of it here.

        Raises
        ------
        StateError
            When the snapshot is of another job or knows no such partition; nothing has changed then. When it
            lacks a measure that cannot begin in the middle of a window: this pipeline is of no use any more.
        """
        check_fits(snapshot.manifest, self.job)
        watermark = snapshot.manifest["watermark"]
        place = (source, partition)
        owners = [number for number, each in enumerate(watermark["partitions"]) if _place(each) == place]
        if not owners:
            raise StateError(f"the snapshot knows no partition {partition} of {source}")
        owner = owners[0]
        slot = self.clean.watermark.take(watermark["partitions"][owner], watermark["value_ms"])
        for name, stage in (("clean", self.clean), ("window", self.windows), ("derive", self.derive)):
            stage.take(_parts_of(name, snapshot), owner, slot)
        self.sales.take(_parts_of("sales", snapshot), owner, slot, self.clean.watermark.value_ms)
        for each in snapshot.manifest["next_positions"]:
            if _place(each) == place:
                self.decode.next_position[place] = each["position"]

    def _state_bytes(self) -> dict[str, int]:
        return {
            "windows": self.windows.state_bytes,
            "duplicates": self.clean.state_bytes,
            "sales": self.sales.state_bytes,
            "dictionaries": self.encode.state_bytes,
            "derived": self.derive.state_bytes,
        }

    def _check_memory(self) -> None:
        """Refuse to take more in when the state is beyond its limit: better now than when memory is gone."""
        sizes = self._state_bytes()
        if sum(sizes.values()) <= self._limit_bytes:
            return
        limit = "state.memory_limit"
        if not self.job.state.memory_limit_bytes:
            limit = "three quarters of the memory that there is"
        shares = ", ".join(f"{name} {size / 2**20:.1f} MiB" for name, size in sizes.items() if size)
        raise MemoryLimitError(
            f"the state takes {sum(sizes.values()) / 2**20:.1f} MiB, more than {limit} "
            f"({self._limit_bytes / 2**20:.1f} MiB): {shares}; {self.windows.groups} groups in "
            f"{self.windows.open_windows} open windows. Raise the limit and go on from the last checkpoint, "
            "or keep less: a shorter window, allowed_lateness or within, fewer keys, approx_distinct for "
            "distinct, or more members that share the partitions"
        )

    def _close(self, outputs: Outputs) -> None:
        """Emit what the watermark has made final."""
        closed = self.windows.close(self.clean.watermark.value_ms)
        self._emit_all(outputs, closed)
        self._emit_all(outputs, self.derive.run(closed))

    def _emit_all(self, outputs: Outputs, batches: Mapping[str, Iterable[Derived]]) -> None:
        for output, each in batches.items():
            self._emit(outputs, output, each)

    def _emit(self, outputs: Outputs, output: str, batches: Iterable[Derived]) -> None:
        for batch in batches:
            if isinstance(batch, _core.Batch) and batch.rows == 0:
                continue  # before it costs a round trip to Arrow
            record_batch = pa.record_batch(batch)
            if record_batch.num_rows == 0:
                continue
            outputs.setdefault(output, []).append(record_batch)
            self._emitted[output] += record_batch.num_rows
            if output == REJECTS:
                self._count_rejects(batch)

    def _count_rejects(self, rejects: Derived) -> None:
        assert isinstance(rejects, _core.Batch)
        for reason, count in rejects.count_texts("reason"):
            if reason not in ("duplicate", "late"):
                self._rejects[reason] += count


_NO_LEDGER: dict[str, Any] = {
    "decode": {},
    "clean": {},
    "aggregated": 0,
    "late": 0,
    "rejects": {},
    "emitted": {},
}


def _given(parts: Mapping[str, Derived]) -> Callable[[], Mapping[str, Derived]]:
    return lambda: parts


def _named(stage: str, parts: Mapping[str, _core.Batch]) -> dict[str, pa.RecordBatch]:
    return {f"{stage}.{name}": pa.record_batch(batch) for name, batch in parts.items()}


def _parts_of(stage: str, snapshot: Snapshot) -> dict[str, object]:
    prefix = f"{stage}."
    return {
        part.removeprefix(prefix): batch for part, batch in snapshot.parts.items() if part.startswith(prefix)
    }


def _place(of: Mapping[str, Any]) -> tuple[str, int]:
    return of["source"], of["partition"]


def _known(time_ms: int) -> int | None:
    return None if time_ms == _core.Watermark.NONE else time_ms


def _names_used(job: JobSpec) -> set[str]:
    """Return the names of the columns that some stage reads."""
    used = {job.time.column}
    for rule in job.rules:
        core = rule.to_core()
        used.update((core["column"], core.get("other") or core["column"]))
    if job.duplicates is not None:
        used.update(job.duplicates.key)
    if job.amount is not None:
        used.update((job.amount.quantity, job.amount.unit_price, job.amount.discount))
    if job.sales is not None:
        used.update((*job.sales.key, job.sales.condition.column))
    for window in job.windows:
        used.update((*window.keys, window.original_time))
        if window.corrections is not None:
            used.add(window.corrections.column)
        for measure in window.measures:
            used.update((measure.column, measure.by))
            if measure.condition is not None:
                used.add(measure.condition.column)
    return used
