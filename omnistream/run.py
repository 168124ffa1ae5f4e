"""Runs a job: source to pipeline to sinks, and rejects to the dead letters."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from omnistream.errors import JobError
from omnistream.run_files import run_files
from omnistream.run_result import PartitionProgress, Progress, RunResult
from omnistream.spec import JobSpec
from omnistream.stop import Stop

__all__ = ["PartitionProgress", "Progress", "RunResult", "Stop", "run_job"]


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
        return run_files(job, job.source, on_progress, stop)


def _both(
    first: Callable[[Progress], None], second: Callable[[Progress], None] | None
) -> Callable[[Progress], None]:
    def observe(progress: Progress) -> None:
        first(progress)
        if second is not None:
            second(progress)

    return observe
