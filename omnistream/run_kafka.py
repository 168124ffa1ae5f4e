"""Runs a job whose input is Kafka: the loop around the steps of `omnistream.delivery`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from omnistream.delivery import Delivery
from omnistream.errors import NotCommittedError, SourceError
from omnistream.idleness import Idleness
from omnistream.outputs import all_sinks, open_job_producer, open_sinks, paths_of, write_outputs
from omnistream.pipeline import Outputs
from omnistream.run_result import PROGRESS_INTERVAL_S, Progress, RunResult, partition_progress
from omnistream.sink import Mode
from omnistream.source.kafka import KafkaSource, Partition
from omnistream.spec import JobSpec
from omnistream.stop import Stop

log = logging.getLogger(__name__)

# A checkpoint that is refused again and again is no passing trouble of the group.
MOST_REFUSALS = 5


def run_kafka(
    job: JobSpec, on_progress: Callable[[Progress], None] | None = None, stop: Stop | None = None
) -> RunResult:
    """Run until ``source.until``, or until asked to stop; see `omnistream.run.run_job`.

    A job with a [checkpoint] shares the partitions with the members of its group, and commits. Without one it
    reads all partitions on its own and commits nothing.
    """
    return _Run(job, stop or Stop(), on_progress).run()


class _Run:
    """One run; the methods stand in the order in which they are called."""

    def __init__(self, job: JobSpec, stop: Stop, on_progress: Callable[[Progress], None] | None) -> None:
        if job.source is None:
            raise SourceError("the job has no source")
        self.job = job
        self.stop = stop
        self.on_progress = on_progress
        self.interval_s = job.checkpoint.interval_ms / 1_000 if job.checkpoint is not None else None
        self.idleness: Idleness[Partition] = Idleness(job.time.idle_timeout_ms / 1_000)
        self.source = KafkaSource(
            job.source, group=job.name, shared=job.checkpoint is not None, keys=job.dead_letter is not None
        )
        self.started = self.saved = self.reported = time.monotonic()
        self.finished = False
        self.refusals = 0
        self.refused_at: dict[Partition, int] = {}

    def run(self) -> RunResult:
        with ThreadPoolExecutor(1, "omnistream-checkpoint") as saver, ExitStack() as on_failure:
            # Whatever fails from here on, the group is left, so that others take over at once.
            on_failure.callback(self.source.close)
            # Transactions that an earlier process left open end here, before committed offsets are read.
            producer = open_job_producer(self.job)
            self.delivery = Delivery(self.job, self.source, producer, self, saver)
            schemas = self.delivery.pipeline.schemas()
            mode: Mode | None = "append" if self.delivery.resumed else None
            self.sinks = open_sinks(self.job, schemas, mode, on_failure, producer)
            if partitions := self.source.join():
                self.rebalanced("assigned", partitions)
            while not self.finished:
                try:
                    if self.stop.signal is None and not self.source.ended:
                        self.step()
                    else:
                        self.finish()
                except NotCommittedError as refused:
                    self.rewind(refused)
            for sink in all_sinks(self.sinks):
                sink.close()
            self.source.close()
            on_failure.pop_all()
        signal = self.stop.signal
        self.report(time.monotonic(), last=True)
        return RunResult(self.progress(), paths_of(self.sinks), signal.name if signal else "")

    def step(self) -> None:
        """Poll once, and do what is due."""
        blocks = self.source.poll()
        now = time.monotonic()
        for block in blocks:
            partition = Partition(block.topic, block.partition)
            self.delivery.dirty = True
            self.idleness.saw(partition, now)
            self.deliver(
                self.delivery.pipeline.push(
                    block,
                    source=block.topic,
                    partition=block.partition,
                    first_position=block.first_offset,
                )
            )
        while (change := self.source.rebalance()) is not None:
            self.rebalanced(*change)
        self.rest(now)
        self.save(now)
        self.report(now)

    def deliver(self, outputs: Outputs) -> None:
        """Pass on what a step gave, if it gave anything."""
        if outputs:
            self.delivery.write(outputs)

    def rest(self, now: float) -> None:
        """Let event time go on without the partitions that are silent."""
        for outputs in self.idleness.let_time_pass(self.delivery.pipeline, now, self.source.caught_up):
            self.deliver(outputs)

    def save(self, now: float) -> None:
        """Begin a checkpoint when one is due, and commit it when it is saved."""
        self.delivery.settle_saved()
        if self.beyond_refusal():
            self.refusals = 0
        if self.delivery.saving or self.interval_s is None or now - self.saved < self.interval_s:
            return
        self.delivery.begin()
        self.saved = now

    def rebalanced(self, kind: str, partitions: Sequence[Partition]) -> None:
        """Do what the group asks for."""
        if kind == "assigned":
            self.delivery.assigned(partitions)
            self.idleness.add(partitions, time.monotonic())
        else:
            (self.delivery.revoked if kind == "revoked" else self.delivery.lost)(partitions)
            self.idleness.remove(partitions)

    def rewind(self, refused: NotCommittedError) -> None:
        """Go back to the last checkpoint."""
        self.refusals += 1
        if self.refusals > MOST_REFUSALS:
            raise refused
        self.refused_at = dict(self.source.positions)
        self.delivery.rewind(refused)

    def beyond_refusal(self) -> bool:
        """Whether what was refused has been committed since; a part of it may be again and again."""
        committed, here = self.delivery.committed, self.source.positions
        return all(
            partition in committed and committed[partition] >= offset
            for partition, offset in self.refused_at.items()
            if partition in here
        )

    def finish(self) -> None:
        """End in good order: at the end of the input everything is closed, else the state is kept."""
        if self.stop.signal is None:
            self.deliver(self.delivery.pipeline.flush())
            self.delivery.finish()
        else:
            self.delivery.checkpoint()
        self.finished = True

    def write(self, outputs: Outputs) -> None:
        """Hand results to the sinks."""
        write_outputs(outputs, self.sinks)

    def flush(self) -> None:
        """Make durable what was written, but for what a transaction holds."""
        for sink in all_sinks(self.sinks):
            sink.flush()

    def report(self, now: float, last: bool = False) -> None:
        """Tell how far the run is, a few times a second."""
        if self.on_progress is not None and (last or now - self.reported >= PROGRESS_INTERVAL_S):
            self.reported = now
            self.on_progress(self.progress())

    def progress(self) -> Progress:
        pipeline = self.delivery.pipeline
        partitions = partition_progress(
            pipeline, {partition: self.source.place_of(partition) for partition in self.source.positions}
        )
        elapsed_s = time.monotonic() - self.started
        return Progress(pipeline.metrics(), elapsed_s, self.source.bytes_read, 0, partitions=partitions)
