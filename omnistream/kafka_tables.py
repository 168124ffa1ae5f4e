"""What a job says of Kafka: the readers of its keys in [source], [producer], [[sink]] and [dead_letter]."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omnistream.avro import parse_avro_schema
from omnistream.errors import SchemaError
from omnistream.mistakes import Table, moment_ms, quoted
from omnistream.schema import Schema
from omnistream.spec import (
    CheckpointSpec,
    DeadLetterSpec,
    KafkaSettings,
    KafkaSpec,
    MessageSpec,
    SinkSpec,
    SourceSpec,
)

BROKERS = "bootstrap.servers"
# What a run depends on, so that no setting may change it.
OWN_SETTINGS = {
    "auto.offset.reset": "set source.start",
    "enable.auto.commit": "offsets are committed with the checkpoint",
    "enable.auto.offset.store": "offsets are committed with the checkpoint",
    "enable.partition.eof": "it is always on",
    "transactional.id": "set source.member",
    "enable.idempotence": "it is always on",
}
# Settings of the source that a producer needs, too: how to reach the cluster, and who asks.
CONNECTION = re.compile(
    r"(bootstrap\.servers|metadata\.broker\.list|client\.id|client\.rack|client\.dns\.lookup|broker\..*|socket\..*"
    r"|security\..*|sasl\..*|ssl\..*|enable\.ssl\..*|oauthbearer\..*|reconnect\..*|retry\..*)"
)
MEMBER = re.compile(r"[A-Za-z0-9._-]+")
TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
PARTITION = re.compile(r"(.+)\[(\d+)\]")
DETAILS = ("key", "timestamp", "partition", "offset")
IDLE_TIMEOUT_MS = 60_000


def read_kafka_source(table: Table) -> KafkaSpec:
    """Read the keys of [source] that only Kafka has."""
    topics = table.texts("topics", single=True)
    if not topics and not table.values.get("topics"):
        table.add(
            "topics", "is missing", 'add topics = "orders" (a list or a pattern such as "^orders-" will do)'
        )
    for topic in topics:
        _check_topic(table, "topics", topic)
    config = read_settings(table, "config")
    if BROKERS not in dict(config):
        table.add("config", f"has no {BROKERS}", f'add [source.config] with "{BROKERS}" = "localhost:9092"')
    member = table.text("member", default="0")
    if not MEMBER.fullmatch(member):
        table.add("member", f"{quoted(member)} has other than letters, digits, . _ and -", "rename it")
    return KafkaSpec(topics, config, _read_start(table), _read_until(table), _read_columns(table), member)


def read_messages(
    top: Table, source: SourceSpec | None, schema: Schema | None, base: Path
) -> tuple[MessageSpec, KafkaSettings]:
    """Return what messages are, and the settings of the schema registry."""
    registry = read_settings(top, "schema_registry")
    if registry and not dict(registry).get("url"):
        top.add("schema_registry", "has no url", 'add url = "http://localhost:8081"')
    table = top.values.get("source")
    if source is None or source.kafka is None or not isinstance(table, Mapping):
        return MessageSpec(), registry
    format_: Any = source.format
    written = table.get("writer_schema")
    if format_ != "avro" and written is not None:
        top.add("source.writer_schema", f'makes no sense with format = "{format_}"', "remove one of the two")
    if format_ != "json" and schema is not None and schema.array_messages:
        top.add("schema.array_messages", f'makes no sense with format = "{format_}"', "remove one of the two")
    if format_ == "arrow" and source.kafka.columns:
        top.add("source.columns", "messages of many rows have none", "remove them, or send them as columns")
    if format_ == "arrow" and schema is not None and schema.explode:
        top.add("schema.explode", "the rows of Arrow messages are lines already", "use a schema without it")
    writer = ""
    if format_ == "avro" and written is not None:
        writer = _read_writer_schema(top, written, base)
    elif format_ == "avro" and not registry:
        top.add("schema_registry", "is missing, and Avro needs writer schemas",
                'add [schema_registry] with url = "...", or source.writer_schema = "order.avsc"')  # fmt: skip
    return MessageSpec(format_, writer), registry


def _read_writer_schema(top: Table, written: Any, base: Path) -> str:
    fix = "name the file of an Avro schema (the path starts at the job's folder)"
    try:
        text = (base / str(written)).read_text(encoding="utf-8")
        parse_avro_schema(text)
    except OSError as error:
        top.add("source.writer_schema", f"{quoted(written)} cannot be read: {error.strerror}", fix)
    except (UnicodeDecodeError, SchemaError) as error:
        top.add("source.writer_schema", f"{quoted(written)}: {error}", fix)
    else:
        return text
    return ""


def _check_topic(table: Table, key: str, topic: str) -> None:
    if topic.startswith("^"):
        try:
            re.compile(topic)
        except re.error as error:
            table.add(key, f"{quoted(topic)} is no pattern: {error}", "mend the regular expression")
    elif not TOPIC.fullmatch(topic):
        table.add(key, f"{quoted(topic)} cannot be a topic's name", "use letters, digits, . _ and -")


def _read_start(table: Table) -> str | int:
    start = table.take("start")
    if start is None or start in ("earliest", "latest", "stored"):
        return start or "earliest"
    moment = moment_ms(start)
    if moment is None or moment < 0:
        fix = 'write "earliest", "latest", "stored" or a time such as 2026-11-11T00:00:00Z'
        table.add("start", f"{quoted(start)} is no place to start", fix)
    return moment if moment is not None else "earliest"


def _read_until(table: Table) -> Any:
    until = table.take("until")
    if until is None:
        return ""
    if until == "latest":
        return "latest"
    fix = 'write "latest", or a table such as { "orders[0]" = 1000 } of the first offsets that are not read'
    if not isinstance(until, Mapping) or not until:
        table.add("until", f"{quoted(until)} is no end", fix)
        return ""
    ends = []
    for place, offset in until.items():
        match = PARTITION.fullmatch(str(place))
        if match is None or not isinstance(offset, int) or isinstance(offset, bool) or offset < 0:
            table.add("until", f"{quoted(place)} = {quoted(offset)} is no end of a partition", fix)
        else:
            ends.append((match[1], int(match[2]), offset))
    return tuple(ends)


def _read_columns(table: Table) -> tuple[tuple[str, str], ...]:
    below = table.table("columns")
    if below is None:
        return ()
    columns = []
    for name in below.values:
        detail = below.text(name, example="key")
        if detail and detail not in DETAILS and not re.fullmatch(r"header:.+", detail):
            fix = 'write "key", "timestamp", "partition", "offset" or "header:<name>"'
            below.add(name, f"{quoted(detail)} is nothing that a message has", fix)
        columns.append((name, detail))
    return tuple(columns)


def read_settings(table: Table, key: str) -> KafkaSettings:
    """Read a table of librdkafka's settings; dots in a key may or may not be quoted."""
    below = table.table(key)
    return () if below is None else tuple(_flat(below, below.values, ""))


