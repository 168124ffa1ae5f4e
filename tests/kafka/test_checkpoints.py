"""Kafka jobs that stop and go on, on a real broker: what a checkpoint promises, while input goes on."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from omnistream import delivery, run_kafka
from omnistream.checkpoint import Snapshot
from omnistream.delivery import Delivery, Outputs
from omnistream.errors import NotCommittedError, OmnistreamError, SourceError
from omnistream.sink import kafka as sink_kafka
from omnistream.source import kafka as source_kafka
from omnistream.source.kafka import KafkaSource
from tests.kafka.jobs import PARTITIONS, WAIT_S, WINDOW, check, job_of, orders, results, run, wait_for
from tests.kafka.topics import Kafka

pytestmark = pytest.mark.usefixtures("progress_after_every_poll")

# --- stopping and going on --------------------------------------------------------------------------


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_run_that_was_stopped_goes_on_where_it_was(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path, delivery: str
) -> None:
    job = job_of(kafka, source, tmp_path, checkpoint__delivery=delivery, source__batch_bytes="8 KiB")
    seen = 0
    for _ in range(3):
        stopped = run(job, until=lambda metrics, before=seen: metrics.messages > before)
        assert stopped.stopped_by == "SIGTERM"
        seen = stopped.metrics.messages
        committed = kafka.committed(job["job"]["name"], source, PARTITIONS)
        assert sum(offset for offset, _ in committed.values()) == seen
        for _, metadata in committed.values():
            assert (tmp_path / "state" / json.loads(metadata or "")["snapshot"]).is_dir()
    last = run(job)
    assert last.metrics.messages == len(stream)
    assert last.metrics.balanced
    check(results(kafka, job), stream)
    assert not list((tmp_path / "state" / "0").iterdir())


def test_offsets_that_an_operator_has_reset_mean_no_state(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path
) -> None:
    job = job_of(kafka, source, tmp_path, sink=[], checkpoint__delivery="at_least_once")
    run(job, until=lambda metrics: metrics.messages > 0)
    admin = AdminClient(kafka.client)
    from confluent_kafka import ConsumerGroupTopicPartitions

    reset = [TopicPartition(source, number, 0) for number in range(PARTITIONS)]
    group = ConsumerGroupTopicPartitions(job["job"]["name"], reset)
    for altered in admin.alter_consumer_group_offsets([group]).values():
        altered.result(30)
    assert run(job).metrics.messages == len(stream)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_snapshot_that_is_gone_is_named(kafka: Kafka, source: str, tmp_path: Path, scheme: str) -> None:
    job = job_of(kafka, source, tmp_path, checkpoint__path=f"{scheme}{tmp_path}/state")
    run(job, until=lambda metrics: metrics.messages > 0)
    read = run(job, until=lambda metrics: metrics.messages > 5_000).metrics.messages
    assert read > 5_000  # the ledger goes on, from the snapshot
    (tmp_path / "state").rename(tmp_path / "elsewhere")
    with pytest.raises(OmnistreamError, match=r"state/0/\d+: is missing, and the committed offset of"):
        run(job)


def test_messages_that_were_deleted_unread_end_the_run(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    kafka.produce(topic, orders(10))
    job = job_of(kafka, topic, tmp_path, source__until={f"{topic}[0]": 5})
    run(job)
    admin = AdminClient(kafka.client)
    for deleted in admin.delete_records([TopicPartition(topic, 0, 8)]).values():
        deleted.result(30)
    with pytest.raises(SourceError, match=r"deleted before they were read"):
        run(job_of(kafka, topic, tmp_path, job__name=job["job"]["name"]))


def test_a_last_commit_that_is_refused_is_done_again(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = run_kafka._Run.finish
    calls = 0

    def late_at_first(self: run_kafka._Run) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            wait_for(lambda: not kafka.members(job["job"]["name"]))  # the group goes on without this one
        finish(self)

    monkeypatch.setattr(run_kafka._Run, "finish", late_at_first)
    job = job_of(kafka, source, tmp_path, checkpoint__interval="10m")
    job["source"]["config"] |= {"session.timeout.ms": 2_000, "max.poll.interval.ms": 2_000}
    assert run(job).metrics.messages == len(stream)
    assert calls == 2
    check(results(kafka, job), stream)


# --- checkpoints that are saved while input goes on --------------------------------------------------


@pytest.mark.parametrize("promise", ["exactly_once", "at_least_once"])
def test_input_goes_on_while_a_checkpoint_is_saved(
    kafka: Kafka,
    source: str,
    stream: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    promise: str,
) -> None:
    save, poll, produce = Delivery.save, KafkaSource.poll, sink_kafka.Producer.produce
    read_on = threading.Event()
    saving_from: list[int] = []  # bytes read when the first checkpoint was seen to be on its way
    written = 0

    def slow_save(self: Delivery, snapshot: Snapshot) -> str:
        assert read_on.wait(WAIT_S), "input has not gone on"
        return save(self, snapshot)

    def noted_poll(self: KafkaSource) -> Any:
        if deliveries and deliveries[0].saving:
            saving_from.append(self.bytes_read)
            if self.bytes_read > saving_from[0] + 1_000_000:
                read_on.set()
        return poll(self)

    def noted_produce(self: sink_kafka.Producer, *message: Any) -> None:
        nonlocal written
        written += bool(saving_from) and not read_on.is_set()
        produce(self, *message)

    monkeypatch.setattr(source_kafka, "MESSAGES_PER_POLL", 200)
    deliveries = spied(monkeypatch)
    monkeypatch.setattr(Delivery, "save", slow_save)
    monkeypatch.setattr(KafkaSource, "poll", noted_poll)
    monkeypatch.setattr(sink_kafka.Producer, "produce", noted_produce)
    job = job_of(kafka, source, tmp_path, checkpoint__delivery=promise, checkpoint__interval="1ms")
    assert run(job).metrics.messages == len(stream)
    assert read_on.is_set()
    assert bool(written) == (promise == "at_least_once")
    check(results(kafka, job), stream)


def test_input_goes_on_while_old_snapshots_are_removed(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of an object store takes a request for each of their files."""
    poll, prune = KafkaSource.poll, delivery.prune
    removing, read_on = threading.Event(), threading.Event()

    def slow_prune(*arguments: Any) -> Any:
        removing.set()
        assert read_on.wait(WAIT_S), "input has not gone on"
        return prune(*arguments)

    def noted_poll(self: KafkaSource) -> Any:
        blocks = poll(self)
        if removing.is_set() and blocks:
            read_on.set()
        return blocks

    monkeypatch.setattr(source_kafka, "MESSAGES_PER_POLL", 200)
    monkeypatch.setattr(delivery, "prune", slow_prune)
    monkeypatch.setattr(KafkaSource, "poll", noted_poll)
    job = job_of(kafka, source, tmp_path, checkpoint__interval="1ms")
    assert run(job).metrics.messages == len(stream)
    assert read_on.is_set()
    assert list((tmp_path / "state/0").iterdir()) == []
    check(results(kafka, job), stream)


