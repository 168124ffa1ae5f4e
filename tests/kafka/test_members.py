"""Several processes of a Kafka job on a real broker: partitions move with their state, and nobody hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")


from omnistream.delivery import Delivery
from omnistream.errors import OmnistreamError, SinkError
from omnistream.job import parse_job
from omnistream.pipeline import Metrics
from omnistream.run import Progress, Stop, run_job
from omnistream.source.kafka import KafkaSource
from tests.kafka.jobs import PARTITIONS, WAIT_S, check, job_of, results, run, wait_for
from tests.kafka.topics import Kafka

pytestmark = pytest.mark.usefixtures("progress_after_every_poll")


class Member(threading.Thread):
    """A run under a member name of its own, in a thread."""

    def __init__(self, job: dict[str, Any], name: str) -> None:
        super().__init__(daemon=True)
        spec = {**job, "source": {**job["source"], "member": name}}
        self.job = parse_job(spec)
        self.asked = Stop()
        self.metrics = Metrics()
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        def note(progress: Progress) -> None:
            self.metrics = progress.metrics

        try:
            self.metrics = run_job(self.job, on_progress=note, stop=self.asked).metrics
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.asked.request()
        self.join(WAIT_S)
        assert self.error is None, self.error


@pytest.fixture
def members() -> Iterator[Callable[[dict[str, Any], str], Member]]:
    """Starts members, and ends those that a test has left behind."""
    started: list[Member] = []

    def start(job: dict[str, Any], name: str) -> Member:
        started.append(Member(job, name))
        return started[-1]

    yield start
    for member in started:
        if member.is_alive() and member.asked.signal is None:
            member.asked.request()
    for member in started:
        member.join(WAIT_S)


@pytest.fixture
def endless(kafka: Kafka, source: str, tmp_path: Path) -> dict[str, Any]:
    return job_of(kafka, source, tmp_path, source__until=None, source__batch_bytes="4 KiB")


def test_partitions_move_with_their_state(
    kafka: Kafka, source: str, stream: list[bytes], endless: dict[str, Any], members: Any
) -> None:
    first = members(endless, "a")
    wait_for(lambda: first.metrics.messages > 0)
    second = members(endless, "b")
    wait_for(lambda: second.metrics.messages > 0 or first.metrics.messages == len(stream))
    first.end()

    def read() -> int:
        return sum(
            offset for offset, _ in kafka.committed(endless["job"]["name"], source, PARTITIONS).values()
        )

    wait_for(lambda: read() == len(stream))
    second.end()
    last = {**endless, "source": {**endless["source"], "member": "b", "until": "latest"}}
    run(last)
    check(results(kafka, endless), stream)


def test_a_second_process_of_a_name_shuts_out_the_first(endless: dict[str, Any], members: Any) -> None:
    first = members(endless, "a")
    wait_for(lambda: first.metrics.messages > 0)
    second = members(endless, "a")
    first.join(WAIT_S)
    assert isinstance(first.error, OmnistreamError)
    assert "another process uses the same member name" in str(first.error)
    second.end()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("step", ["assigned", "revoked", "lost"])
def test_an_error_while_the_group_waits_for_an_answer_ends_the_run(
    kafka: Kafka, endless: dict[str, Any], members: Any, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fails(*_: Any) -> None:
        raise SinkError("no answer")

    poll, silent = KafkaSource.poll, threading.Event()

    def poll_unless_silent(source: KafkaSource) -> Any:
        if silent.is_set():
            wait_for(lambda: not kafka.members(endless["job"]["name"]))
        return poll(source)

    if step == "lost":  # the group goes on without a member that does not poll
        endless["source"]["config"] |= {"session.timeout.ms": 6_000, "max.poll.interval.ms": 6_000}
        monkeypatch.setattr(KafkaSource, "poll", poll_unless_silent)
    if step == "assigned":
        monkeypatch.setattr(Delivery, step, fails)
    first = members(endless, "a")
    if step != "assigned":
        wait_for(lambda: first.metrics.messages > 0)
        monkeypatch.setattr(Delivery, step, fails)
    if step == "lost":
        silent.set()
    elif step == "revoked":
        members(endless, "b")
    first.join(WAIT_S)
    assert not first.is_alive()
    assert str(first.error) == "no answer"
    monkeypatch.undo()
