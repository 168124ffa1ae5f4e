"""Runs a job whose input is files or standard input."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from omnistream.checkpoint import Snapshot, latest, remove
from omnistream.errors import MemoryLimitError
from omnistream.idleness import Idleness
from omnistream.outputs import all_sinks, open_job_producer, open_sinks, paths_of, write_outputs
from omnistream.pipeline import Pipeline
from omnistream.run_result import PROGRESS_INTERVAL_S, Progress, RunResult, partition_progress
from omnistream.saves import Saves
from omnistream.sink import Mode
from omnistream.sink.staging import complete
from omnistream.source import Block, Position, open_source
from omnistream.spec import JobSpec, SourceSpec
from omnistream.stop import Stop, StopRequestedError

Place = tuple[str, int]


def run_files(
    job: JobSpec, spec: SourceSpec, on_progress: Callable[[Progress], None] | None, stop: Stop
) -> RunResult:
    """Run to the end of the files, or of standard input, or until asked to stop; see `run_job`."""
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
