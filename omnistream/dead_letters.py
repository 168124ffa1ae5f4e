"""``omnistream dlq replay``: rejected messages, mended, back into the topic that they came from.

Dead letters are read from a topic or from a file. Those of a topic that were sent back are remembered as the
committed offsets of the group ``<job>-replay``, so that no letter is sent twice, unless a crash comes between
sending and remembering.
"""

from __future__ import annotations

import json
import subprocess
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnistream.errors import JobError, OmnistreamError, SinkError, SourceError
from omnistream.schema import parse_path
from omnistream.spec import JobSpec

TIMEOUT_S = 30
HEADER = "omnistream."


@dataclass(frozen=True, slots=True)
class Letter:
    """A rejected message and where it comes from."""

    source: str
    partition: int
    offset: int
    stage: str
    reason: str
    key: bytes | None
    value: bytes


@dataclass
class Replay:
    """What a replay did, or would do.

    Attributes
    ----------
    chosen, left_out : counts of letters by reason
    failed : int
        Letters that the correction refused; they are not sent.
    sent : int
        Messages produced; 0 in a dry run.
    """

    chosen: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    sent: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            "chosen": dict(self.chosen),
            "left_out": dict(self.left_out),
            "failed": self.failed,
            "sent": self.sent,
        }


def describe(done: Replay, sent: bool) -> str:
    """Return the counts by reason, one a line."""
    lines = [f"{count:>9,}  {reason}" for reason, count in sorted(done.chosen.items())]
    lines += [f"{count:>9,}  {reason} (left out)" for reason, count in sorted(done.left_out.items())]
    if done.failed:
        lines.append(f"{done.failed:>9,}  could not be mended")
    chosen = sum(done.chosen.values()) - done.failed
    lines.append(f"{done.sent:,} sent" if sent else f"{chosen:,} would be sent; add --send to do so")
    return "\n".join(lines)


Correction = Callable[[bytes], bytes | None]


def replay(
    job: JobSpec,
    origin: str = "",
    *,
    reasons: Sequence[str] = (),
    corrections: Sequence[Correction] = (),
    to: str = "",
    again: bool = False,
    send: bool = False,
) -> Replay:
    """Send dead letters back.

    Parameters
    ----------
    origin : str
        A file of dead letters; empty: where the job's [dead_letter] goes.
    reasons : sequence of str
        Which letters; none: all that decode refused. A letter of a later stage is a row: its message's other
        rows were used, and will be again.
    corrections : sequence of callable
        Each takes a message and gives the mended one, or None where it cannot.
    to : str
        The topic; empty: the one that the message came from, in the same partition.
    again : bool
        Also letters of a topic that were sent before.
    send : bool
        Send; otherwise only count.
    """
    settings = dict(job.producer)
    if send and not settings:
        raise JobError([f"{job.file}: producer: is missing; say in [producer] where the brokers are"])
    done = Replay()
    letters = (
        _Topic(job, again) if not origin and job.dead_letter and job.dead_letter.type == "kafka" else None
    )
    seen: set[tuple[str, int, int]] = set()
    try:
        with _Outbox(settings if send else None) as outbox:
            for letter in letters.read() if letters else _read_file(_file_of(job, origin)):
                if letter.reason not in reasons if reasons else letter.stage != "decode":
                    done.left_out[letter.reason] += 1
                    continue
                place = (letter.source, letter.partition, letter.offset)
                if place in seen:
                    continue  # another row of a message that is on its way
                seen.add(place)
                done.chosen[letter.reason] += 1
                value = _mended(letter.value, corrections)
                if value is None:
                    done.failed += 1
                elif send:
                    outbox.send(to or letter.source, None if to else letter.partition, value, letter)
                    done.sent += 1
            outbox.flush()
            if letters and send:
                letters.remember()
    finally:
        if letters:
            letters.close()
    return done


def setting(assignment: str) -> Correction:
    """Return the correction of ``--mend PATH=JSON``: a value of a JSON message, replaced or added.

    Raises
    ------
    OmnistreamError
        When it is no path and JSON value.
    """
    path, equals, text = assignment.partition("=")
    try:
        keys, ends = parse_path(path)
        value = json.loads(text)
    except (OmnistreamError, ValueError) as error:
        raise OmnistreamError(
            f"--mend {assignment}: write PATH=JSON, such as channel='\"web\"': {error}"
        ) from None
    if ends or not equals:
        raise OmnistreamError(f"--mend {assignment}: write PATH=JSON without arrays, such as customer.id=5")

    def correct(message: bytes) -> bytes | None:
        try:
            document = json.loads(message)
        except ValueError:
            return None
        below = document
        for key in keys[:-1]:
            if not isinstance(below, dict):
                return None
            below = below.setdefault(key, {})
        if not isinstance(below, dict):
            return None
        below[keys[-1]] = value
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()

    return correct


def command(line: str) -> Correction:
    """Return the correction of ``--command``: a shell command that reads a message and writes it mended."""

    def correct(message: bytes) -> bytes | None:
        done = subprocess.run(line, shell=True, input=message, stdout=subprocess.PIPE, check=False)
        return done.stdout if done.returncode == 0 and done.stdout else None

    return correct


def _mended(message: bytes, corrections: Iterable[Correction]) -> bytes | None:
    mended: bytes | None = message
    for correct in corrections:
        if mended is not None:
            mended = correct(mended)
    return mended


# --- files ----------------------------------------------------------------------------------------