def _flat(table: Table, values: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    settings: list[tuple[str, str]] = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        table.take(name)
        if isinstance(value, Mapping):
            settings += _flat(table, value, f"{key}.")
        elif key in OWN_SETTINGS:
            table.add(key, "is not yours to set", f"remove it: {OWN_SETTINGS[key]}")
        elif isinstance(value, bool):
            settings.append((key, str(value).lower()))
        elif isinstance(value, str | int):
            settings.append((key, str(value)))
        else:
            table.add(key, f"{quoted(value)} is no setting", "write a text, a number, true or false")
    return settings


def read_producer(top: Table, source: SourceSpec | None) -> KafkaSettings:
    """Return the settings of the producer: [producer], and how the source reaches the cluster."""
    own = read_settings(top, "producer")
    given = {key for key, _ in own}
    shared = source.kafka.config if source is not None and source.kafka is not None else ()
    return (*own, *((key, value) for key, value in shared if CONNECTION.fullmatch(key) and key not in given))


def read_topic(table: Table, places: dict[str, str], example: str) -> str:
    """Return the topic that a sink writes to, which no other sink may."""
    topic = table.text("topic", example=example)
    if topic:
        if topic.startswith("^") or not TOPIC.fullmatch(topic):
            table.add("topic", f"{quoted(topic)} cannot be a topic's name", "use letters, digits, . _ and -")
        owner = places.setdefault(f"kafka:{topic}", table.place)
        if owner != table.place:
            table.add("topic", f"{owner} writes to {quoted(topic)}, too", "give each a topic of its own")
    if table.take("path") is not None:
        table.add("path", 'makes no sense with type = "kafka"', "remove it: topic says where to write")
    return topic


def check_delivery(
    top: Table,
    source: SourceSpec | None,
    sinks: list[SinkSpec],
    dead_letter: DeadLetterSpec | None,
    checkpoint: CheckpointSpec | None,
    producer: KafkaSettings,
) -> None:
    """Note what does not go together across tables."""
    writes = any(sink.type == "kafka" for sink in sinks) or (dead_letter and dead_letter.type == "kafka")
    if writes and BROKERS not in dict(producer):
        top.add("producer", f"has no {BROKERS}", f'add [producer] with "{BROKERS}" = "localhost:9092"')
    if checkpoint is None or checkpoint.delivery != "exactly_once":
        return
    if source is None or source.type != "kafka":
        fix = 'read from Kafka, or write delivery = "at_least_once"'
        top.add("checkpoint.delivery", "a transaction needs offsets of Kafka to carry", fix)
    elif not writes:
        fix = 'add a sink of type = "kafka", or write delivery = "at_least_once"'
        top.add("checkpoint.delivery", "no sink can take part in a transaction", fix)
