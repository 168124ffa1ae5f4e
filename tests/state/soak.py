"""A job under a steady stream: its memory must stay flat, and no window may be left open.

    python -m tests.state.soak --minutes 30

The command itself runs, with windows of every kind, demand, dead letters, metrics and checkpoints. Orders
come through a named pipe at an even pace, and event time goes 600 times as fast as the clock: a day is closed
every two and a half minutes. Memory is read from the system, the state's size from the job's own Prometheus
figures. The last line is one JSON object:

    rss_start_mb, rss_end_mb  resident memory over the first and the last fifth after the warm-up (medians)
    state_start_mb, ...       what the job says of its own state, and of the windows that are open
    windows_left, groups_left at the end
    lost                      messages and rows that are in no result and no dead letter, or in too many
    cpu_share                 of one core
    flat, sound               whether memory was flat; whether everything held
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pyarrow.compute as pc
import pyarrow.parquet as pq

from omnistream import _core

REPOSITORY = Path(__file__).parents[2]
EVENT_TIME_PER_CLOCK = 600
WRITES_PER_SECOND = 4
EVENT_BYTES = 300
SAMPLES = 120
WARM_UP = 0.3  # share of the time
MOST_GROWTH = 0.04  # of the memory at the start

MEASURES = (
    '["count", "units_net", "net_amount", "top(size, 2)", "approx_distinct(customer_id)", "last(order_id)"]'
)
JOB = f"""
[source]
path = "orders"
batch_bytes = "64 KiB"
[schema]
use = "order_flat"
[[clean.rule]]
check = "price_below_cost"
[clean.duplicates]
within = "1h"
[[window]]
name = "hours"
size = "1h"
keys = ["sku", "channel"]
emit = "early"
every = "15m"
measures = {MEASURES}
[[window]]
name = "rolling"
kind = "hopping"
size = "6h"
hop = "1h"
keys = ["store_id"]
measures = {MEASURES}
[[window]]
name = "visits"
kind = "session"
gap = "1h"
keys = ["sku", "store_id"]
measures = {MEASURES}
[[window]]
name = "days"
size = "1 day"
time_zone = "Asia/Shanghai"
keys = ["sku"]
measures = ["units_sold", "quantile(unit_price, 0.9)", "distinct(order_id)"]
[[window]]
name = "ever"
kind = "global"
keys = ["channel"]
measures = ["count"]
[[derive]]
name = "demand"
from = "days"
demand = "units_sold"
horizon_days = 3
[[sink]]
output = "hours"
path = "out/hours"
[[sink]]
output = "rolling"
path = "out/rolling"
[[sink]]
output = "visits"
path = "out/visits"
[[sink]]
output = "demand"
path = "out/demand.ndjson"
type = "ndjson"
[[sink]]
output = "ever"
path = "out/ever.ndjson"
type = "ndjson"
[dead_letter]
path = "out/letters.ndjson"
[checkpoint]
path = "state"
interval = "5s"
[metrics]
address = "127.0.0.1"
port = {{port}}
"""


@dataclass
class Sample:
    """One look at the running job."""

    at_s: float
    rss_mb: float
    windows_open: int
    groups: int
    state_mb: float


@dataclass
class Verdict:
    """What the last line says."""

    minutes: float
    messages: int
    rss_start_mb: float
    rss_end_mb: float
    rss_most_mb: float
    state_start_mb: float
    state_end_mb: float
    windows_open_start: float
    windows_open_end: float
    windows_left: int
    groups_left: int
    late: int
    lost: int
    cpu_share: float
    flat: bool
    sound: bool


def soak(folder: Path, minutes: float, events_per_second: int) -> Verdict:
    """Run the job for so long, and judge it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "job.toml").write_text(JOB.replace("{port}", str(port)))
    os.mkfifo(folder / "orders")
    seconds = minutes * 60
    events = int(seconds * events_per_second)
    generator = _core.Generator(
        seed=7,
        events=events,
        span_ms=int(seconds * 1_000 * EVENT_TIME_PER_CLOCK),
        styles=40,
        stores=20,
        customers=20_000,
        dirt=0.002,
        duplicates=0.01,
    )
    command = [sys.executable, "-m", "omnistream", "run", "--json", "--quiet", str(folder / "job.toml")]
    samples: list[Sample] = []
    done = threading.Event()
    with (folder / "result.json").open("wb") as result:
        job = subprocess.Popen(command, cwd=REPOSITORY, stdout=result)
        watching = threading.Thread(target=watch, args=(job, port, seconds / SAMPLES, samples, done))
        watching.start()
        try:
            feed(folder / "orders", generator, events, seconds)
            job.wait(timeout=300)
        finally:
            done.set()
            watching.join()
            job.kill()
            job.wait()
    if job.returncode != 0:
        raise RuntimeError(f"the job ended with {job.returncode}")
    answer = json.loads((folder / "result.json").read_text())
    return judge(folder, samples, answer, generator.counts(), minutes)


