"""The broker that the tests here share: Kafka itself, or what OMNISTREAM_TEST_BOOTSTRAP names."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator

import pytest

from tests.kafka.broker import Cluster, missing

BOOTSTRAP = "OMNISTREAM_TEST_BOOTSTRAP"


def skip_or_fail(reason: str) -> None:
    """In CI (CI=true) these tests must run, elsewhere they may lack something and say so."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason} (CI is set: the tests with a broker must run)")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka() -> Iterator[object]:
    """One node, for the whole session. Tests take topics and groups of their own."""
    if importlib.util.find_spec("confluent_kafka") is None:
        skip_or_fail("confluent-kafka is not installed: pip install 'omnistream[kafka]'")
    from tests.kafka.topics import Kafka

    if bootstrap := os.environ.get(BOOTSTRAP):
        yield Kafka(bootstrap)
        return
    if reason := missing():
        skip_or_fail(f"{reason}; or name a broker in {BOOTSTRAP}")
    with Cluster() as cluster:
        yield Kafka(cluster.bootstrap, cluster)


@pytest.fixture(scope="session")
def stream() -> list[bytes]:
    """Orders with some that are broken, and some that come twice."""
    from tests.kafka.jobs import orders

    return orders(20_000, dirt=0.01, duplicates=0.01)


@pytest.fixture(scope="session")
def source(kafka: object, stream: list[bytes]) -> str:
    """The topic that holds them, a store's in one partition."""
    from tests.kafka.jobs import PARTITIONS, store_of

    topic: str = kafka.topic(PARTITIONS, "orders")  # type: ignore[attr-defined]
    kafka.produce(topic, stream, keys=map(store_of, stream))  # type: ignore[attr-defined]
    return topic


@pytest.fixture
def progress_after_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests watch a run by its progress."""
    from omnistream import run_kafka

    monkeypatch.setattr(run_kafka, "PROGRESS_INTERVAL_S", 0)


@pytest.fixture
def own_cluster(kafka: object) -> Cluster:
    """The session's cluster, for tests that kill its node; it serves again when the test ends."""
    cluster: Cluster | None = kafka.cluster  # type: ignore[attr-defined]
    if cluster is None:
        pytest.skip(f"the broker of {BOOTSTRAP} cannot be killed by a test")
    return cluster


@pytest.fixture(scope="session")
def three_nodes(kafka: object) -> Iterator[object]:
    """Three nodes with three copies of everything."""
    from tests.kafka.topics import Kafka

    if kafka.cluster is None:  # type: ignore[attr-defined]
        pytest.skip(f"the brokers of {BOOTSTRAP} cannot be killed by a test")
    with Cluster(size=3) as cluster:
        yield Kafka(cluster.bootstrap, cluster)
