"""Jobs from Kafka to Kafka on a real broker: what goes in comes out, once, whatever happens between."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="confluent-kafka is not installed")

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from omnistream import _core, delivery, run_kafka
from omnistream.checkpoint import Snapshot
from omnistream.delivery import Delivery, Outputs
from omnistream.errors import NotCommittedError, OmnistreamError, SinkError, SourceError
from omnistream.job import parse_job
from omnistream.pipeline import Metrics, Pipeline
from omnistream.placement import LAUNCHER_VARIABLE
from omnistream.run import Progress, RunResult, Stop, run_job
from omnistream.sink import kafka as sink_kafka
from omnistream.source import kafka as source_kafka
from omnistream.source.kafka import KafkaSource
from tests.kafka.broker import USERS, Cluster
from tests.kafka.topics import Kafka

PARTITIONS = 3
MEASURES = ["count", "units_net", "net_amount"]
WINDOW = {"name": "sales", "size": "1h", "keys": ["store_id"], "measures": MEASURES}
# Some generated events are of 1970. In which order partitions are read must not decide which rows are late.
DISORDER = "30000d"
WAIT_S = 60


def orders(count: int, **spec: Any) -> list[bytes]:
    generator = _core.Generator(events=count, seed=20261111, **spec)
    lines: list[bytes] = []
    while (block := generator.next(1 << 20)) is not None:
        lines += block.splitlines()
    return lines


def store_of(order: bytes) -> bytes:
    """The partitioning that keeps a store's rows together; what cannot be read goes anywhere."""
    try:
        return str(json.loads(order)["store_id"]).encode()
    except (ValueError, KeyError, TypeError):
        return b""


@pytest.fixture(autouse=True)
def progress_after_every_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_kafka, "PROGRESS_INTERVAL_S", 0)


@pytest.fixture(scope="module")
def stream() -> list[bytes]:
    return orders(20_000, dirt=0.01, duplicates=0.01)


@pytest.fixture(scope="module")
def source(kafka: Kafka, stream: list[bytes]) -> str:
    topic = kafka.topic(PARTITIONS, "orders")
    kafka.produce(topic, stream, keys=map(store_of, stream))
    return topic