def _file_of(job: JobSpec, origin: str) -> Path:
    if not origin and job.dead_letter is None:
        raise JobError([f"{job.file}: dead_letter: is missing; name a file of dead letters by --from"])
    path = Path(origin or (job.dead_letter.path if job.dead_letter else ""))
    if not path.exists():
        raise SourceError(f"{path}: no such file of dead letters")
    return path


def _read_file(path: Path) -> Iterator[Letter]:
    if path.is_dir() or path.suffix == ".parquet":
        import pyarrow.parquet as pq

        records = pq.read_table(path).to_pylist()
    else:
        with path.open(encoding="utf-8") as lines:
            records = [json.loads(line) for line in lines if line.strip()]
    for record in records:
        value = record["bytes"] if "bytes" in record else _bytes_of(record, "text", "base64") or b""
        key = _bytes_of(record, "key", "key_base64")
        place = (record["source"], record["partition"], record["position"])
        yield Letter(*place, record["stage"], record["reason"], key, value)


def _bytes_of(record: dict[str, Any], name: str, packed: str) -> bytes | None:
    """Return a member of a record: bytes of Parquet, or text or base64 of JSON; None: it has none."""
    if packed in record:
        return b64decode(record[packed])
    value: bytes | str | None = record.get(name)
    return value.encode() if isinstance(value, str) else value


# --- topics ---------------------------------------------------------------------------------------


class _Topic:
    """The topic of dead letters, from where the last replay ended to where it ends now."""

    def __init__(self, job: JobSpec, again: bool) -> None:
        from confluent_kafka import Consumer, TopicPartition

        assert job.dead_letter is not None
        self._topic = job.dead_letter.topic
        group = {"group.id": f"{job.name}-replay", "enable.auto.commit": False}
        fixed = {
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
        self._consumer = Consumer({**_connection(job), **group, **fixed})
        known = self._consumer.list_topics(self._topic, timeout=TIMEOUT_S).topics[self._topic]
        if known.error is not None:
            self._consumer.close()
            raise SourceError(f"kafka topic {self._topic}: {known.error.str()}")
        partitions = [TopicPartition(self._topic, number) for number in known.partitions]
        self._ends: dict[int, int] = {}
        self._next: dict[int, int] = {}
        for each in self._consumer.committed(partitions, timeout=TIMEOUT_S):
            low, high = self._consumer.get_watermark_offsets(each, timeout=TIMEOUT_S)
            self._next[each.partition] = low if again or each.offset < low else each.offset
            self._ends[each.partition] = high

    def read(self) -> Iterator[Letter]:
        from confluent_kafka import KafkaError, TopicPartition

        waiting = {number for number, end in self._ends.items() if self._next[number] < end}
        self._consumer.assign(
            [TopicPartition(self._topic, number, self._next[number]) for number in sorted(waiting)]
        )
        while waiting:
            message = self._consumer.poll(TIMEOUT_S)
            if message is None:
                raise SourceError(f"kafka topic {self._topic}: no message for {TIMEOUT_S} s")
            number, offset = message.partition() or 0, message.offset() or 0
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    raise SourceError(f"kafka topic {self._topic}: {error.str()}")
                # A new leader that does not know yet how far its partition is committed says so too early.
                if offset >= self._ends[number]:
                    self._next[number] = max(self._next[number], self._ends[number])
                    waiting.discard(number)
            elif offset >= self._ends[number]:
                waiting.discard(number)
            else:
                self._next[number] = offset + 1
                yield from _letter_of(message)

    def remember(self) -> None:
        from confluent_kafka import TopicPartition

        offsets = [TopicPartition(self._topic, number, at) for number, at in self._next.items()]
        self._consumer.commit(offsets=offsets, asynchronous=False)

    def close(self) -> None:
        self._consumer.close()


def _letter_of(message: Any) -> Iterator[Letter]:
    """Yield the letter, if the message is one."""
    headers = {
        name.removeprefix(HEADER): value.decode()
        for name, value in message.headers() or []
        if value is not None
    }
    if message.value() is not None and "reason" in headers:
        place = (headers["source"], int(headers["partition"]), int(headers["offset"]))
        yield Letter(*place, headers["stage"], headers["reason"], message.key(), message.value())


class _Outbox:
    """The producer of a replay; None for the settings of a dry run, which sends nothing."""

    def __init__(self, settings: dict[str, str] | None) -> None:
        self._errors: list[str] = []
        self._producer: Any = None
        if settings is not None:
            from confluent_kafka import Producer

            self._producer = Producer({**settings, "enable.idempotence": True})

    def __enter__(self) -> _Outbox:
        return self

    def __exit__(self, *_: object) -> None:
        if self._producer is not None:
            self._producer.purge()

    def send(self, topic: str, partition: int | None, value: bytes, letter: Letter) -> None:
        place = {} if partition is None else {"partition": partition}
        headers = {f"{HEADER}replayed": f"{letter.source}[{letter.partition}]@{letter.offset}"}
        while True:
            try:
                self._producer.produce(
                    topic, value, letter.key, headers=headers, on_delivery=self._delivered, **place
                )
                break
            except BufferError:
                self._producer.poll(1)
        self._producer.poll(0)

    def flush(self) -> None:
        if self._producer is None:
            return
        left = self._producer.flush(TIMEOUT_S)
        if self._errors or left:
            raise SinkError(
                f"the replay was not delivered: {self._errors[0] if self._errors else 'timed out'}"
            )

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self._errors.append(error.str())


def _connection(job: JobSpec) -> dict[str, str]:
    return dict(job.producer)
