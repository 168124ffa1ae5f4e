"""The decode benchmark: every program on every workload, interleaved on one core, answers compared first.

    make bench-decode                                    # everything
    python bench/decode/run.py --workloads flat nested --peers omnistream simdjson --events 200000 --rounds 9

Prints a table per workload and, as the last line, one JSON object of throughput ratios (above 1: omnistream
is faster). A ratio is the median of the ratios of the rounds, and a round runs every program once.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from workloads import WORKLOADS, Workload

HERE = Path(__file__).parent
BUILD = HERE.parents[1] / "build" / "bench-decode"
RESULTS = HERE.parent / "results"

OURS = "omnistream"
ENGINES = ("duckdb", "polars", "pyarrow", "chdb")
LOOPS = ("orjson", "msgspec")
TWICE = " twice"  # behind a name: in two processes
FEWEST_FOR_THREADS = 1_000_000  # events: that it takes threads 0.3 ms to wake is then nothing
PEERS = (OURS, "simdjson", "plain_simdjson", "checking_simdjson", *ENGINES, *LOOPS)

# How simdjson finds fields: as many ways as could win are run, and the fastest one counts.
SIMDJSON_WAYS = {"mixed": ("unordered", "iterate"), "shuffled": ("unordered", "iterate")}
# Programs that are peers of their own: the one that one writes first, and the one that checks what it skips.
OTHER_SIMDJSON = {"plain_simdjson": ("flat", "nested"), "checking_simdjson": ("wide",)}

# key of the last line: (workload, peer)
RATIOS = {
    "flat_vs_simdjson": ("flat", "simdjson"),
    "nested_vs_simdjson": ("nested", "simdjson"),
    "flat_vs_plain_simdjson": ("flat", "plain_simdjson"),
    "nested_vs_plain_simdjson": ("nested", "plain_simdjson"),
    "flat_dictionary_vs_simdjson": ("flat_dictionary", "simdjson"),
    "nested_dictionary_vs_simdjson": ("nested_dictionary", "simdjson"),
    "wide_vs_simdjson": ("wide", "simdjson"),
    "wide_vs_checking_simdjson": ("wide", "checking_simdjson"),
    "mixed_vs_simdjson": ("mixed", "simdjson"),
    "shuffled_vs_simdjson": ("shuffled", "simdjson"),
    "pretty_vs_simdjson": ("pretty", "simdjson"),
    "shopify_vs_simdjson": ("shopify", "simdjson"),
    "flat_vs_best_engine": ("flat", "engine"),
    "nested_vs_best_engine": ("nested", "engine"),
}


@dataclass
class Worker:
    """A program that waits for requests, see worker.py."""

    name: str
    process: subprocess.Popen[str]
    version: str | None = None
    seconds: list[float] = field(default_factory=list)

    def ask(self, request: str) -> dict[str, Any]:
        self.tell(request)
        return self.listen()

    def tell(self, request: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()

    def listen(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the program: it stops when there are no more requests."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Couple(Worker):
    """A program twice, at once, each on a core of its own and with the whole file."""

    def __init__(self, name: str, one: Worker, other: Worker) -> None:
        super().__init__(name, one.process)
        self.other = other

    def tell(self, request: str) -> None:
        super().tell(request)
        self.other.tell(request)

    def listen(self) -> dict[str, Any]:
        answer, other = super().listen(), self.other.listen()
        if "seconds" in answer:  # for one of the two files
            return {"seconds": max(answer["seconds"], other["seconds"]) / 2}
        if answer != other:
            raise SystemExit(f"{self.name} differ: {answer} and {other}")
        return answer

    def close(self) -> None:
        super().close()
        self.other.close()


@dataclass
class Outcome:
    """The rounds of one workload."""

    workload: Workload
    events: int
    size_bytes: int
    workers: list[Worker]

    def best(self, peer: str) -> Worker | None:
        """The fastest of the programs that stand for a peer (``engine``: any of the engines)."""
        wanted = ENGINES if peer == "engine" else (peer,)
        candidates = [worker for worker in self.workers if worker.name.partition(":")[0] in wanted]
        return min(candidates, key=lambda worker: median(worker.seconds), default=None)

    def ratio(self, peer: str) -> float | None:
        ours, theirs = self.best(OURS), self.best(peer)
        return speed_ratio(ours, theirs) if ours and theirs else None


def speed_ratio(ours: Worker, theirs: Worker) -> float:
    return median(b / a for a, b in zip(ours.seconds, theirs.seconds, strict=True))


def start(name: str, workload: Workload, events: int, cpus: set[int]) -> Worker:
    if name.endswith(TWICE):
        one, other = (start(name.removesuffix(TWICE), workload, events, {cpu}) for cpu in sorted(cpus))
        return Couple(name, one, other)
    peer, _, way = name.partition(":")
    if peer.endswith("simdjson"):
        command = [str(BUILD / "simdjson_peer"), workload.name, way, str(workload.file(events))]
    else:
        command = [sys.executable, str(HERE / "worker.py"), name, workload.name, str(events)]
    one_thread = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | one_thread,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    return Worker(name, process)


def names_of(peers: Sequence[str], workload: Workload) -> Iterator[str]:
    for peer in peers:
        if peer == "simdjson":
            yield from (f"simdjson:{way}" for way in SIMDJSON_WAYS.get(workload.name, ("ordered",)))
        elif peer in OTHER_SIMDJSON:
            if workload.name in OTHER_SIMDJSON[peer]:
                yield f"{peer}:{peer.removesuffix('_simdjson')}"
        else:
            yield peer


def measure(
    workload: Workload, names: Sequence[str], cpus: Sequence[set[int]], events: int, rounds: int
) -> Outcome:
    """Run the programs; `cpus` gives the cores of each."""
    path = workload.file(events)
    with ExitStack() as stack:
        workers = []
        for name, where in zip(names, cpus, strict=True):
            worker = start(name, workload, events, where)
            stack.callback(worker.close)
            worker.version = worker.listen()["version"]
            if worker.version is not None:
                workers.append(worker)
        compare_answers(workload, workers)
        for worker in workers:
            worker.ask("run")  # warm up
        for turn in range(rounds):
            first = turn % len(workers)
            for worker in workers[first:] + workers[:first]:
                worker.seconds.append(worker.ask("run")["seconds"])
    return Outcome(workload, workload.events(events), path.stat().st_size, workers)


def compare_answers(workload: Workload, workers: Sequence[Worker]) -> None:
    first, *others = ((worker.name, worker.ask("answer")) for worker in workers)
    for name, answer in others:
        if answer == first[1]:
            continue
        differing = [
            f"{column}: {first[1]['columns'].get(column)} and {answer['columns'].get(column)}"
            for column in {**first[1]["columns"], **answer["columns"]}
            if first[1]["columns"].get(column) != answer["columns"].get(column)
        ]
        rows = f"{first[1]['rows']} and {answer['rows']} rows"
        raise SystemExit(f"{workload.name}: {first[0]} and {name} differ: {rows}; {'; '.join(differing)}")


def table(outcome: Outcome) -> list[str]:
    """Markdown: a row per program, the fastest first."""
    kib = outcome.size_bytes / outcome.events / 1024
    lines = [
        f"### {outcome.workload.name}: {outcome.events:,} events of {kib:.2f} KiB",
        "",
        "| program | version | M events/s | MB/s | slowest to fastest round, ms | omnistream is faster by |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    ours = outcome.best(OURS)
    for worker in sorted(outcome.workers, key=lambda worker: median(worker.seconds)):
        seconds = median(worker.seconds)
        ratio = f"{speed_ratio(ours, worker):.2f}" if ours and worker is not ours else ""
        spread = f"{max(worker.seconds) * 1e3:.1f} to {min(worker.seconds) * 1e3:.1f}"
        lines.append(
            f"| {worker.name} | {worker.version} | {outcome.events / seconds / 1e6:.2f} | "
            f"{outcome.size_bytes / seconds / 1e6:.0f} | {spread} | {ratio} |"
        )
    return [*lines, ""]


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    compiler = subprocess.run(
        ["g++", "--version"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[0]
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "compiler": compiler,
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
    }


def write_results(
    date: str, ratios: dict[str, float], outcomes: Sequence[Outcome], options: argparse.Namespace
) -> Path:
    where = machine()
    report = [
        f"# Decode, {date}",
        "",
        f"{where['cpu']}, {where['cores']} cores (one used), {where['compiler']}, CPython {where['python']}; "
        f"load average {where['load_average']:.1f} at the end. {options.rounds} rounds, medians; "
        "`make bench-decode`.",
        "",
        *(line for outcome in outcomes for line in table(outcome)),
        "```json",
        json.dumps(ratios),
        "```",
    ]
    rows = [
        {
            "workload": outcome.workload.name,
            "events": outcome.events,
            "size_bytes": outcome.size_bytes,
            "program": worker.name,
            "version": worker.version,
            "seconds": worker.seconds,
        }
        for outcome in outcomes
        for worker in outcome.workers
    ]
    RESULTS.mkdir(exist_ok=True)
    document = {"date": date, "machine": where, "rounds": options.rounds, "ratios": ratios, "measured": rows}
    (RESULTS / f"decode-{date}.json").write_text(json.dumps(document, indent=1) + "\n")
    path = RESULTS / f"decode-{date}.md"
    path.write_text("\n".join(report) + "\n")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=int, default=1_000_000, help="events of the flat file (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="default %(default)s")
    parser.add_argument("--workloads", nargs="+", default=list(WORKLOADS), choices=list(WORKLOADS))
    parser.add_argument("--peers", nargs="+", default=list(PEERS), choices=PEERS)
    parser.add_argument(
        "--threads", action=argparse.BooleanOptionalAction, default=True, help="measure two threads, too"
    )
    parser.add_argument(
        "--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the core to use (default: the last)"
    )
    parser.add_argument("--save", action="store_true", help="write bench/results/decode-<date>")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    outcomes = []
    for name in options.workloads:
        names = list(names_of(options.peers, WORKLOADS[name]))
        outcome = measure(
            WORKLOADS[name], names, [{options.cpu}] * len(names), options.events, options.rounds
        )
        print("\n".join(table(outcome)), flush=True)
        outcomes.append(outcome)
    by_workload = {outcome.workload.name: outcome for outcome in outcomes}
    ratios = {
        key: round(ratio, 3)
        for key, (workload, peer) in RATIOS.items()
        if workload in by_workload and (ratio := by_workload[workload].ratio(peer)) is not None
    }
    if options.threads and len(os.sched_getaffinity(0)) > 1:
        other = min(os.sched_getaffinity(0) - {options.cpu})
        cpus = [{options.cpu}, {options.cpu, other}, {options.cpu, other}]
        names = [f"{OURS}:1", f"{OURS}:2", f"{OURS}:1{TWICE}"]
        events = max(options.events, FEWEST_FOR_THREADS)
        both = measure(WORKLOADS["flat"], names, cpus, events, options.rounds)
        print(
            "\n".join(["With one and with two threads, and in two processes:", "", *table(both)]), flush=True
        )
        outcomes.append(both)
        one, two, twice = both.workers
        ratios["two_threads_vs_one"] = round(speed_ratio(two, one), 3)
        ratios["two_processes_vs_one"] = round(speed_ratio(twice, one), 3)
    if options.save:
        print(f"written: {write_results(dt.date.today().isoformat(), ratios, outcomes, options)}")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
