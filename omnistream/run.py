"""Runs a job: source to pipeline to sinks, and rejects to the dead letters."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

import pyarrow as pa

from omnistream.checkpoint import Snapshot, latest, remove
from omnistream.errors import JobError, MemoryLimitError
from omnistream.idleness import Idleness
from omnistream.pipeline import Metrics, Pipeline
from omnistream.saves import Saves
from omnistream.sink import Mode, Sink, open_dead_letter, open_sink
from omnistream.sink.staging import complete
from omnistream.sink.stdout import StdoutSink
from omnistream.source import Block, Position, open_source
from omnistream.spec import REJECTS, JobSpec, SourceSpec

if TYPE_CHECKING:
    from omnistream.sink.kafka import Producer

# Metrics walk the state: five times a second is enough for a reader and costs nothing.
PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class PartitionProgress:
    """How far one partition is; None for what nobody knows.

    Attributes
    ----------
    position : int or None
        The next line or offset.
    lag : int or None
        Messages that are still to be read, of a topic.
    watermark_ms : int
        How far the partition's own event time has come.
    """

    source: str
    partition: int
    position: int | None
    lag: int | None
    watermark_ms: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    metrics: Metrics
    elapsed_s: float
    bytes_read: int
    bytes_total: int  # 0 where nobody knows it
    messages_before: int = 0  # that the checkpoint had counted already
    partitions: tuple[PartitionProgress, ...] = ()

    @property
    def events_per_second(self) -> float:
        """Messages per second since the start of this run."""
        messages = self.metrics.messages - self.messages_before
        return messages / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did.

    Attributes
    ----------
    progress : Progress
        The last one: its metrics are the ledger of the run.
    outputs : dict of str to list of str
        The files written, by output; rejects under ``rejects``.
    stopped_by : str
        The signal that ended the run early, "" when the input ended.
    """

    progress: Progress
    outputs: dict[str, list[str]]
    stopped_by: str = ""

    @property
    def metrics(self) -> Metrics:
        """The ledger of the run."""
        return self.progress.metrics

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain values, for JSON."""
        progress = self.progress
        return {
            **progress.metrics.to_dict(),
            "elapsed_s": round(progress.elapsed_s, 3),
            "events_per_second": round(progress.events_per_second),
            "bytes_read": progress.bytes_read,
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "outputs": self.outputs,
            "stopped_by": self.stopped_by,
        }


class StopRequestedError(Exception):
    """Ends a wait for input; a batch that is being worked on is never interrupted."""


class Stop:
    """Asks a run to end after its current batch.

    As a context manager it takes SIGINT and SIGTERM: the first asks, a second one raises KeyboardInterrupt.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.waiting = False  # for input: then there is no batch to finish
        self._before: dict[signal.Signals, Any] = {}

    def request(self, number: int = signal.SIGTERM, frame: FrameType | None = None) -> None:
        """Ask; has the shape of a signal handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self.waiting:
            raise StopRequestedError

    def __enter__(self) -> Self:
        for each in (signal.SIGINT, signal.SIGTERM):
            self._before[each] = signal.signal(each, self.request)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for each, handler in self._before.items():
            signal.signal(each, handler)


def run_job(
    job: JobSpec, on_progress: Callable[[Progress], None] | None = None, stop: Stop | None = None
) -> RunResult:
    """Run a job to the end of its input, or until it is asked to stop.

    At the end of the input every open window is flushed. A run that is stopped writes only what is final by
    the watermark: a window that is still open would be written as if it were whole. With a [checkpoint] its
    state is kept, and the next run of the job goes on from there; a run that came to the end leaves none. One
    whose state reaches its limit ends likewise, and then raises.

    Parameters
    ----------
    job : JobSpec
        With a source.
    on_progress : callable, optional
        Called a few times a second with a `Progress`.
    stop : Stop, optional
        Where a request to stop comes in.

    Raises
    ------
    JobError
        When the job has no source.
    OmnistreamError
        When something breaks while it runs. Output that is not complete stays invisible.
    """
    if job.source is None:
        raise JobError([f'{job.file}: source: is missing; add [source] with path = "orders.ndjson"'])
    stop = stop or Stop()
    with ExitStack() as observers:
        if job.metrics is not None:
            from omnistream.monitoring import serving_metrics

            on_progress = _both(observers.enter_context(serving_metrics(job)), on_progress)
        if job.source.type == "kafka":
            from omnistream.run_kafka import run_kafka  # loads a Kafka client, which other jobs do without

            return run_kafka(job, on_progress, stop)
        return _run_job(job, job.source, on_progress, stop)


def _both(
    first: Callable[[Progress], None], second: Callable[[Progress], None] | None
) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        first(progress)
        if second is not None:
            second(progress)

    return observe


def partition_progress(
    pipeline: Pipeline, places: Mapping[tuple[str, int], tuple[int | None, int | None]]
) -> tuple[PartitionProgress, ...]:
    """Return how far each partition is; `places` has the next position and the lag of those known."""
    disorder_ms = pipeline.job.time.max_disorder_ms
    found = []
    for each in pipeline.clean.watermark.snapshot()["partitions"]:
        source, partition = each["source"], each["partition"]
        position, lag = places.get((source, partition), (None, None))
        watermark_ms = each["max_event_time_ms"] - disorder_ms
        found.append(PartitionProgress(source, partition, position, lag, watermark_ms))
    return tuple(found)


def _run_job(
    job: JobSpec, spec: SourceSpec, on_progress: Callable[[Progress], None] | None, stop: Stop
) -> RunResult:
    pipeline, positions, at, resumed = _start(job)
    source = open_source(spec, positions)
    # Standard input may pause: what is there is worked on before more is waited for.
    ahead = spec.type == "file"
    blocks = pipeline.decode_ahead(source) if ahead else ((block, block.data) for block in source)
    started = reported = time.monotonic()
    messages_before = pipeline.metrics().messages
    bytes_read = bytes_total = 0
    refused: MemoryLimitError | None = None
    idleness: Idleness[tuple[str, int]] = Idleness(job.time.idle_timeout_ms / 1_000)

    def progress() -> Progress:
        place = {} if at is None or at[0] not in positions else {at: (positions[at[0]].line, None)}
        return Progress(
            pipeline.metrics(),
            time.monotonic() - started,
            bytes_read,
            bytes_total,
            messages_before,
            partition_progress(pipeline, place) if on_progress is not None else (),
        )

    def report(now: float, reported: float) -> float:
        """Tell how far the run is, a few times a second; returns when it was told last."""
        if on_progress is None or now - reported < PROGRESS_INTERVAL_S:
            return reported
        on_progress(progress())
        return now

    with ExitStack() as on_failure:
        producer = open_job_producer(job)
        mode: Mode | None = "append" if resumed else None
        sinks = open_sinks(job, pipeline.schemas(), mode, on_failure, producer)
        saves = None if job.checkpoint is None else Saves(job.checkpoint, all_sinks(sinks))
        if saves is not None:
            on_failure.callback(saves.close)
        while stop.signal is None:
            following = _next(blocks, stop)
            if following is None:
                break
            block, data = following
            now = time.monotonic()
            if not len(block.data):  # a pipe is silent
                for outputs in idleness.let_time_pass(pipeline, now, lambda _: True):
                    write_outputs(outputs, sinks)
                if saves is not None:
                    saves.commit_written()
                reported = report(now, reported)
                continue
            idleness.saw((block.source, block.partition), now)
            if at is not None and at != (block.source, block.partition):
                # A file that was read to its end must not hold the watermark back.
                write_outputs(pipeline.mark_idle(*at), sinks)
            at = block.source, block.partition
            try:
                outputs = pipeline.push(
                    data,
                    source=block.source,
                    partition=block.partition,
                    first_position=block.first_position,
                )
            except MemoryLimitError as error:
                if job.checkpoint is None:
                    raise
                refused = error
                break
            write_outputs(outputs, sinks)
            positions[block.source] = block.next
            bytes_read, bytes_total = block.bytes_read, block.bytes_total
            if saves is not None:
                saves.step(pipeline, positions, at)
            reported = report(time.monotonic(), reported)

        ended = stop.signal is None and refused is None
        if ended:
            write_outputs(pipeline.flush(), sinks)
        if saves is not None:
            saves.take(pipeline, positions, at)
            saves.finish()
        if ended or job.checkpoint is None:  # else the next run goes on with the outputs
            for sink in all_sinks(sinks):
                sink.close()
        if saves is not None:
            saves.close()
        on_failure.pop_all()

    if refused is not None:
        raise refused
    if job.checkpoint is not None and stop.signal is None:
        remove(job.checkpoint.path)
    last = progress()
    if on_progress is not None:
        on_progress(last)
    return RunResult(last, paths_of(sinks), stop.signal.name if stop.signal else "")


Place = tuple[str, int]


def _start(job: JobSpec) -> tuple[Pipeline, dict[str, Position], Place | None, bool]:
    """Return the pipeline, where its sources go on, the partition in work, and whether it was resumed."""
    folder = None if job.checkpoint is None else latest(job.checkpoint.path)
    if folder is None:
        return Pipeline(job), {}, None, False
    snapshot = Snapshot.load(folder)
    complete(**snapshot.manifest.get("files", {}))
    positions = {source: Position(**each) for source, each in snapshot.manifest["positions"].items()}
    # One that was read to its end is marked as idle when the next begins, which may be only now.
    place = snapshot.manifest.get("reading")
    at = None if place is None else (place[0], place[1])
    return Pipeline.restore(snapshot, job), positions, at, True


def _next(blocks: Iterator[tuple[Block, Any]], stop: Stop) -> tuple[Block, Any] | None:
    """Wait for the next block; None at the end of the input, and when a request to stop ends the wait."""
    try:
        try:
            stop.waiting = True
            return None if stop.signal is not None else next(blocks, None)
        finally:
            stop.waiting = False
    except StopRequestedError:  # from the outer block: a signal may come inside `finally`, too
        return None


Sinks = dict[str, list[Sink]]


def open_job_producer(job: JobSpec) -> Producer | None:
    """Return the producer of a job that writes to Kafka."""
    if "kafka" not in {sink.type for sink in (*job.sinks, job.dead_letter) if sink is not None}:
        return None
    from omnistream.sink.kafka import open_producer  # loads a Kafka client, which other jobs do without

    return open_producer(job)


def open_sinks(
    job: JobSpec,
    schemas: Mapping[str, pa.Schema],
    mode: Mode | None,
    on_failure: ExitStack,
    producer: Producer | None,
) -> Sinks:
    """Open what the job writes to, by output; `on_failure` takes back what is not visible yet."""
    sinks: Sinks = {}
    for spec in job.sinks:
        schema = schemas[spec.output]
        sink: Sink
        if producer is not None and spec.type == "kafka":
            sink = producer.sink(spec, schema)
        else:
            sink = open_sink(spec, schema, job.name, mode or spec.mode)
        on_failure.callback(sink.abort)
        sinks.setdefault(spec.output, []).append(sink)
    if job.dead_letter is not None:
        letters: Sink
        if producer is not None and job.dead_letter.type == "kafka":
            letters = producer.dead_letter(job.dead_letter)
        else:
            letters = open_dead_letter(job.dead_letter, mode or job.dead_letter.mode)
        on_failure.callback(letters.abort)
        sinks.setdefault(REJECTS, []).append(letters)
    return sinks


def paths_of(sinks: Sinks) -> dict[str, list[str]]:
    """Return what each output was written to."""
    return {output: [path for sink in group for path in sink.paths] for output, group in sinks.items()}


def all_sinks(sinks: Sinks) -> Iterator[Sink]:
    """Yield every sink of every output."""
    for group in sinks.values():
        yield from group


def write_outputs(outputs: Mapping[str, Sequence[pa.RecordBatch]], sinks: Sinks) -> None:
    """Hand each batch to the sinks of its output."""
    for output, batches in outputs.items():
        for sink in sinks.get(output, ()):
            for batch in batches:
                sink.write(batch)
            if isinstance(sink, StdoutSink):
                sink.flush()  # whoever reads it waits for what is final now, not for a full buffer
