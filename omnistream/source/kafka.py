"""Kafka in: blocks of the messages of each partition, as the group hands partitions over and takes them back.

librdkafka fetches ahead in threads of its own, up to ``queued.max.messages.kbytes``, and stops there until
the job has caught up. `KafkaSource.poll` takes what has come; no Python object is made for a message.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from omnistream import _core
from omnistream.errors import SourceError
from omnistream.librdkafka import librdkafka_path
from omnistream.spec import KafkaSpec, SourceSpec

log = logging.getLogger(__name__)

# How long one poll waits for a message: a request to stop and the clocks of idleness are looked at so often.
POLL_MS = 200
# Of a poll; with messages of 300 bytes the 4 MiB of batch_bytes come first.
MESSAGES_PER_POLL = 1 << 16
REQUEST_MS = 30_000
# Committed offsets are to be had only when the transaction of a member that died has been ended by the
# broker: after checkpoint.interval and 20 seconds.
COMMITTED_MS = 150_000

# What users may set otherwise. A thread of librdkafka's sends the heartbeats, so a member that is silent for
# ten seconds is gone, and others should take over.
DEFAULTS = {
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": "10000",
    "isolation.level": "read_committed",
    # Prefetched: of one consumer, not of each partition.
    "queued.min.messages": "100000",
    "queued.max.messages.kbytes": "65536",
    # By default a partition whose queue was full rests for a second.
    "fetch.queue.backoff.ms": "20",
}
# What a run depends on: offsets are committed with the state and nowhere else, a log that was cut off under
# the reader is an error, and the end of a partition is reported.
FIXED = {
    "enable.auto.commit": "false",
    "enable.auto.offset.store": "false",
    "auto.offset.reset": "error",
    "enable.partition.eof": "true",
}
SYSLOG_LEVELS = dict.fromkeys(range(4), logging.ERROR) | {4: logging.WARNING}


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"

    @classmethod
    def parse(cls, text: str) -> Partition:
        """Return the partition whose text this is."""
        topic, _, number = text[:-1].rpartition("[")
        return cls(topic, int(number))


class KafkaSource:
    """One consumer.

    Parameters
    ----------
    spec : SourceSpec
        With ``kafka``.
    group : str
        The consumer group, unless ``group.id`` is among the settings.
    shared : bool
        Whether partitions are shared with the other members of the group. Otherwise all are read here, and
        nothing is committed.
    keys : bool
        Whether rejects have the keys of their messages; a column of keys needs them anyway.

    Attributes
    ----------
    positions : dict of Partition to int
        Of the partitions that are read here: the next offset.
    known : set of Partition
        All that the topics had at the start, and all that were read here since.
    tombstones, bytes_read : int
        Messages without a value, which are skipped; bytes of the values of the others.

    Raises
    ------
    SourceError
        For a setting that librdkafka does not take, or when it is not installed.
    """

    def __init__(self, spec: SourceSpec, group: str, *, shared: bool, keys: bool = False) -> None:
        if spec.kafka is None:
            raise SourceError("the source is not Kafka")
        self.spec: KafkaSpec = spec.kafka
        self.shared = shared
        self.positions: dict[Partition, int] = {}
        self.known: set[Partition] = set()
        self.tombstones = self.bytes_read = 0
        self._ends: dict[Partition, int] = {}  # of partitions that are read up to there
        self._ended: set[Partition] = set()
        self._caught_up: set[Partition] = set()
        self._batch_bytes = spec.batch_bytes
        details = [detail for _, detail in self.spec.columns]
        self.consumer = _core.KafkaConsumer(
            librdkafka_path(),
            list(self.spec.config),
            list({"group.id": group, **DEFAULTS, **FIXED}.items()),
            timestamps="timestamp" in details,
            keys=keys or "key" in details,
            headers=[detail.removeprefix("header:") for detail in details if detail.startswith("header:")],
        )

    # --- what is there ---

    def partitions(self) -> list[Partition]:
        """Return all partitions of the job's topics.

        Raises
        ------
        SourceError
            When no broker answers, or a topic is missing.
        """
        known = self.consumer.topics(REQUEST_MS)
        names: dict[str, None] = {}
        for topic in self.spec.topics:
            if topic.startswith("^"):
                found = sorted(name for name in known if re.search(topic, name))
            else:
                found = [topic] if known.get(topic) else []
            if not found:
                raise SourceError(f"kafka topic {topic}: there is none; create it, or mend source.topics")
            names.update(dict.fromkeys(found))
        return [Partition(name, number) for name in names for number in range(known[name])]

    def committed(
        self, partitions: Iterable[Partition], timeout_ms: int = COMMITTED_MS
    ) -> list[_core.KafkaPartition]:
        """Return the group's committed offsets, with their metadata."""
        asked = [_core.KafkaPartition(*each) for each in partitions]
        return self.consumer.committed(asked, timeout_ms) if asked else []

    def first_offset(self, partition: Partition) -> int:
        """Return where to start in a partition that has no stored offset; it may be a logical one."""
        start = self.spec.start
        if start == "stored":
            raise SourceError(
                f"{partition}: the group has no stored offset; "
                'write source.start = "earliest", "latest" or a time'
            )
        if isinstance(start, int):
            (found,) = self.consumer.offsets_at([_core.KafkaPartition(*partition, start)], REQUEST_MS)
            return found.offset
        return _core.KAFKA_END if start == "latest" else _core.KAFKA_BEGINNING

    # --- which partitions are read ---

    def join(self) -> list[Partition]:
        """Begin; returns the partitions to read at once. Those of a group come with `rebalance`."""
        partitions = self.partitions()  # also says, now and not in the middle, when something is missing
        self.known.update(partitions)
        if not self.shared:
            return partitions
        self.consumer.subscribe(list(self.spec.topics))
        return []

    def rebalance(self) -> tuple[str, list[Partition]] | None:
        """Return what the group asks for: partitions ``assigned``, ``revoked`` or ``lost``."""
        change = self.consumer.take_rebalance()
        if change is None:
            return None
        kind, partitions = change
        return kind, [Partition(each.topic, each.partition) for each in partitions]

    def assign(self, offsets: dict[Partition, int]) -> None:
        """Read these partitions, too, from their offsets on."""
        assigned = []
        for partition, offset in offsets.items():
            end = self._end_of(partition)
            if end >= 0:
                self._ends[partition] = end
                if end <= max(offset, self.consumer.range(*partition, REQUEST_MS)[0]):
                    self._ended.add(partition)
            self.positions[partition] = offset
            self.known.add(partition)
            assigned.append(_core.KafkaPartition(*partition, offset, "", end))
        self.consumer.assign(assigned)

    def unassign(self, partitions: Sequence[Partition]) -> None:
        """Stop reading these partitions."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self._ends.pop(partition, None)
            self._ended.discard(partition)
            self._caught_up.discard(partition)
        self.consumer.unassign([_core.KafkaPartition(*each) for each in partitions])

    def seek(self, offsets: dict[Partition, int]) -> None:
        """Go on elsewhere in partitions that are read already."""
        self.consumer.seek(
            [_core.KafkaPartition(*each, offset) for each, offset in offsets.items()], REQUEST_MS
        )
        self.positions.update(offsets)
        self._caught_up.difference_update(offsets)
        self._ended.difference_update(offsets)

    def _end_of(self, partition: Partition) -> int:
        if not self.spec.until:
            return -1
        for topic, number, end in self.spec.until if self.spec.until != "latest" else ():
            if (topic, number) == partition:
                return end
        return self.consumer.range(*partition, REQUEST_MS)[1]

    # --- messages ---

    def poll(self, timeout_ms: int = POLL_MS) -> list[_core.MessageBlock]:
        """Take what has come, at most ``source.batch_bytes`` and a little; waits for the first message.

        Raises
        ------
        SourceError
            For what does not heal by itself, such as a topic that is gone or may not be read.
        """
        blocks, ends = self.consumer.poll(timeout_ms, self._batch_bytes, MESSAGES_PER_POLL)
        for block in blocks:
            partition = Partition(block.topic, block.partition)
            self.positions[partition] = block.next_offset
            self.bytes_read += block.value_bytes
            self.tombstones += block.tombstones
            self._caught_up.discard(partition)
        for end in ends:
            partition = Partition(end.topic, end.partition)
            if partition in self.positions:
                # Behind the last message there may be the markers of transactions.
                self.positions[partition] = max(self.positions[partition], end.offset)
                self._caught_up.add(partition)
        for partition, end_offset in self._ends.items():
            if self.positions[partition] >= end_offset and partition not in self._ended:
                self._ended.add(partition)
                self.consumer.pause([_core.KafkaPartition(*partition)])
        self._tell_log()
        return blocks

    def caught_up(self, partition: Partition) -> bool:
        """Whether all messages that the partition had when it was last asked for more have been taken."""
        return partition in self._caught_up

    def place_of(self, partition: Partition) -> tuple[int | None, int | None]:
        """Return the next offset of a partition that is read, and how many are behind it; None: not known."""
        offset = self.positions[partition]
        end = self.consumer.high_watermark(*partition)
        return (None, None) if offset < 0 else (offset, None if end < 0 else max(0, end - offset))

    @property
    def ended(self) -> bool:
        """Whether a run with an end has come to it in every partition."""
        return bool(self.spec.until) and bool(self.positions) and self.positions.keys() <= self._ended

    def resolve_positions(self) -> None:
        """Give partitions that were started at a logical offset, and have shown no message, a real one."""
        for partition, offset in self.positions.items():
            if offset < 0:
                low, high = self.consumer.range(*partition, REQUEST_MS)
                self.positions[partition] = low if offset == _core.KAFKA_BEGINNING else high

    def commit(self, offsets: list[_core.KafkaPartition]) -> None:
        """Commit offsets and wait for it."""
        self.consumer.commit(offsets)

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()
        self._tell_log()

    def _tell_log(self) -> None:
        for level, line in self.consumer.take_log():
            log.log(SYSLOG_LEVELS.get(level, logging.INFO), "librdkafka: %s", line)
