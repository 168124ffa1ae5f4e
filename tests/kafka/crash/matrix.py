"""The crash matrix: jobs with exactly-once delivery are killed at every step, and their output is checked.

    python -m tests.kafka.crash.matrix --seeds 20

A case is a step and a seed. The seed makes the orders, and says at which call of the step the job dies:
before it, in it, or after it. Every other case dies a second time, while it recovers. Besides the job's own
steps the broker is killed (`broker`), one of three is killed or stopped, so that partitions, group and
transactions get other leaders (`cluster`), and a group changes (`rebalance`: a second member joins, and the
first is killed). Then the job runs to the end of its input, and a reader with ``read_committed`` compares
what it finds with what plain Python makes of the same messages (orders.py). The last line is one JSON object:

    cases             how many were run
    lost              results that are missing
    duplicated        results that are there more than once
    aborted_reads     results that no input accounts for: of a state or a transaction that was taken back
    ledger_mismatches messages that are neither in a result nor once in the dead letters, or counted otherwise
    kills             how many processes were killed
    missed            cases whose job ended before it came to the call that should kill it
    aborted_messages  messages in the output topics that readers must not see, and did not
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import multiprocessing
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from decimal import Decimal
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.kafka.broker import Cluster
from tests.kafka.crash import steps
from tests.kafka.crash.orders import JOB, Orders, make_orders
from tests.kafka.crash.steps import PRELOAD, STEPS, Strike
from tests.kafka.topics import Kafka

# Calls that a run of the input is sure to come to.
CALLS = {"poll": 15, "decode": 15, "window": 15, "produce": 10, "snapshot": 8}
FEWER_CALLS = 2  # of a step that is once in a checkpoint
# Checkpoints are saved while messages come in: so slow that there is time for several.
PACE_S = 0.03
LONGEST_DELAY_S = 0.003
# Slow enough for something to happen in the middle.
PAUSE_S = 0.25
RUN_SECONDS = 120
MOST_RUNS = 5
CASES_AT_ONCE = 3
BROKER_CASES_AT_ONCE = 5
BROKER_STEPS = ("broker", "cluster")
ALL = (*STEPS, "rebalance", *BROKER_STEPS)

FORK = multiprocessing.get_context("forkserver")


@dataclass
class Tally:
    """What the checker found."""

    cases: int = 0
    lost: int = 0
    duplicated: int = 0
    aborted_reads: int = 0
    ledger_mismatches: int = 0
    kills: int = 0
    missed: int = 0
    aborted_messages: int = 0
    notes: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def sound(self) -> bool:
        return not (self.lost or self.duplicated or self.aborted_reads or self.ledger_mismatches)

    def to_json(self) -> str:
        counts = asdict(self)
        del counts["notes"]
        return json.dumps(counts)


class Case:
    """One job with topics and a folder of its own."""

    def __init__(self, kafka: Kafka, step: str, seed: int, folder: Path) -> None:
        self.name = f"{step}-{seed}"
        self.kafka = kafka
        self.step = step
        self.draw = random.Random(f"{step} {seed}")
        self.folder = folder / self.name
        self.folder.mkdir()
        partitions = 2 + seed % 2 if step == "rebalance" else 1 + seed % 3
        self.orders: Orders = make_orders(seed, partitions)
        self.input, self.output, self.letters = kafka.topics(
            {f"{self.name}-in": partitions, f"{self.name}-out": 1, f"{self.name}-letters": 1}
        )
        kafka.produce_partitions(self.input, self.orders.partitions)
        self.tally = Tally(cases=1)
        self.job = JOB

    def start(
        self, member: str = "first", strike: Strike | None = None, pause_s: float = 0.0
    ) -> ForkServerProcess:
        text = self.job.format(
            name=self.input,
            member=member,
            bootstrap=self.kafka.bootstrap,
            input=self.input,
            output=self.output,
            letters=self.letters,
        )
        (self.folder / f"{member}.toml").write_text(text)
        process = FORK.Process(target=steps.run, args=(self.folder, member, strike, pause_s), daemon=True)
        process.start()
        return process

    def wait(self, process: ForkServerProcess) -> int:
        """Return the exit code; a job that does not end in time is a failure of the matrix itself."""
        process.join(RUN_SECONDS)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise RuntimeError(f"{self.name}: a run did not end in {RUN_SECONDS} s, see {self.folder}")
        if process.exitcode == -signal.SIGKILL:
            self.tally.kills += 1
        return process.exitcode

    def finish(self) -> Tally:
        """Run to the end of the input, and check."""
        for _ in range(MOST_RUNS):
            if (code := self.wait(self.start())) == 0:
                break
        else:
            raise RuntimeError(f"{self.name}: ended with code {code}, {MOST_RUNS} times; see {self.folder}")
        self.check()
        return self.tally

    # --- what happens to the job ---

    def crash(self) -> Tally:
        """Kill the job at its step."""
        strike = self.strike(CALLS.get(self.step, FEWER_CALLS))
        if self.wait(self.start(strike=strike, pause_s=PACE_S)) != -signal.SIGKILL:
            self.tally.missed += 1
            self.tally.notes.append(f"{self.name}: ended before {strike}")
        if self.draw.random() < 0.5:
            self.wait(self.start(strike=self.strike(2)))
        return self.finish()

    def strike(self, most_calls: int) -> Strike:
        moment = self.draw.choice(("before", "during", "after"))
        if self.step in ("poll", "snapshot_saved"):
            moment = "after"
        call = self.draw.randint(1, most_calls)
        return Strike(self.step, call, moment, self.draw.uniform(0, LONGEST_DELAY_S))

    def must_run(self, process: ForkServerProcess) -> None:
        """Note it when a job has come to its end before something could happen to it."""
        if process.exitcode is not None:
            self.tally.missed += 1
            self.tally.notes.append(f"{self.name}: ended with code {process.exitcode} too early")

    def rebalance(self) -> Tally:
        """Let a second member join, kill the first, and let the second go on alone."""
        first = self.start("first", pause_s=PAUSE_S)
        time.sleep(self.draw.uniform(0.5, 2.0))
        second = self.start("second", pause_s=PAUSE_S)
        time.sleep(self.draw.uniform(0.5, 3.5))
        self.must_run(first)
        first.kill()
        self.wait(first)
        self.wait(second)
        return self.finish()

    # --- the checker ---

    def check(self) -> None:
        self.check_results()
        self.check_letters()
        self.check_ledgers()
        hidden = [self.kafka.read(topic, "read_uncommitted") for topic in (self.output, self.letters)]
        self.tally.aborted_messages += sum(map(len, hidden)) - self.visible
        if not self.tally.sound:
            self.tally.notes.append(
                f"{self.name}: see {self.folder} and topics {self.output}, {self.letters}"
            )

    def check_results(self) -> None:
        messages = self.kafka.read(self.output)
        self.visible = len(messages)
        found: Counter[tuple[str, str, int]] = Counter()
        for message in messages:
            row = json.loads(message.value(), parse_float=Decimal)
            key = (row["sku"], row["channel"], epoch_ms(row["window_start"]))
            values = (row["count"], row["units_net"], Decimal(str(row["net_amount"])))
            if self.orders.results.get(key) == values:
                found[key] += 1
            else:
                self.tally.aborted_reads += 1
                self.tally.notes.append(
                    f"{self.name}: {message.offset()}: {key} is {values}, not {self.orders.results.get(key)}"
                )
        self.tally.lost += sum(1 for key in self.orders.results if key not in found)
        self.tally.duplicated += sum(count - 1 for count in found.values())

    def check_letters(self) -> None:
        found: Counter[tuple[int, int, str]] = Counter()
        messages = self.kafka.read(self.letters)
        self.visible += len(messages)
        for message in messages:
            headers = {name: value.decode() for name, value in message.headers()}
            partition, offset = int(headers["omnistream.partition"]), int(headers["omnistream.offset"])
            if message.value() != self.orders.partitions[partition][offset]:
                self.tally.notes.append(
                    f"{self.name}: the dead letter of {partition}, {offset} is not what came in"
                )
                self.tally.ledger_mismatches += 1
            found[partition, offset, headers["omnistream.reason"]] += 1
        differing = (found - self.orders.letters) + (self.orders.letters - found)
        self.tally.ledger_mismatches += differing.total()
        self.tally.notes += [
            f"{self.name}: dead letter {letter}, {count}" for letter, count in differing.items()
        ]

    def check_ledgers(self) -> None:
        """What each run that came to an end counted. A member's ledger goes on over its crashes."""
        counted = [json.loads(path.read_text()) for path in sorted(self.folder.glob("*.ledger.json"))]
        for ledger in counted:
            rows = ledger["aggregated"] + ledger["rejected_rows"] + ledger["duplicates"] + ledger["late"]
            balanced = ledger["messages"] == ledger["decoded"] + ledger["rejected_messages"]
            if not balanced or ledger["rows"] != rows:
                self.tally.ledger_mismatches += 1
                self.tally.notes.append(f"{self.name}: the ledger does not balance: {ledger}")
        if self.step == "rebalance" or counted[-1]["messages"] == 0:
            return  # shared out among members; or the last run found that all had been done and committed
        ledger = counted[-1]
        letters = (
            ledger["rejected_messages"] + ledger["rejected_rows"] + ledger["duplicates"] + ledger["late"]
        )
        if (ledger["messages"], letters) != (self.orders.messages, self.orders.letters.total()):
            self.tally.ledger_mismatches += 1
            self.tally.notes.append(
                f"{self.name}: {self.orders.messages} messages, and the ledger is {ledger}"
            )