def job_of(kafka: Kafka, source: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """A job of its own: exactly once, ends at the end of the log. ``source__until=None`` removes a key."""
    job: dict[str, Any] = {
        "job": {"name": f"job-{kafka.topic(name='name')}"},
        "source": {
            "type": "kafka",
            "topics": source,
            "until": "latest",
            "batch_bytes": "64 KiB",
            "config": {**kafka.client, "session.timeout.ms": 6_000},
        },
        "schema": {"use": "order_flat"},
        "time": {"max_disorder": DISORDER},
        "clean": {"duplicates": {"key": ["event_id"], "within": DISORDER}},
        "window": [WINDOW],
        "sink": [{"output": "sales", "type": "kafka", "topic": kafka.topic(2, "sales")}],
        "dead_letter": {"type": "kafka", "topic": kafka.topic(1, "rejects")},
        "checkpoint": {"path": str(folder / "state"), "interval": "100ms", "delivery": "exactly_once"},
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        node = job
        for key in parents:
            node = node.setdefault(key, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return job


def run(job: dict[str, Any], until: Callable[[Metrics], bool] | None = None) -> RunResult:
    """Run a job to its end, or until its metrics show something; it then stops as on SIGTERM."""
    stop = Stop()
    deadline = time.monotonic() + WAIT_S

    def watch(progress: Progress) -> None:
        assert time.monotonic() < deadline, progress.metrics
        if until is not None and stop.signal is None and until(progress.metrics):
            stop.request()

    return run_job(parse_job(job), on_progress=watch, stop=stop)


def results(kafka: Kafka, job: dict[str, Any]) -> dict[bytes, dict[str, Any]]:
    """What the sink's topic holds, by key; no key may be there twice."""
    messages = kafka.read(job["sink"][0]["topic"])
    by_key = {message.key(): json.loads(message.value()) for message in messages}
    assert len(by_key) == len(messages)
    return by_key


def expected(stream: list[bytes]) -> tuple[dict[tuple[str, str], dict[str, Any]], Metrics]:
    """The same messages pushed at once: results by window and store, and the ledger."""
    job = {"schema": {"use": "order_flat"}, "time": {"max_disorder": DISORDER}, "window": [WINDOW]}
    job["clean"] = {"duplicates": {"key": ["event_id"], "within": DISORDER}}
    pipeline = Pipeline(parse_job(job))
    outputs = [pipeline.push(stream), pipeline.flush()]
    rows = [row for output in outputs for batch in output.get("sales", []) for row in batch.to_pylist()]
    return {(row["window_start"].strftime("%Y-%m-%dT%H"), row["store_id"]): row for row in rows}, (
        pipeline.metrics()
    )


def check(found: dict[bytes, dict[str, Any]], stream: list[bytes]) -> None:
    wanted, _ = expected(stream)
    got = {(row["window_start"][:13], row["store_id"]): row for row in found.values()}
    assert got.keys() == wanted.keys()
    for key, row in got.items():
        assert row["count"] == wanted[key]["count"], key
        assert row["units_net"] == wanted[key]["units_net"], key
        assert f"{row['net_amount']:.4f}" == str(wanted[key]["net_amount"]), key


# --- what goes in comes out -----------------------------------------------------------------------


def test_a_device_takes_blocks_of_a_topic(
    kafka: Kafka, stream: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LAUNCHER_VARIABLE, "host")
    some = stream[:3_000]
    topic = kafka.topic(PARTITIONS, "orders")
    kafka.produce(topic, some, keys=map(store_of, some))
    job = job_of(kafka, topic, tmp_path, job__device="cuda")
    done = run(job)
    check(results(kafka, job), some)
    _, wanted = expected(some)
    assert done.metrics.balanced
    assert 0 < done.metrics.rejected_messages <= done.metrics.left_to_cpu < 100
    for name in ("messages", "decoded", "rows", "duplicates", "late", "aggregated", "rejects"):
        assert getattr(done.metrics, name) == getattr(wanted, name), name
    letters = Counter(message.value() for message in kafka.read(job["dead_letter"]["topic"]))
    assert letters.total() == wanted.rejected_messages + wanted.duplicates
    assert letters <= Counter(some)


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once", None])
def test_the_same_results_as_from_a_list(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path, delivery: str | None
) -> None:
    job = job_of(kafka, source, tmp_path)
    job["checkpoint"] = {**job["checkpoint"], "delivery": delivery} if delivery else None
    if delivery is None:
        del job["checkpoint"]
    metrics = run(job).metrics
    _, wanted = expected(stream)
    assert metrics.balanced
    for count in ("messages", "rows", "aggregated", "duplicates", "rejects", "late"):
        assert getattr(metrics, count) == getattr(wanted, count), count
    check(results(kafka, job), stream)


def test_a_result_says_what_it_is(kafka: Kafka, source: str, tmp_path: Path) -> None:
    job = job_of(kafka, source, tmp_path)
    run(job)
    message = kafka.read(job["sink"][0]["topic"])[0]
    row = json.loads(message.value())
    assert json.loads(message.key()) == [job["job"]["name"], "sales", row["window_start"], row["store_id"]]
    assert dict(message.headers()) == {
        "omnistream.job": job["job"]["name"].encode(),
        "omnistream.window": b"sales",
        "omnistream.revision": b"0",
    }


def test_rejects_keep_their_bytes_and_say_where_they_stood(
    kafka: Kafka, source: str, stream: list[bytes], tmp_path: Path
) -> None:
    job = job_of(kafka, source, tmp_path)
    metrics = run(job).metrics
    letters = kafka.read(job["dead_letter"]["topic"])
    assert (
        len(letters) == metrics.rejected_messages + metrics.rejected_rows + metrics.duplicates + metrics.late
    )
    sent = {(m.partition(), m.offset()): (m.key(), m.value()) for m in kafka.read(source)}
    for letter in letters:
        headers = {name.removeprefix("omnistream."): value.decode() for name, value in letter.headers()}
        assert headers["source"] == source
        assert (letter.key(), letter.value()) == sent[int(headers["partition"]), int(headers["offset"])]
        assert headers["stage"] in ("decode", "clean")
        assert headers["reason"]


def test_what_a_message_carries_can_be_columns(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(**{"retention.ms": "-1"})  # messages of 1970, which a broker soon removes
    producer = Producer(kafka.client)
    lines = orders(4)
    for number, line in enumerate(lines):
        headers = {"trace": f"t{number}"} if number % 2 else None
        producer.produce(
            topic, line, key=b"\xff" if number == 3 else b"k", headers=headers, timestamp=1_000 + number
        )
    producer.flush()
    columns = {"k": "key", "sent": "timestamp", "shard": "partition", "at": "offset", "trace": "header:trace"}
    window = {"name": "sales", "size": "1s", "keys": ["k"], "measures": ["count", "max(at) as newest"]}
    job = job_of(kafka, topic, tmp_path, source__columns=columns, time__column="sent", window=[window])
    job["sink"].append({"output": "rows", "type": "ndjson", "path": str(tmp_path / "rows.ndjson")})
    run(job)
    rows = [json.loads(line) for line in (tmp_path / "rows.ndjson").read_text().splitlines()]
    assert [[row[name] for name in columns] for row in rows] == [
        ["k", "1970-01-01T00:00:01.000Z", 0, 0, None],
        ["k", "1970-01-01T00:00:01.001Z", 0, 1, "t1"],
        ["k", "1970-01-01T00:00:01.002Z", 0, 2, None],
        [None, "1970-01-01T00:00:01.003Z", 0, 3, "t3"],
    ]
    found = sorted((row["count"], row["newest"]) for row in results(kafka, job).values())
    assert found == [(1, 3), (3, 2)]


def test_tombstones_are_passed_over(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    producer = Producer(kafka.client)
    for value in (None, orders(1)[0], None):
        producer.produce(topic, value, key=b"k")
    producer.flush()
    assert run(job_of(kafka, topic, tmp_path)).metrics.messages == 1


# --- where a run starts and ends --------------------------------------------------------------------


def test_start_and_until(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(**{"retention.ms": "-1"})  # messages of 1970, which a broker soon removes
    producer = Producer(kafka.client)
    for number, line in enumerate(orders(10)):
        producer.produce(topic, line, timestamp=1_000_000 + number * 1_000)
    producer.flush()

    def count(**changes: Any) -> int:
        return run(job_of(kafka, topic, tmp_path, checkpoint=None, **changes)).metrics.messages

    assert count() == 10
    assert count(source__start="1970-01-01T00:16:44.500Z") == 5
    assert count(source__until={f"{topic}[0]": 7}) == 7
    assert count(source__start="1970-01-01T00:16:42Z", source__until={f"{topic}[0]": 7}) == 5
    assert count(source__start="latest") == 0
    with pytest.raises(SourceError, match="the group has no stored offset"):
        count(source__start="stored")


def test_topics_by_pattern(kafka: Kafka, tmp_path: Path) -> None:
    name = kafka.topic(name="base")
    for number in (1, 2):
        topic = kafka.topic(name=f"{name}-{number}")
        kafka.produce(topic, orders(5))
    job = job_of(kafka, f"^{name}-", tmp_path)
    assert run(job).metrics.messages == 10


def test_transactions_of_others_are_read_when_they_are_committed(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    producer = Producer(kafka.client | {"transactional.id": topic})
    producer.init_transactions()
    for line, end in zip(orders(2), (producer.abort_transaction, producer.commit_transaction), strict=True):
        producer.begin_transaction()
        producer.produce(topic, line)
        producer.flush()
        end()
    # The last offset is the marker of the commit, which no reader ever sees.
    assert run(job_of(kafka, topic, tmp_path)).metrics.messages == 1


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


# --- several processes ------------------------------------------------------------------------------


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


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


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


# --- silence ----------------------------------------------------------------------------------------


def test_a_silent_partition_holds_no_window_open(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic(2)
    kafka.produce(topic, orders(2_000), partition=0)
    job = job_of(kafka, topic, tmp_path, source__until=None)
    job["time"] = {"max_disorder": "0s", "idle_timeout": "300ms"}
    job["window"] = [{**WINDOW, "size": "1s"}]
    assert run(job, until=lambda metrics: metrics.emitted.get("sales", 0) > 0).metrics.balanced


def test_a_silent_stream_closes_its_last_window(kafka: Kafka, tmp_path: Path) -> None:
    topic = kafka.topic()
    kafka.produce(topic, orders(5, span_ms=400))
    job = job_of(kafka, topic, tmp_path, source__until=None)
    job["time"] = {"max_disorder": "0s", "idle_timeout": "300ms"}
    job["window"] = [{**WINDOW, "size": "1s"}]

    def all_closed(metrics: Metrics) -> bool:
        return metrics.messages == 5 and metrics.windows_open == 0

    run(job, until=all_closed)
    assert sum(row["count"] for row in results(kafka, job).values()) == 5


# --- trouble ----------------------------------------------------------------------------------------


def test_topics_that_are_not_there_are_named(kafka: Kafka, source: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"kafka topic nowhere: there is none; create it"):
        run(job_of(kafka, "nowhere", tmp_path))
    sink = [{"output": "sales", "type": "kafka", "topic": topic} for topic in ("nowhere-either", "nor-here")]
    with pytest.raises(
        SinkError, match=r"kafka topic nowhere-either, nor-here: there is none.*create --topic nor-here"
    ):
        run(job_of(kafka, source, tmp_path, sink=sink))


def test_a_user_without_leave_is_told(
    kafka: Kafka, own_cluster: Cluster, source: str, tmp_path: Path
) -> None:
    def as_user(name: str, password: str) -> dict[str, Any]:
        config = {
            "bootstrap.servers": own_cluster.sasl_bootstrap,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": name,
            "sasl.password": password,
            "socket.timeout.ms": 5_000,
        }
        return job_of(
            kafka, source, tmp_path, source__config=config, sink=[], dead_letter=None, checkpoint=None
        )

    assert run(as_user("admin", USERS["admin"])).metrics.messages > 0
    with pytest.raises(SourceError, match=r"there is none; create it, or mend source.topics|authoriz"):
        run(as_user("stranger", USERS["stranger"]))


def test_a_result_that_is_too_large_ends_the_run(kafka: Kafka, source: str, tmp_path: Path) -> None:
    topic = kafka.topic(1, "small", **{"max.message.bytes": "200"})
    sink = [{"output": "sales", "type": "kafka", "topic": topic}]
    with pytest.raises(OmnistreamError, match=r"raise message\.max\.bytes"):
        run(job_of(kafka, source, tmp_path, sink=sink))
    assert kafka.read(topic) == []
