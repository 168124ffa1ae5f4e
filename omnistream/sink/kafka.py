"""Kafka out: a message per result, keyed so that the same result always has the same key, and rejects.

All Kafka sinks of a job share one `Producer`: with ``delivery = "exactly_once"`` its transaction holds all
that was written since the last checkpoint, and the offsets of what was read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from omnistream import _core
from omnistream.errors import SinkError
from omnistream.librdkafka import librdkafka_path
from omnistream.registry import Registry
from omnistream.sink.arrow_messages import arrow_messages
from omnistream.sink.avro import AvroRows
from omnistream.sink.json_text import check_json_types, join_text, json_objects, json_text
from omnistream.sink.staging import AtOnce, conform
from omnistream.spec import DeadLetterSpec, JobSpec, SinkSpec

log = logging.getLogger(__name__)

REQUEST_MS = 30_000
# Flushing ends earlier, with the error of a message that librdkafka has given up: message.timeout.ms.
FLUSH_MS = 600_000
# "The rest of the transaction's time", to librdkafka.
UNTIL_TIMEOUT = -1
# The broker's default for the longest transaction, and how much longer than a checkpoint interval one may be:
# until it is over, that of a process that died holds up consumers of the topic.
LONGEST_TRANSACTION_MS = 900_000
TRANSACTION_SLACK_MS = 20_000

DEFAULTS = {
    "compression.type": "lz4",
    "linger.ms": "20",
    # When a group's coordinator was away, librdkafka waits for ever to send it offsets (its issue 5511),
    # unless what it knows of the cluster grows old and idle connections are made anew: half a minute.
    "topic.metadata.refresh.interval.ms": "5000",
    "metadata.max.age.ms": "15000",
    "connections.max.idle.ms": "10000",
}
FIXED = {
    "enable.idempotence": "true",
    # Else each delivered message costs a callback.
    "delivery.report.only.error": "true",
}
HEADER = "omnistream."
# Columns of a reject that become headers; key and value are the original ones.
REJECT_HEADERS = {
    "source": "source",
    "partition": "partition",
    "position": "offset",
    "line": "line",
    "stage": "stage",
    "reason": "reason",
    "field": "field",
    "byte_offset": "byte_offset",
}
# From a batch to an Arrow array of messages, and rows that say for each which key and which revision it has.
Encoder = Callable[[pa.RecordBatch], tuple[Any, pa.RecordBatch]]


class Producer:
    """The one producer of a job.

    Raises
    ------
    SinkError
        From any method, for what librdkafka could not do, in its words.
    """

    def __init__(self, job: JobSpec) -> None:
        self._job = job
        settings = {**DEFAULTS, **FIXED}
        self.transactional = job.exactly_once
        if job.checkpoint is not None and job.exactly_once:
            # One name per member: who starts under it ends what an earlier one left open, and shuts it out.
            settings["transactional.id"] = f"{job.name}-{member_of(job)}"
            longest_ms = job.checkpoint.interval_ms + TRANSACTION_SLACK_MS
            settings["transaction.timeout.ms"] = str(min(longest_ms, LONGEST_TRANSACTION_MS))
        self._core = _core.KafkaProducer(librdkafka_path(), list(job.producer), list(settings.items()))

    def sink(self, spec: SinkSpec, schema: pa.Schema) -> KafkaSink:
        """Open the sink of one output."""
        key = result_key(self._job, spec.output, schema, spec.key)
        return KafkaSink(self, spec, schema, self._job.name, key, encoder(spec, schema, self._job))

    def dead_letter(self, spec: DeadLetterSpec) -> KafkaDeadLetter:
        """Open the sink of rejects."""
        return KafkaDeadLetter(self, spec.topic, self._job.name)

    def start(self, topics: Sequence[str]) -> None:
        """Check that the topics are there; with transactions, end those that an earlier process left open."""
        if absent := [topic for topic in topics if not self._core.partitions(topic, REQUEST_MS)]:
            brokers = dict(self._job.producer).get("bootstrap.servers", "...")
            create = f"kafka-topics.sh --bootstrap-server {brokers} --create --topic"
            raise SinkError(
                f"kafka topic {', '.join(absent)}: there is none, and the brokers make none by themselves; "
                f"create it: {' && '.join(f'{create} {topic}' for topic in absent)}"
            )
        if self.transactional:
            self._core.init_transactions(REQUEST_MS)
            self.begin()

    def produce(self, topic: str, values: Any, keys: Any, headers: Any, row_headers: Any) -> None:
        """Send a message per value; waits while librdkafka's queue is full."""
        self._core.produce(topic, values, keys, headers, row_headers)
        self._tell_log()

    def flush(self) -> None:
        """Wait until everything is delivered."""
        self._core.flush(FLUSH_MS)
        self._tell_log()

    def begin(self) -> None:
        """Begin a transaction."""
        self._core.begin()

    def send_offsets(self, offsets: list[_core.KafkaPartition], consumer: _core.KafkaConsumer) -> None:
        """Make the offsets part of the transaction; refused to a member that the group has lost."""
        self._core.send_offsets(offsets, consumer, UNTIL_TIMEOUT)

    def commit(self) -> None:
        """Commit the transaction: its messages and its offsets at once."""
        self._core.commit(UNTIL_TIMEOUT)
        self._tell_log()

    def abort(self) -> None:
        """Take back the transaction."""
        self._core.abort(UNTIL_TIMEOUT)

    def _tell_log(self) -> None:
        for level, line in self._core.take_log():
            log.log(logging.ERROR if level < 4 else logging.WARNING, "librdkafka: %s", line)


