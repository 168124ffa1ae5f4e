"""A cluster as tests use it: own topics, messages in, committed messages out. Plain confluent-kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from tests.kafka.broker import Cluster

READ_SECONDS = 60


@dataclass
class Kafka:
    """What `bootstrap` leads to; `cluster` is None where that is somebody else's broker."""

    bootstrap: str
    cluster: Cluster | None = None

    @property
    def client(self) -> dict[str, str | int]:
        """Settings for any client: it is quiet, and soon back when a node returns."""
        return {
            "bootstrap.servers": self.bootstrap,
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 500,
            "log_level": 2,
        }

    def topic(self, partitions: int = 1, name: str = "test", **settings: str) -> str:
        """Create a topic of its own and return its name."""
        return self.topics({name: partitions}, **settings)[0]

    def topics(self, partitions: Mapping[str, int], **settings: str) -> list[str]:
        """Create topics by what their names begin with, and return their names."""
        return self.create(
            {f"{name}-{uuid.uuid4().hex[:12]}": count for name, count in partitions.items()}, **settings
        )

    def create(self, created: Mapping[str, int], **settings: str) -> list[str]:
        """Create topics of just these names."""
        admin = AdminClient(self.client)
        wanted = [
            NewTopic(topic, count, replication_factor=-1, config=settings) for topic, count in created.items()
        ]
        for future in admin.create_topics(wanted).values():
            future.result(30)
        deadline = time.monotonic() + 30
        for topic, count in created.items():
            while True:  # a created topic can be used when its partitions have leaders
                known = admin.list_topics(topic, timeout=10).topics[topic].partitions
                if len(known) == count and all(part.leader >= 0 for part in known.values()):
                    break
                assert time.monotonic() < deadline, f"{topic} has no leaders"
                time.sleep(0.02)
        return list(created)

    @contextmanager
    def named_topics(self, partitions: Mapping[str, int]) -> Iterator[None]:
        """Create topics of just these names, and delete them at the end."""
        names = self.create(partitions)
        try:
            yield
        finally:
            admin = AdminClient(self.client)
            for future in admin.delete_topics(names).values():
                future.result(30)

    def leader(self, topic: str, partition: int = 0) -> int:
        """Return the number of the node that leads a partition."""
        return int(
            AdminClient(self.client).list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        )

    def produce_partitions(self, topic: str, partitions: Sequence[Sequence[bytes]]) -> None:
        """Send the values of each partition, in order."""
        for number, of_partition in enumerate(partitions):
            self.produce(topic, of_partition, number)

    def produce(
        self,
        topic: str,
        values: Iterable[bytes],
        partition: int | None = None,
        keys: Iterable[bytes] | None = None,
    ) -> None:
        """Send values and wait until all are stored."""
        failed: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failed.append(error)

        producer = Producer(self.client | {"linger.ms": 5, "acks": "all"})
        names = iter(keys) if keys is not None else None
        place = {} if partition is None else {"partition": partition}
        for value in values:
            key = next(names) if names is not None else None
            while True:
                try:
                    producer.produce(topic, value, key, on_delivery=delivered, **place)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        producer.flush(READ_SECONDS)
        assert not failed, failed[0]

    def read(self, topic: str, isolation: str = "read_committed") -> list[Message]:
        """Return all messages that are there now, partition by partition in order of offsets."""
        settings = {
            "group.id": "none",
            "isolation.level": isolation,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,
        }
        messages: list[Message] = []
        unread = self.ends(topic, isolation)
        with closing_consumer(self.client | settings) as consumer:
            consumer.assign([TopicPartition(topic, number, 0) for number in unread])
            deadline = time.monotonic() + READ_SECONDS
            while unread:
                assert time.monotonic() < deadline, f"{topic}: partitions {unread} not read to their ends"
                for message in consumer.consume(1_000, timeout=0.05):
                    error = message.error()
                    if error is None:
                        messages.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        # A new leader may not know yet how far its partition is committed.
                        if message.offset() >= unread.get(message.partition(), 0):
                            unread.pop(message.partition(), None)
                    elif not error.retriable():
                        raise KafkaException(error)
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))

    def ends(self, topic: str, isolation: str) -> dict[int, int]:
        """Return the offset behind the last message of each partition."""
        admin = AdminClient(self.client)
        level = IsolationLevel[isolation.upper()]
        numbers = admin.list_topics(topic, timeout=10).topics[topic].partitions
        asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in numbers}
        deadline = time.monotonic() + READ_SECONDS
        while True:
            try:
                ends = admin.list_offsets(asked, isolation_level=level, request_timeout=10)
                return {each.partition: future.result().offset for each, future in ends.items()}
            except KafkaException:  # a leader is looked for, or does not know the end yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def committed(self, group: str, topic: str, partitions: int) -> dict[int, tuple[int, str | None]]:
        """Return the offset and its metadata that a group has committed, by partition."""
        with closing_consumer(self.client | {"group.id": group}) as consumer:
            asked = [TopicPartition(topic, number) for number in range(partitions)]
            return {
                part.partition: (part.offset, part.metadata)
                for part in consumer.committed(asked, timeout=30)
                if part.offset >= 0
            }

    def members(self, group: str) -> int:
        """Return how many members a consumer group has."""
        admin = AdminClient(self.client)  # which must outlive its answers
        return len(admin.describe_consumer_groups([group])[group].result(30).members)


@contextmanager
def closing_consumer(settings: Mapping[str, object]) -> Iterator[Consumer]:
    consumer = Consumer(dict(settings))
    try:
        yield consumer
    finally:
        consumer.close()


def values(messages: Sequence[Message]) -> list[bytes]:
    return [message.value() for message in messages]
