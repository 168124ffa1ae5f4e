"""The Kafka benchmark: a broker of its own, the same topic for every program, answers compared.

    make bench-kafka                                   # everything, 10 million messages for memory included
    make bench-kafka ARGUMENTS="--parts windows --rounds 3 --set fetch.message.max.bytes=8388608"

Broker and programs share the machine, as they stand here. A time is from the first message to the last
result. A ratio is the median of the ratios of the rounds, and a round runs every program once. The last line
is one JSON object:

    windows_vs_bare_loop       messages/s to closed windows, over those of a C loop that counts bytes
    windows_messages_per_s     of omnistream, the median
    windows_vs_python_loop     over those of confluent-kafka's consume() and orjson
    produce_vs_python_loop     results/s into a topic, over those of orjson and produce()
    latency_p50_ms, _p99_ms    from Kafka's time at which a window could first be known to its row on standard
                               output, under half of windows_messages_per_s
    idle_cpu_percent           of one core, following a topic that is silent
    rss_growth_mb_10m_messages resident memory in the last fifth of 10 million messages, less in the first
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from omnistream.librdkafka import librdkafka_path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))

from bench.kafka import answers  # noqa: E402
from tests.kafka.broker import FAST_JVM, Cluster  # noqa: E402
from tests.kafka.topics import Kafka  # noqa: E402

BUILD = ROOT / "build" / "bench-kafka"
RESULTS = HERE.parent / "results"
BARE = "bare C loop"
PYTHON = "confluent-kafka + orjson"
OURS = "omnistream"
EVENTS_PER_MINUTE = 20_000  # of event time
WINDOW_MS = 100  # of the latency job
PARTS = ("windows", "frameworks", "producing", "latency", "idle", "memory")
LATENCY_PER_SECOND = 250_000  # where no rate was measured
# The package that is installed, and not the sources that stand here.
OMNISTREAM = (sys.executable, "-P", "-m", "omnistream")
PEERS_PYTHON = BUILD / "peers" / "bin" / "python"


@dataclass
class Program:
    """A program, and what its rounds measured."""

    name: str
    command: Sequence[str]
    runs: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        done = subprocess.run(self.command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        self.runs.append(result)
        return result

    def per_second(self) -> float:
        return median(run["messages"] / run["seconds"] for run in self.runs)


def ratio(ours: Program, theirs: Program) -> float:
    return median(
        (a["messages"] / a["seconds"]) / (b["messages"] / b["seconds"])
        for a, b in zip(ours.runs, theirs.runs, strict=True)
    )


def table(title: str, programs: Sequence[Program], ours: Program) -> list[str]:
    lines = [
        f"### {title}",
        "",
        "| program | version | messages | M messages/s | engine thread, CPU s per M | process, CPU s per M "
        "| omnistream is faster by |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in sorted(programs, key=lambda program: -program.per_second()):
        last = each.runs[-1]
        engine, cpu = (median(run.get(key, 0.0) / run["messages"] * 1e6 for run in each.runs) for key in CPU)
        lines.append(
            f"| {each.name} | {last.get('version', '')} | {last['messages']:,} | "
            f"{each.per_second() / 1e6:.3f} | {engine:.2f} | {cpu:.2f} | "
            f"{'' if each is ours else f'{ours.per_second() / each.per_second():.2f}'} |"
        )
    return [*lines, ""]


CPU = ("engine_cpu_s", "cpu_s")


def bare(kafka: Kafka, topic: str, what: str, messages: int, *more: str) -> list[str]:
    command = [str(BUILD / "bare_loop"), librdkafka_path(), kafka.bootstrap, topic, what, str(messages)]
    return [*command, *more]


def peer(name: str, *arguments: object, python: Path | str = sys.executable) -> list[str]:
    return [str(python), str(HERE / f"{name}_peer.py"), *map(str, arguments)]


def load(kafka: Kafka, events: int, minutes: int) -> str:
    """Fill a topic with generated orders over some minutes of event time."""
    topic = kafka.topic(name="bench")
    generate = [
        *OMNISTREAM,
        "generate",
        "--events",
        str(events),
        "--span",
        f"{minutes}m",
    ]
    generate += ["--disorder", "10s", "--dirt", "0", "--duplicates", "0", "--returns", "0", "--cancels", "0"]
    with subprocess.Popen(generate, stdout=subprocess.PIPE, cwd=ROOT) as orders:
        done = subprocess.run(
            bare(kafka, topic, "produce", events),
            stdin=orders.stdout,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    result = json.loads(done.stdout)
    assert result["messages"] == events, result
    print(f"loaded {events:,} messages in {result['seconds']:.1f} s", flush=True)
    return topic


def windows(
    kafka: Kafka, topic: str, events: int, rounds: int, settings: Sequence[str] = ()
) -> tuple[Program, Program, Program]:
    limit = Program(BARE, bare(kafka, topic, "consume", events, *settings))
    ours = Program(OURS, peer("omnistream", kafka.bootstrap, topic, events, *settings))
    loop = Program(PYTHON, peer("python_loop", kafka.bootstrap, topic, events, *settings))
    programs = [limit, ours, loop]
    subprocess.run(
        limit.command, stdout=subprocess.DEVNULL, check=True, cwd=ROOT
    )  # so that the broker is warm
    for turn in range(rounds):
        for each in programs[turn % 3 :] + programs[: turn % 3]:
            each.run()
    for run in ours.runs + loop.runs:
        if run["messages"] != events or not answers.same(run["answer"], loop.runs[0]["answer"]):
            raise SystemExit(f"answers differ: {run['answer']} and {loop.runs[0]['answer']}")
    return limit, ours, loop


def frameworks(kafka: Kafka, events: int) -> list[Program]:
    """Programs that are too slow for the long topic, on a short one, with the answer of the loop."""
    if not PEERS_PYTHON.exists():
        print("Quix Streams and Bytewax are not installed (make bench-kafka does it)")
        return []
    topic = load(kafka, events, minutes=10)
    loop = Program(PYTHON, peer("python_loop", kafka.bootstrap, topic, events))
    expected = loop.run()
    programs = []
    for name, title in (("bytewax", "Bytewax"), ("quix", "Quix Streams")):
        each = Program(title, peer(name, kafka.bootstrap, topic, events, python=PEERS_PYTHON))
        try:
            result = each.run()
        except subprocess.CalledProcessError as error:
            print(f"{title} failed: exit code {error.returncode}")
            continue
        if name == "bytewax" and not answers.same(result["answer"], expected["answer"]):
            raise SystemExit(f"answers differ: {title} {result['answer']} and {expected['answer']}")
        if name == "quix":
            check_closed(result["closed"], expected["closed"])
        programs.append(each)
    return programs


def check_closed(closed: dict[str, list[float]], expected: dict[str, list[float]]) -> None:
    """Compare windows where some have not been closed: at least half are there, with the right values."""
    if len(closed) < len(expected) / 2:
        raise SystemExit(f"answers differ: {len(closed)} windows of {len(expected)} were closed")
    for key, sums in closed.items():
        if key not in expected or [round(each, 6) for each in sums] != [
            round(each, 6) for each in expected[key]
        ]:
            raise SystemExit(f"answers differ: {key} is {sums}, not {expected.get(key)}")


def producing(kafka: Kafka, rows: int, rounds: int) -> tuple[Program, Program]:
    programs = []
    for who, name in (("omnistream", OURS), ("python_loop", "orjson + produce()")):
        programs.append((who, Program(name, ())))
    sent: dict[str, list[tuple[bytes, bytes]]] = {}
    for turn in range(rounds):
        for who, program in programs[turn % 2 :] + programs[: turn % 2]:
            topic = kafka.topic(name="produce")
            program.command = peer("produce", who, kafka.bootstrap, topic, rows)
            program.run()
            sent[who] = first_messages(kafka, topic, rows)
    if [normal(each) for each in sent["omnistream"]] != [normal(each) for each in sent["python_loop"]]:
        raise SystemExit(f"messages differ: {sent['omnistream'][0]} and {sent['python_loop'][0]}")
    return programs[0][1], programs[1][1]


def first_messages(kafka: Kafka, topic: str, expected: int, count: int = 1_000) -> list[tuple[bytes, bytes]]:
    """Return the keys and values of the first messages; the topic must hold as many as were sent."""
    consumer = Consumer(kafka.client | {"group.id": "check", "enable.auto.commit": False})
    try:
        end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)[1]
        if end != expected:
            raise SystemExit(f"{topic}: {end} messages, not {expected}")
        consumer.assign([TopicPartition(topic, 0, 0)])
        messages: list[tuple[bytes, bytes]] = []
        while len(messages) < count:
            messages += [(each.key(), each.value()) for each in consumer.consume(count - len(messages), 5)]
        return messages
    finally:
        consumer.close()


def normal(message: tuple[bytes, bytes]) -> tuple[Any, Any]:
    """Return a message without the freedoms of JSON: the form of a time, the order of keys."""
    key, value = (json.loads(text) for text in message)
    key[2] = value["window_start"] = dt.datetime.fromisoformat(value["window_start"])
    return key, value


FOLLOW = """
[job]
name = "follow"
device = "cpu"
[source]
type = "kafka"
topics = "{topic}"
start = "latest"
[source.config]
"bootstrap.servers" = "{brokers}"
[source.columns]
sent = "timestamp"
[schema]
use = "order_flat"
[time]
column = "sent"
max_disorder = "0s"
idle_timeout = "2s"
[[window]]
name = "sales"
size = "{window_ms}ms"
keys = ["channel"]
measures = ["count", "sum(quantity) as units"]
[[sink]]
output = "sales"
type = "stdout"
"""


def follow(kafka: Kafka, topic: str, folder: Path) -> subprocess.Popen[str]:
    job = folder / f"{topic}.toml"
    job.write_text(FOLLOW.format(topic=topic, brokers=kafka.bootstrap, window_ms=WINDOW_MS))
    return subprocess.Popen(
        [*OMNISTREAM, "run", str(job), "--quiet"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def latency(kafka: Kafka, per_second: float, seconds: int, folder: Path) -> tuple[list[float], float]:
    """Return the latencies in ms, and the rate at which messages were sent."""
    topic = kafka.topic(name="latency")
    orders = folder / "orders.ndjson"
    messages = int(per_second * seconds)
    generate = [
        *OMNISTREAM,
        "generate",
        "--events",
        str(messages),
        "--out",
        str(orders),
    ]
    subprocess.run(
        [*generate, "--dirt", "0", "--duplicates", "0"], check=True, cwd=ROOT, stderr=subprocess.DEVNULL
    )
    job = follow(kafka, topic, folder)
    time.sleep(3)
    with orders.open("rb") as lines:
        producer = subprocess.Popen(
            bare(kafka, topic, "produce", messages, str(per_second)),
            stdin=lines,
            stdout=subprocess.PIPE,
            text=True,
        )
    assert job.stdout is not None
    latencies: list[float] = []
    warm = 2 * 1_000 // WINDOW_MS  # windows of the first seconds, when both sides find their pace
    seen: dict[str, float] = {}
    end = time.monotonic() + seconds + 5
    while time.monotonic() < end and producer.poll() is None:
        line = job.stdout.readline()
        now_ms = time.time() * 1_000
        if producer.poll() is not None:
            break  # the last windows are closed by silence
        start = json.loads(line)["window_start"]
        if start not in seen:
            began_ms = dt.datetime.fromisoformat(start).timestamp() * 1_000
            seen[start] = now_ms - (began_ms + WINDOW_MS)
    latencies = list(seen.values())[warm:]
    sent = json.loads(producer.communicate(timeout=60)[0])
    job.terminate()
    job.communicate()
    return latencies, sent["messages"] / sent["seconds"]


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_percent(kafka: Kafka, seconds: int, folder: Path) -> float:
    job = follow(kafka, kafka.topic(name="idle"), folder)
    time.sleep(5)
    before, began = cpu_seconds(job.pid), time.monotonic()
    time.sleep(seconds)
    used = (cpu_seconds(job.pid) - before) / (time.monotonic() - began) * 100
    job.terminate()
    job.communicate()
    return used


def rss_growth_mb(kafka: Kafka, events: int) -> tuple[float, list[float]]:
    topic = load(kafka, events, minutes=max(2, events // EVENTS_PER_MINUTE))
    run = Program(OURS, peer("omnistream", kafka.bootstrap, topic, max(events, 2_000_001))).run()
    if run["messages"] != events:
        raise SystemExit(f"{run['messages']} messages of {events}")

    def resident_mb(low: float, high: float) -> float:
        return median(kb for taken, kb in run["memory"] if low * events <= taken <= high * events) / 1_024

    fifths = [resident_mb(part / 5, (part + 1) / 5) for part in range(5)]
    return fifths[4] - fifths[0], fifths


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--framework-events", type=int, default=50_000)
    parser.add_argument("--produce-rows", type=int, default=300_000)
    parser.add_argument("--latency-seconds", type=int, default=20)
    parser.add_argument("--idle-seconds", type=int, default=60)
    parser.add_argument("--memory-events", type=int, default=10_000_000)
    parser.add_argument("--save", action="store_true", help="write the figures to bench/results, too")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="SETTING=VALUE", help="librdkafka's, of the consumers"
    )
    options = parser.parse_args()
    figures: dict[str, float] = {}
    lines = ["# Kafka", "", machine(), ""]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cluster = stack.enter_context(Cluster(jvm=FAST_JVM))
        kafka = Kafka(cluster.bootstrap, cluster)
        per_second = LATENCY_PER_SECOND
        if "windows" in options.parts:
            topic = load(kafka, options.events, minutes=max(2, options.events // EVENTS_PER_MINUTE))
            limit, ours, loop = windows(kafka, topic, options.events, options.rounds, options.set)
            per_second = ours.per_second() / 2
            slow = frameworks(kafka, options.framework_events) if "frameworks" in options.parts else []
            title = "Kafka to closed one-minute windows by SKU and channel"
            lines += table(title, [limit, ours, loop, *slow], ours)
            figures["windows_vs_bare_loop"] = round(ratio(ours, limit), 3)
            figures["windows_messages_per_s"] = round(ours.per_second())
            figures["windows_vs_python_loop"] = round(ratio(ours, loop), 2)
        if "producing" in options.parts:
            sink, python_sink = producing(kafka, options.produce_rows, options.rounds)
            lines += table("Results to Kafka", [sink, python_sink], sink)
            figures["produce_vs_python_loop"] = round(ratio(sink, python_sink), 2)
        if "latency" in options.parts:
            latencies, sent = latency(kafka, per_second, options.latency_seconds, folder)
            percent = quantiles(latencies, n=100, method="inclusive")
            count = f"{len(latencies)} windows of {WINDOW_MS} ms"
            lines.append(f"Latency under {sent:,.0f} messages/s: {count}.")
            figures["latency_p50_ms"] = round(percent[49], 1)
            figures["latency_p99_ms"] = round(percent[98], 1)
        if "idle" in options.parts:
            idle = idle_percent(kafka, options.idle_seconds, folder)
            lines.append(f"Idle: {idle:.2f} % of a core over {options.idle_seconds} s.")
            figures["idle_cpu_percent"] = round(idle, 2)
        if "memory" in options.parts:
            growth, fifths = rss_growth_mb(kafka, options.memory_events)
            listed = ", ".join(f"{each:.0f}" for each in fifths)
            lines.append(f"Resident memory in fifths of {options.memory_events:,} messages, MB: {listed}")
            figures["rss_growth_mb_10m_messages"] = round(growth, 1)
    print("\n".join([*lines, ""]))
    if options.save:
        name = f"kafka-{dt.date.today()}"
        (RESULTS / f"{name}.md").write_text("\n".join([*lines, ""]))
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
