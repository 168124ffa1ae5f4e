"""The broker that the other tests rely on: it stores, it commits and aborts, it survives kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.kafka.broker import ROOT, USERS, Cluster
from tests.kafka.jobs import wait_for
from tests.kafka.topics import Kafka, closing_consumer, values


def test_what_is_produced_is_read(kafka: Kafka) -> None:
    topic = kafka.topic(partitions=3)
    sent = [f"value {number}".encode() for number in range(1_000)]
    kafka.produce(topic, sent, keys=[str(number % 7).encode() for number in range(1_000)])
    assert sorted(values(kafka.read(topic))) == sorted(sent)


def test_a_transaction_shows_all_or_nothing(kafka: Kafka) -> None:
    source, output = kafka.topic(), kafka.topic()
    kafka.produce(source, [b"a", b"b"])
    producer = Producer(kafka.client | {"transactional.id": source})
    producer.init_transactions(30)
    with closing_consumer(kafka.client | {"group.id": source}) as consumer:
        for value, end in ((b"aborted", producer.abort_transaction), (b"kept", producer.commit_transaction)):
            producer.begin_transaction()
            producer.produce(output, value)
            metadata = consumer.consumer_group_metadata()
            producer.send_offsets_to_transaction([TopicPartition(source, 0, 2)], metadata, 30)
            producer.flush(30)
            end(30)
    assert values(kafka.read(output)) == [b"kept"]
    assert values(kafka.read(output, "read_uncommitted")) == [b"aborted", b"kept"]
    assert kafka.committed(source, source, 1)[0][0] == 2


def test_a_killed_broker_comes_back_with_all_that_it_had(kafka: Kafka, own_cluster: Cluster) -> None:
    topic = kafka.topic(partitions=2)
    kafka.produce(topic, [b"before"] * 500)
    own_cluster.nodes[0].kill()
    own_cluster.nodes[0].start()
    own_cluster.wait()
    kafka.produce(topic, [b"after"] * 500)
    assert sorted(values(kafka.read(topic))) == [b"after"] * 500 + [b"before"] * 500


def test_users_need_the_right_password_and_leave(kafka: Kafka, own_cluster: Cluster) -> None:
    topic = kafka.topic()

    def first_error(user: str, password: str) -> int:
        settings = {
            "bootstrap.servers": own_cluster.sasl_bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": password,
            "log_level": 0,
        }
        try:
            error = AdminClient(settings).list_topics(topic, timeout=5).topics[topic].error
        except KafkaException as failure:
            return int(failure.args[0].code())
        return int(error.code()) if error is not None else 0

    assert first_error("admin", USERS["admin"]) == 0
    assert first_error("stranger", USERS["stranger"]) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    # Rejected at the door: the request has nobody to ask.
    assert first_error("admin", "guessed") in (KafkaError._TRANSPORT, KafkaError._AUTHENTICATION)


def test_three_nodes_do_without_one(three_nodes: Kafka) -> None:
    assert three_nodes.cluster is not None
    topic = three_nodes.topic(partitions=3)  # each node leads one
    three_nodes.produce(topic, [b"three"] * 300)
    node = three_nodes.cluster.nodes[0]
    node.kill()
    try:
        three_nodes.produce(topic, [b"two"] * 300)
        counts = Counter(values(three_nodes.read(topic)))
    finally:  # others use the nodes, too
        node.start()
        three_nodes.cluster.wait()
    assert counts == {b"three": 300, b"two": 300}


def test_no_broker_outlives_its_test_run(kafka: Kafka, own_cluster: Cluster) -> None:
    program = """
        import os, signal
        from tests.kafka.broker import Cluster
        with Cluster() as cluster:
            print(cluster.nodes[0].process.pid, cluster.folder, flush=True)
            signal.pause()
    """
    run = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert run.stdout is not None
    with run.stdout:
        pid, folder = run.stdout.readline().split()
    run.send_signal(signal.SIGKILL)
    run.wait()
    wait_for(lambda: not runs(int(pid)))
    subprocess.run(["rm", "-r", folder], check=True)  # a killed run cannot


def runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
