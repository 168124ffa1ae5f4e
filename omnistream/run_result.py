"""What a run tells while it goes on, and when it is over."""

from __future__ import annotations

import resource
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omnistream.pipeline import Metrics, Pipeline

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