def feed(pipe: Path, generator: _core.Generator, events: int, seconds: float) -> None:
    """Write the stream at an even pace."""
    block_bytes = max(1 << 12, int(EVENT_BYTES * events / seconds / WRITES_PER_SECOND))
    begin = time.monotonic()
    with pipe.open("wb") as out:
        while (block := generator.next(block_bytes)) is not None:
            out.write(block)
            out.flush()
            time.sleep(max(0.0, begin + seconds * generator.events / events - time.monotonic()))


def watch(
    job: subprocess.Popen[bytes], port: int, every_s: float, samples: list[Sample], done: threading.Event
) -> None:
    """Look at the job now and then until it is done."""
    begin = time.monotonic()
    while not done.wait(every_s):
        status = Path(f"/proc/{job.pid}/status")
        with suppress(OSError, AttributeError, URLError):  # it is only starting, or ending
            resident = re.search(r"VmRSS:\s+(\d+) kB", status.read_text())
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                text = answer.read().decode()
            figures = {
                name: float(re.search(rf"^omnistream_{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)[1])
                for name in ("windows_open", "groups", "state_bytes", "messages_total")
            }
            sample = Sample(
                round(time.monotonic() - begin, 1),
                int(resident[1]) / 1024,
                int(figures["windows_open"]),
                int(figures["groups"]),
                figures["state_bytes"] / 2**20,
            )
            samples.append(sample)
            print(sample, int(figures["messages_total"]), "messages", flush=True)


def judge(
    folder: Path, samples: list[Sample], result: dict[str, Any], counts: dict[str, Any], minutes: float
) -> Verdict:
    """Compare the ends of the run, its ledger and its results."""
    steady = samples[int(len(samples) * WARM_UP) :]
    fifth = max(1, len(steady) // 5)
    start, end = steady[:fifth], steady[-fifth:]

    def median(of: list[Sample], name: str) -> float:
        return round(statistics.median(getattr(each, name) for each in of), 1)

    rows = result["rows"] - result["rejected_rows"] - result["duplicates"]
    taken = rows - result["late"]
    hours = pq.read_table(folder / "out" / "hours", columns=["count", "final"])
    told_hours = pc.sum(hours.filter(hours["final"])["count"]).as_py()
    told_visits = pc.sum(pq.read_table(folder / "out" / "visits", columns=["count"])["count"]).as_py()
    ever = [path.read_text().splitlines() for path in sorted((folder / "out").glob("ever*.ndjson"))]
    told_ever = sum(json.loads(line)["count"] for lines in ever for line in lines)
    letters = sum(path.read_bytes().count(b"\n") for path in (folder / "out").glob("letters*.ndjson"))
    refused = result["rejected_messages"] + result["rejected_rows"] + result["duplicates"] + result["late"]
    lost = (
        abs(counts["events"] - result["messages"])
        + abs(counts["duplicates"] - result["duplicates"])
        + abs(rows - told_ever)  # no row is late for it
        + abs(taken - told_hours)
        + abs(taken - told_visits)
        + abs(refused - letters)
    )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    rss_start, rss_end = median(start, "rss_mb"), median(end, "rss_mb")
    flat = rss_end <= rss_start * (1 + MOST_GROWTH)
    closed = result["windows_open"] == 0 and result["groups"] == 0
    return Verdict(
        minutes=minutes,
        messages=result["messages"],
        rss_start_mb=rss_start,
        rss_end_mb=rss_end,
        rss_most_mb=round(max(each.rss_mb for each in samples), 1),
        state_start_mb=median(start, "state_mb"),
        state_end_mb=median(end, "state_mb"),
        windows_open_start=median(start, "windows_open"),
        windows_open_end=median(end, "windows_open"),
        windows_left=result["windows_open"],
        groups_left=result["groups"],
        late=result["late"],
        lost=lost,
        cpu_share=round((usage.ru_utime + usage.ru_stime) / (minutes * 60), 3),
        flat=flat,
        sound=flat and closed and lost == 0,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=int, default=1_500, help="messages a second (default: %(default)s)")
    arguments = parser.parse_args()
    os.nice(19)
    with tempfile.TemporaryDirectory(prefix="omnistream-soak-") as folder:
        verdict = soak(Path(folder), arguments.minutes, arguments.rate)
    print(json.dumps(asdict(verdict)))
    return 0 if verdict.sound else 1


if __name__ == "__main__":
    sys.exit(main())
