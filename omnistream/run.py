"""Runs a job: source to pipeline to sinks, and rejects to the dead letters."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa

from omnistream.errors import JobError
from omnistream.job import REJECTS, JobSpec
from omnistream.pipeline import Metrics, Pipeline
from omnistream.sink import open_dead_letter, open_sink
from omnistream.source import open_source

# Metrics walk the state: five times a second is enough for a reader and costs nothing.
PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    metrics: Metrics
    elapsed_s: float
    bytes_read: int
    bytes_total: int  # 0 where nobody knows it

    @property
    def events_per_second(self) -> float:
        """Messages per second since the start."""
        return self.metrics.messages / self.elapsed_s if self.elapsed_s > 0 else 0.0


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


class _Sink(Protocol):
    def write(self, batch: pa.RecordBatch) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    @property
    def paths(self) -> Sequence[Any]: ...


def run_job(
    job: JobSpec, on_progress: Callable[[Progress], None] | None = None, stop: Stop | None = None
) -> RunResult:
    """Run a job to the end of its input, or until it is asked to stop.

    At the end of the input every open window is flushed. A run that is stopped writes only what is final by
    the watermark: a window that is still open would be written as if it were whole.

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
        When something breaks while it runs. Files that are not complete are taken back.
    """
    if job.source is None:
        raise JobError([f'{job.file}: source: is missing; add [source] with path = "orders.ndjson"'])
    stop = stop or Stop()
    pipeline = Pipeline(job)
    blocks = open_source(job.source)
    started = reported = time.monotonic()
    bytes_read = bytes_total = 0

    def progress() -> Progress:
        return Progress(pipeline.metrics(), time.monotonic() - started, bytes_read, bytes_total)

    with ExitStack() as on_failure:
        sinks: dict[str, list[_Sink]] = {}
        schemas = pipeline.schemas()
        for spec in job.sinks:
            sink = open_sink(spec, schemas[spec.output], job.name)
            on_failure.callback(sink.abort)
            sinks.setdefault(spec.output, []).append(sink)
        if job.dead_letter is not None:
            letters = open_dead_letter(job.dead_letter)
            on_failure.callback(letters.abort)
            sinks.setdefault(REJECTS, []).append(letters)

        while stop.signal is None:
            try:
                stop.waiting = True
                block = next(blocks, None)
                stop.waiting = False
            except StopRequestedError:
                break
            finally:
                stop.waiting = False
            if block is None:
                _write(pipeline.flush(), sinks)
                break
            outputs = pipeline.push(
                block.data,
                source=block.source,
                partition=block.partition,
                first_position=block.first_position,
            )
            _write(outputs, sinks)
            bytes_read, bytes_total = block.bytes_read, block.bytes_total
            if on_progress is not None and time.monotonic() - reported >= PROGRESS_INTERVAL_S:
                reported = time.monotonic()
                on_progress(progress())

        for each in (sink for group in sinks.values() for sink in group):
            each.close()
        on_failure.pop_all()

    last = progress()
    if on_progress is not None:
        on_progress(last)
    paths = {output: [str(path) for sink in group for path in sink.paths] for output, group in sinks.items()}
    return RunResult(last, paths, stop.signal.name if stop.signal else "")


def _write(outputs: Mapping[str, Sequence[pa.RecordBatch]], sinks: Mapping[str, Sequence[_Sink]]) -> None:
    for output, batches in outputs.items():
        for sink in sinks.get(output, ()):
            for batch in batches:
                sink.write(batch)