@pytest.mark.parametrize("held_bytes", [0, 1 << 30])
def test_results_that_waited_for_a_refused_checkpoint_are_made_again(
    kafka: Kafka,
    source: str,
    stream: list[bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held_bytes: int,
) -> None:
    save, write, commit = Delivery.save, Delivery.write, Delivery.commit
    waiting = threading.Event()
    refused = 0

    def slow_save(self: Delivery, snapshot: Snapshot) -> str:
        assert waiting.wait(WAIT_S), "no results have come"
        return save(self, snapshot)

    def noted_write(self: Delivery, outputs: Outputs) -> None:
        if self.saving:
            waiting.set()
        write(self, outputs)

    def refused_once(self: Delivery, *arguments: Any) -> None:
        nonlocal refused
        if self.saving and not refused:
            refused += 1
            raise NotCommittedError("refused, for once")
        commit(self, *arguments)

    monkeypatch.setattr(source_kafka, "MESSAGES_PER_POLL", 200)
    monkeypatch.setattr(delivery, "HELD_BYTES", held_bytes)
    monkeypatch.setattr(Delivery, "save", slow_save)
    monkeypatch.setattr(Delivery, "write", noted_write)
    monkeypatch.setattr(Delivery, "commit", refused_once)
    job = job_of(kafka, source, tmp_path, checkpoint__interval="1ms")
    assert run(job).metrics.messages == len(stream)
    assert refused == 1
    check(results(kafka, job), stream)


def test_a_checkpoint_without_new_input_that_is_always_refused_ends_the_run(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of a stream that has fallen silent are something to commit, too."""
    commit = Delivery.commit
    refused = 0

    def refused_without_input(self: Delivery, snapshot: str, positions: delivery.Positions) -> None:
        nonlocal refused
        if refused or positions == self.committed:
            refused += 1
            assert refused <= 3 * run_kafka.MOST_REFUSALS, "the run goes on for ever"
            raise NotCommittedError("refused, always")
        commit(self, snapshot, positions)

    monkeypatch.setattr(Delivery, "commit", refused_without_input)
    topic = kafka.topic()
    kafka.produce(topic, orders(5, span_ms=400))
    job = job_of(kafka, topic, tmp_path, source__until=None)
    job["time"] = {"max_disorder": "0s", "idle_timeout": "300ms"}
    job["window"] = [{**WINDOW, "size": "1s"}]
    with pytest.raises(NotCommittedError, match=r"refused, always"):
        run(job)
    assert refused == run_kafka.MOST_REFUSALS + 1


def spied(monkeypatch: pytest.MonkeyPatch) -> list[Delivery]:
    """The deliveries that begin a checkpoint from now on, in the order in which they do."""
    begin = Delivery.begin
    found: list[Delivery] = []

    def noted(self: Delivery) -> None:
        if self not in found:
            found.append(self)
        begin(self)

    monkeypatch.setattr(Delivery, "begin", noted)
    return found
