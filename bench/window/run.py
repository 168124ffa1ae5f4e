"""The window benchmark: Arrow and JSON to closed windows, interleaved on one core, answers compared first.

    make bench-window ARGUMENTS="--workloads 100k/uniform json --rows 2000000 --events 400000 --rounds 3"

Prints a table per workload and, as the last line, one JSON object. A ratio above 1 says that omnistream is
faster; it is the median of the ratios of the rounds, and a round runs every program once.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from workloads import ARROW, DATA, JSON, orders_file, raw_file

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
OURS, LIMIT, SIMDJSON = "omnistream", "table", "simdjson"
ENGINES = ("duckdb", "polars", "datafusion")
ARROW_PEERS = (OURS, *ENGINES, LIMIT)
JSON_PEERS = (OURS, SIMDJSON, "duckdb")
CHECKPOINT = "checkpoint"
CHECKPOINT_KEYS = 10_000_000
CHECKPOINT_INTERVAL_S = 10
KEY_BYTES = 8


@dataclass
class Worker:
    """A program that answers requests, see worker.py."""

    name: str
    process: subprocess.Popen[str]
    version: str = ""
    seconds: list[float] = field(default_factory=list)

    def ask(self, request: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(request, file=self.process.stdin, flush=True)
        return self.listen()

    def listen(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with code {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def started(name: str, workload: str, count: int, cpu: int) -> Iterator[Worker]:
    if name == SIMDJSON:
        command = [str(DATA / "simdjson_peer"), str(orders_file(count))]
    elif name == LIMIT:
        command = [str(DATA / "table_peer"), str(raw_file(workload, count))]
    else:
        command = [sys.executable, str(HERE / "worker.py"), name, workload, str(count)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
    )
    worker = Worker(name, process)
    try:
        worker.version = worker.listen()["version"]
        yield worker
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


@dataclass
class Outcome:
    workload: str
    rows: int
    groups: int
    workers: list[Worker]

    def worker(self, name: str) -> Worker:
        return next(worker for worker in self.workers if worker.name == name)

    def ratio(self, *names: str) -> float | None:
        """How much faster omnistream is than the fastest of these."""
        peers = [worker for worker in self.workers if worker.name in names]
        if not peers:
            return None
        best = min(peers, key=lambda worker: median(worker.seconds))
        ours = self.worker(OURS).seconds
        return round(median(b / a for a, b in zip(ours, best.seconds, strict=True)), 3)


def measure(workload: str, names: Sequence[str], count: int, rounds: int, cpu: int) -> Outcome:
    with ExitStack() as stack:
        workers = [stack.enter_context(started(name, workload, count, cpu)) for name in names]
        answers = [worker.ask("answer") for worker in workers]
        for worker, answer in zip(workers, answers, strict=True):
            if answer != answers[0]:
                raise SystemExit(f"{workload}: {names[0]}: {answers[0]}, {worker.name}: {answer}")
        for turn in range(rounds):
            first = turn % len(workers)
            for worker in workers[first:] + workers[:first]:
                worker.seconds.append(worker.ask("run")["seconds"])
    return Outcome(workload, answers[0]["rows"], answers[0]["groups"], workers)


def table(outcome: Outcome) -> list[str]:
    lines = [
        f"### {outcome.workload}: {outcome.rows:,} rows, {outcome.groups:,} groups",
        "",
        "| program | version | M rows/s | ns a row | slowest to fastest, ms | omnistream is faster by |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for worker in sorted(outcome.workers, key=lambda worker: median(worker.seconds)):
        seconds = median(worker.seconds)
        ratio = "" if worker.name == OURS else outcome.ratio(worker.name)
        spread = f"{max(worker.seconds) * 1e3:.0f} to {min(worker.seconds) * 1e3:.0f}"
        lines.append(
            f"| {worker.name} | {worker.version} | {outcome.rows / seconds / 1e6:.2f} | "
            f"{seconds / outcome.rows * 1e9:.0f} | {spread} | {ratio} |"
        )
    return [*lines, ""]


def checkpoint(keys: int, cpu: int) -> tuple[dict[str, Any], list[str]]:
    with started(OURS, "10m/each", keys, cpu) as worker:
        cost = worker.ask("checkpoint")
    figures = {
        "state_bytes_per_key": round(cost["state_bytes"] / cost["keys"] - KEY_BYTES, 1),
        "checkpoint_pause_ms_10m_keys": round(cost["pause_s"] * 1e3, 1),
        "checkpoint_throughput_share": round(cost["share"], 4),
        "checkpoint_throughput_share_one_core": round(cost["share_one_core"], 4),
        "checkpoint_cpu_share": round(cost["share_cpu"], 4),
        "restore_s_10m_keys": round(cost["restore_s"], 2),
    }
    lines = [
        f"### A checkpoint of {cost['keys']:,} keys, while rows of all of them come in",
        "",
        f"State {cost['state_bytes'] / 1e6:.0f} MB, on disk {cost['checkpoint_bytes'] / 1e6:.0f} MB; frozen "
        f"in {cost['snapshot_s'] * 1e3:.1f} ms, written by another thread in {cost['save_s']:.2f} s, read "
        f"back in {cost['restore_s']:.2f} s. The longest push took {cost['pause_s'] * 1e3:.0f} ms too long.",
        f"{CHECKPOINT_INTERVAL_S} s with a checkpoint took in {cost['share']:.1%} fewer rows than without; "
        f"{cost['share_one_core']:.1%} fewer where the writer has no core of its own. Of the CPU time of the "
        f"thread that pushes, which other work hardly changes, it took {cost['share_cpu']:.1%}.",
        "",
    ]
    return figures, lines


def growth(outcomes: dict[str, Outcome]) -> float | None:
    """How much more a row costs at 10m keys than at 100k, over the same of the hand-written table."""
    small, large = outcomes.get("100k/uniform"), outcomes.get("10m/uniform")
    if small is None or large is None:
        return None

    def grown(name: str) -> float:
        seconds = [median(each.worker(name).seconds) / each.rows for each in (small, large)]
        return seconds[1] / seconds[0]

    return round(grown(OURS) / grown(LIMIT), 3)


def machine() -> str:
    cpu = next(
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    )
    return (
        f"{cpu}, {os.cpu_count()} cores (one used), CPython {platform.python_version()}; "
        f"load average {os.getloadavg()[0]:.1f} at the end"
    )


def save(lines: Sequence[str], figures: dict[str, Any], options: argparse.Namespace) -> Path:
    date = dt.date.today().isoformat()
    where = machine()
    report = [
        f"# Windows, {date}",
        "",
        f"{where}. {options.rounds} rounds, medians; {options.rows:,} Arrow rows, {options.events:,} JSON "
        "events; `make bench-window`.",
        "",
        *lines,
        "```json",
        json.dumps(figures),
        "```",
    ]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"window-{date}.json").write_text(
        json.dumps({"date": date, "machine": where, **figures}, indent=1) + "\n"
    )
    path = RESULTS / f"window-{date}.md"
    path.write_text("\n".join(report) + "\n")
    return path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    everything = [*ARROW, JSON, CHECKPOINT]
    parser.add_argument("--workloads", nargs="+", default=everything, choices=everything)
    parser.add_argument("--rows", type=int, default=20_000_000, help="of Arrow input (default %(default)s)")
    parser.add_argument("--events", type=int, default=4_000_000, help="of JSON (default %(default)s)")
    parser.add_argument("--keys", type=int, default=CHECKPOINT_KEYS, help="of the checkpoint")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--peers", nargs="+", default=sorted({*ARROW_PEERS, *JSON_PEERS}))
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="the core to use")
    parser.add_argument("--save", action="store_true", help="write bench/results/window-<date>")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    outcomes: dict[str, Outcome] = {}
    figures: dict[str, Any] = {}
    lines: list[str] = []
    for workload in options.workloads:
        if workload == CHECKPOINT:
            cost, added = checkpoint(options.keys, options.cpu)
            figures |= cost
        else:
            peers = [
                name
                for name in (JSON_PEERS if workload == JSON else ARROW_PEERS)
                if name == OURS or name in options.peers
            ]
            count = options.events if workload == JSON else options.rows
            outcomes[workload] = measure(workload, peers, count, options.rounds, options.cpu)
            added = table(outcomes[workload])
        print("\n".join(added), flush=True)
        lines += added
    if JSON in outcomes:
        figures["json_windows_vs_simdjson"] = outcomes[JSON].ratio(SIMDJSON)
        figures["json_windows_vs_duckdb"] = outcomes[JSON].ratio("duckdb")
    arrow = {name: outcome.ratio(*ENGINES) for name, outcome in outcomes.items() if name != JSON}
    if arrow:
        figures["arrow_vs_best_engine"] = arrow
        figures["cost_growth_100k_to_10m"] = growth(outcomes) if LIMIT in options.peers else None
    if options.save:
        print(f"written: {save(lines, figures, options)}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
