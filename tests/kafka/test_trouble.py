"""Trouble that does not heal ends the job with a message that names the cause, and nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from tests.kafka.broker import USERS, Cluster
from tests.kafka.crash.matrix import Case
from tests.kafka.crash.orders import JOB
from tests.kafka.topics import Kafka


@pytest.fixture
def case(kafka: Kafka, tmp_path: Path) -> Case:
    return Case(kafka, "trouble", 4, tmp_path)


def ended_with(case: Case, job: str, pause_s: float = 0.0) -> str:
    """Run a job that must fail, and return what it said at its end. No result may be visible."""
    case.job = job
    assert case.wait(case.start(pause_s=pause_s)) == 1
    case.job = JOB
    assert case.kafka.read(case.output) == []
    return (case.folder / "first.log").read_text().splitlines()[-1]


def finishes(case: Case) -> None:
    tally = case.finish()
    assert tally.sound, "\n".join(tally.notes)


def test_an_unknown_input_topic(case: Case) -> None:
    said = ended_with(case, JOB.replace('topics = "{input}"', 'topics = "{input}-gone"'))
    assert f"SourceError: kafka topic {case.input}-gone: there is none" in said
    finishes(case)


@pytest.mark.parametrize("place", ["output", "letters"])
def test_an_unknown_output_topic(case: Case, place: str) -> None:
    said = ended_with(case, JOB.replace(f'topic = "{{{place}}}"', f'topic = "{{{place}}}-gone"'))
    assert "SinkError" in said
    assert f"{getattr(case, place)}-gone" in said
    finishes(case)


SASL = """
"security.protocol" = "SASL_PLAINTEXT"
"sasl.mechanism" = "PLAIN"
"sasl.username" = "{user}"
"sasl.password" = "{password}"
"""


def as_user(cluster: Cluster, user: str, password: str) -> str:
    reached = JOB.replace('"{bootstrap}"', f'"{cluster.sasl_bootstrap}"')
    settings = SASL.format(user=user, password=password)
    return reached.replace("[source.config]\n", f"[source.config]{settings}")


def test_a_user_without_leave(case: Case, own_cluster: Cluster) -> None:
    said = ended_with(case, as_user(own_cluster, "stranger", USERS["stranger"]))
    assert "authorization" in said.lower()
    finishes(case)


def test_a_wrong_password(case: Case, own_cluster: Cluster) -> None:
    said = ended_with(case, as_user(own_cluster, "admin", "guessed"))
    assert "authentication" in said.lower()
    finishes(case)


def test_results_that_are_too_large_for_their_topic(case: Case) -> None:
    largest(case, 100)
    said = ended_with(case, JOB)
    assert "SinkError" in said
    assert case.output in said
    assert "too large" in said.lower() or "MSG_SIZE_TOO_LARGE" in said
    largest(case, 1_000_000)
    finishes(case)


def largest(case: Case, size_bytes: int) -> None:
    entry = ConfigEntry("max.message.bytes", str(size_bytes), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, case.output, incremental_configs=[entry])
    admin = AdminClient(case.kafka.client)
    admin.incremental_alter_configs([resource])[resource].result(30)


def test_a_transaction_that_takes_longer_than_the_broker_waits(case: Case) -> None:
    slow = JOB.replace('"transaction.timeout.ms" = 6000', '"transaction.timeout.ms" = 1000')
    said = ended_with(case, slow.replace('interval = "1ms"', 'interval = "10m"'), pause_s=0.2)
    assert "transaction" in said.lower()
    finishes(case)