def open_producer(job: JobSpec) -> Producer | None:
    """Return the producer of a job that has Kafka sinks, started."""
    topics = [sink.topic for sink in job.sinks if sink.type == "kafka"]
    if job.dead_letter is not None and job.dead_letter.type == "kafka":
        topics.append(job.dead_letter.topic)
    if not topics:
        return None
    producer = Producer(job)
    producer.start(topics)
    return producer


def member_of(job: JobSpec) -> str:
    """Return the name that tells this process from the others of its group."""
    return job.source.kafka.member if job.source is not None and job.source.kafka is not None else "0"


def encoder(spec: SinkSpec, schema: pa.Schema, job: JobSpec) -> Encoder:
    """Return what makes messages of the rows of a sink.

    Raises
    ------
    SinkError
        For columns that the format does not have, or a registry that refuses the schema.
    """
    if spec.format == "arrow":
        return arrow_messages
    if spec.format == "avro":
        avro_rows = AvroRows(schema, spec.output, spec.topic, Registry(dict(job.registry)))
        return lambda rows: (avro_rows(rows), rows)
    check_json_types(schema)
    return lambda rows: (json_objects(rows), rows)


class KafkaSink(AtOnce):
    """Results as messages.

    Parameters
    ----------
    key : sequence of str or None
        Columns whose values, behind the names of job and output, are the key; None: messages have no key.
    encode : callable
        Makes messages of rows.
    """

    def __init__(
        self,
        producer: Producer,
        spec: SinkSpec,
        schema: pa.Schema,
        job: str,
        key: Sequence[str] | None,
        encode: Encoder,
    ) -> None:
        self._producer = producer
        self._topic = spec.topic
        self._schema = schema
        self._key = key
        self._names = [job, spec.output]
        self._encode = encode
        self._headers = [(f"{HEADER}job", job), (f"{HEADER}window", spec.output)]
        self.paths = [f"kafka:{spec.topic}"]

    def write(self, batch: pa.RecordBatch) -> None:
        """Hand a batch to the producer."""
        values, rows = self._encode(conform(batch, self._schema, self._topic))
        headers, row_headers = list(self._headers), []
        if "revision" in rows.schema.names:
            row_headers.append((f"{HEADER}revision", rows.column("revision").cast(pa.large_utf8())))
        else:
            headers.append((f"{HEADER}revision", "0"))
        keys = None if self._key is None else self._keys(rows)
        self._producer.produce(self._topic, values, keys, headers, row_headers)

    def _keys(self, rows: pa.RecordBatch) -> Any:
        """Return a JSON array for each row: job, output, and the values that tell results apart."""
        names = json.dumps(self._names, ensure_ascii=False, separators=(",", ":"))[:-1]
        pieces: list[Any] = [pa.repeat(pa.scalar(names, pa.large_utf8()), rows.num_rows)]
        for column in self._key or ():
            pieces += [",", json_text(rows.column(column))]
        return join_text([*pieces, "]"])

    def flush(self) -> None:
        """Wait until all is delivered; in a transaction its commit does so."""
        if not self._producer.transactional:
            self._producer.flush()

    def close(self) -> None:
        """Flush."""
        self.flush()

    def abort(self) -> None:
        """Leave what is sent: outside of a transaction it cannot be taken back."""


class KafkaDeadLetter(AtOnce):
    """Rejects as messages: the original key and bytes, with headers of where they stood and why."""

    def __init__(self, producer: Producer, topic: str, job: str) -> None:
        self._producer = producer
        self._topic = topic
        self._job = job
        self.paths = [f"kafka:{topic}"]

    def write(self, batch: pa.RecordBatch) -> None:
        """Hand a batch to the producer."""
        row_headers = [
            (f"{HEADER}{name}", batch.column(column).cast(pa.large_utf8()))
            for column, name in REJECT_HEADERS.items()
        ]
        headers = [(f"{HEADER}job", self._job)]
        key = batch.column("key")
        keys = key if key.null_count < len(key) else None
        self._producer.produce(self._topic, batch.column("bytes"), keys, headers, row_headers)

    def flush(self) -> None:
        """Wait until all is delivered; in a transaction its commit does so."""
        if not self._producer.transactional:
            self._producer.flush()

    def close(self) -> None:
        """Flush."""
        self.flush()

    def abort(self) -> None:
        """Leave what is sent."""


def result_key(job: JobSpec, output: str, schema: pa.Schema, key: Sequence[str]) -> Sequence[str] | None:
    """Return the columns of a message's key: those asked for, or those that name a result of this output."""
    if key:
        return key
    window = next((each for each in job.windows if each.name == output), None)
    derive = next((each for each in job.derives if each.name == output), None)
    if derive is not None:
        window = job.window(derive.window)
    if window is None:
        return None
    named = ["window_start", "day", *window.keys]
    return [column for column in named if column in schema.names]