def epoch_ms(text: str) -> int:
    return round(dt.datetime.fromisoformat(text).timestamp() * 1_000)


def fell_broker(cluster: Cluster, cases: Sequence[Case], seed: int) -> list[Tally]:
    """Take a broker away under several jobs at once, and bring it back: they heal, or end and run again.

    Of three it is the leader of a job's input, killed or stopped; it may be away until all jobs have ended.
    """
    draw = random.Random(seed)
    running = [case.start(pause_s=PAUSE_S) for case in cases]
    time.sleep(draw.uniform(1.0, 3.0))
    leader = cases[0].kafka.leader(cases[0].input)
    node = cluster.nodes[leader - 1]
    for case, process in zip(cases, running, strict=True):
        case.must_run(process)
        case.tally.kills += 1
    alone = len(cluster.nodes) == 1
    node.kill() if alone or draw.random() < 0.7 else node.stop()
    stays_away = not alone and draw.random() < 0.5
    if not stays_away:
        time.sleep(draw.uniform(0.0, 2.0))
        node.start()
    for case, process in zip(cases, running, strict=True):
        case.wait(process)
    tallies = [case.finish() for case in cases]
    if stays_away:
        node.start()
    cluster.wait()
    return tallies


def run_matrix(
    kafka: Kafka, which: Sequence[str], seeds: Sequence[int], folder: Path, verbose: bool = False
) -> Tally:
    """Run all cases of some steps. `cluster` is for three nodes, the others are for any number."""
    FORK.set_forkserver_preload(PRELOAD)
    total = Tally()
    lock = threading.Lock()

    def done(step: str, seed: int, tally: Tally, began: float) -> None:
        with lock:
            total.add(tally)
            if verbose:
                print(
                    f"{step:<14} seed {seed:>3}  {time.monotonic() - began:5.1f} s  {tally.to_json()}",
                    flush=True,
                )
                print("".join(f"  {note}\n" for note in tally.notes), end="", flush=True)

    def one(step: str, seed: int) -> None:
        began = time.monotonic()
        case = Case(kafka, step, seed, folder)
        done(step, seed, case.rebalance() if step == "rebalance" else case.crash(), began)

    with ThreadPoolExecutor(CASES_AT_ONCE) as pool:
        alone = [pool.submit(one, step, seed) for step in which if step not in BROKER_STEPS for seed in seeds]
        for each in alone:
            each.result()
    for step in [step for step in which if step in BROKER_STEPS]:
        assert kafka.cluster is not None, "the broker must be our own, to be killed"
        for first in range(0, len(seeds), BROKER_CASES_AT_ONCE):
            began = time.monotonic()
            group = seeds[first : first + BROKER_CASES_AT_ONCE]
            cases = [Case(kafka, step, seed, folder) for seed in group]
            for seed, tally in zip(group, fell_broker(kafka.cluster, cases, group[0]), strict=True):
                done(step, seed, tally, began)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20, help="cases of each step (default 20)")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--steps", nargs="+", choices=ALL, default=ALL)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="omnistream-crash-"))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tally = Tally()
    for size, possible in ((1, [*STEPS, "rebalance", "broker"]), (3, ["cluster"])):
        if steps_here := [step for step in options.steps if step in possible]:
            with Cluster(size) as cluster:
                kafka = Kafka(cluster.bootstrap, cluster)
                tally.add(run_matrix(kafka, steps_here, seeds, folder, verbose=True))
    if tally.sound:
        shutil.rmtree(folder)
    else:
        print(f"what the jobs left behind is in {folder}")
    print(tally.to_json())
    sys.exit(0 if tally.sound and not tally.missed else 1)


if __name__ == "__main__":
    main()
