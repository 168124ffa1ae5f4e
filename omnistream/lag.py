"""``omnistream lag``: how far a job's group is in each partition, and which snapshot it would go on from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from omnistream import _core
from omnistream.errors import JobError
from omnistream.source.kafka import REQUEST_MS, KafkaSource
from omnistream.spec import JobSpec


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition.

    Attributes
    ----------
    committed : int or None
        The offset where the group goes on; None: it has not committed any.
    end : int
        The next offset of the log.
    lag : int
        Messages between the two, or from the first that is kept: also counts the markers of transactions.
    snapshot : str
        What the offset's metadata names; "" where there is no state.
    """

    topic: str
    partition: int
    committed: int | None
    end: int
    lag: int
    snapshot: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def lag_of(job: JobSpec) -> list[PartitionLag]:
    """Ask the brokers; joins no group and commits nothing.

    Raises
    ------
    JobError
        When the source is not Kafka.
    SourceError
        When no broker answers, or a topic is missing.
    """
    if job.source is None or job.source.kafka is None:
        raise JobError([f"{job.file}: source.type: only Kafka has a lag; ask a job that reads from it"])
    source = KafkaSource(job.source, group=job.name, shared=False)
    try:
        found = []
        for each in source.committed(source.partitions()):
            low, high = source.consumer.range(each.topic, each.partition, REQUEST_MS)
            committed = None if each.offset == _core.KAFKA_NO_OFFSET else each.offset
            behind = high - max(low, committed or 0)
            found.append(
                PartitionLag(each.topic, each.partition, committed, high, max(0, behind), _snapshot(each))
            )
        return found
    finally:
        source.close()


def _snapshot(committed: _core.KafkaPartition) -> str:
    try:
        return str(json.loads(committed.metadata)["snapshot"])
    except (ValueError, KeyError, TypeError):
        return ""


def describe(lags: list[PartitionLag]) -> str:
    """Return a table."""
    rows = [("partition", "committed", "end", "lag", "snapshot")]
    for each in lags:
        committed = "-" if each.committed is None else f"{each.committed:,}"
        place = f"{each.topic}[{each.partition}]"
        rows.append((place, committed, f"{each.end:,}", f"{each.lag:,}", each.snapshot or "-"))
    rows.append(("all", "", "", f"{sum(each.lag for each in lags):,}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for row in rows:
        numbers = [f"{text:>{width}}" for text, width in zip(row[1:4], widths[1:4], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *numbers, row[4]]).rstrip())
    return "\n".join(lines)
