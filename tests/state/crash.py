"""A file job that is killed at random points and started again: its output is that of an undisturbed run.

    python -m tests.state.crash --runs 100

A job reads a plain and a packed file of orders with every kind of dirt, has windows of every kind,
demand and dead letters, and takes a checkpoint after nearly every block. It is killed (SIGKILL) one
to five times, at random moments, and then runs to its end; then the next job, until so many runs
were killed. What readers see is compared byte for byte, the files of an output in the order of
their numbers. The last line is one JSON object:

    runs        how many were killed
    jobs        how many were brought to their end
    lost        rows that the undisturbed run wrote and these did not
    duplicated  rows that are there more often than in the undisturbed run
    different   outputs that are not the same bytes
    resumed     starts that went on from a checkpoint
    unfinished  files and checkpoints that were left behind at the end
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from omnistream import _core
from omnistream.checkpoint import remove
from omnistream.job import parse_job
from omnistream.run import run_job

FORK = multiprocessing.get_context("forkserver")
PRELOAD = ["omnistream.run", "omnistream.job"]
EVENTS = 8_000
MOST_KILLS = 5
JOBS_PER_PACE = 8
RUN_SECONDS = 300

MEASURES = ["count", "units_net", "net_amount", "std(unit_price)", "top(size, 2)", "last(order_id)"]
NAMES = ("hours", "rolling", "visits", "visits_so_far", "sold", "days", "ever", "demand")


def tables(threads: int) -> dict[str, Any]:
    def window(name: str, **keys: Any) -> dict[str, Any]:
        return {"name": name, "keys": ["sku"], "measures": MEASURES, **keys}

    sinks = [{"output": name, "type": "ndjson", "path": f"out/{name}.ndjson"} for name in NAMES]
    sinks.append({"output": "hours", "type": "parquet", "path": "out/hours", "partition_by": ["channel"]})
    return {
        "job": {"name": "crash", "threads": threads},
        "source": {"path": ["a.ndjson", "b.ndjson.gz"], "batch_bytes": "64 KiB"},
        "schema": {"use": "order_flat"},
        "state": {"shards": threads},
        "lifecycle": {"sale_key": ["order_id"]},
        "clean": {"rule": [{"check": "price_below_cost"}], "duplicates": {"within": "1h"}},
        "window": [
            window("hours", size="1h", keys=["sku", "channel"], emit="early", every="20m"),
            window("rolling", kind="hopping", size="3h", hop="1h", keys=["store_id"]),
            window("visits", kind="session", gap="30m", keys=["sku", "store_id"]),
            window("visits_so_far", kind="session", gap="30m", emit="early", every="1h"),
            window("sold", size="1h", allowed_lateness="1d", correct="original_sale"),
            window("days", size="1 day", time_zone="Asia/Shanghai", measures=["units_sold"]),
            window("ever", kind="global", keys=["channel"]),
        ],
        "derive": [{"name": "demand", "from": "days", "demand": "units_sold", "horizon_days": 3}],
        "sink": sinks,
        "dead_letter": {"path": "out/letters.ndjson"},
        "checkpoint": {"path": "state", "interval": "30ms"},
    }


@dataclass
class Tally:
    """What the last line says."""

    runs: int = 0
    jobs: int = 0
    lost: int = 0
    duplicated: int = 0
    different: int = 0
    resumed: int = 0
    unfinished: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not (self.lost or self.duplicated or self.different or self.unfinished)


def write_orders(folder: Path, seed: int) -> None:
    """Three days of orders in two files."""
    generator = _core.Generator(
        seed=seed, events=EVENTS, span_ms=3 * 86_400_000, dirt=0.01, duplicates=0.02, styles=8, stores=3
    )
    lines: list[bytes] = []
    while block := generator.next(1 << 20):
        lines += block.splitlines(keepends=True)
    half = len(lines) // 2
    (folder / "a.ndjson").write_bytes(b"".join(lines[:half]))
    (folder / "b.ndjson.gz").write_bytes(gzip.compress(b"".join(lines[half:]), 1))


def run(folder: Path, threads: int) -> None:
    """Run the job as the command does."""
    os.chdir(folder)  # so that rejects of all folders name the same files
    run_job(parse_job(tables(threads)))


def start(folder: Path, threads: int) -> Any:
    process = FORK.Process(target=run, args=(folder, threads))
    process.start()
    return process


def finish(folder: Path, threads: int) -> float:
    """Run the job to its end; returns the seconds that it took."""
    begin = time.monotonic()
    process = start(folder, threads)
    process.join(RUN_SECONDS)
    if process.exitcode != 0:
        process.kill()
        raise RuntimeError(f"{folder}: the job ended with {process.exitcode}")
    return time.monotonic() - begin


def visible(folder: Path) -> dict[str, list[bytes]]:
    """What a reader finds of each output, row by row."""
    found = {}
    for name in (*NAMES, "letters"):
        first = folder / "out" / f"{name}.ndjson"
        files = [first, *sorted((folder / "out").glob(f"{name}-*.ndjson"))]
        found[name] = b"".join(file.read_bytes() for file in files).splitlines()
    for channel in sorted((folder / "out" / "hours").iterdir()):
        parts = [pq.read_table(file, partitioning=None) for file in sorted(channel.glob("*.parquet"))]
        rows = pa.concat_tables(parts).to_pylist()
        found[f"hours/{channel.name}"] = [repr(row).encode() for row in rows]
    return found


def left_behind(folder: Path) -> list[Path]:
    hidden = [path for path in (folder / "out").rglob(".*") if path.is_file()]
    return hidden + list((folder / "state").iterdir())


def is_done(folder: Path) -> bool:
    """Whether a run was killed after its end: its files are there, and it needs its checkpoints no more."""
    kept = [path for path in (folder / "state").glob("*") if not path.name.startswith(".")]
    return not kept and any((folder / "out").glob("*.ndjson"))


def crash(
    folder: Path, threads: int, kills: int, seconds: float, chance: random.Random, tally: Tally
) -> None:
    """Kill a job so many times, and bring it to its end; a run from begin to end takes so many seconds."""
    for _ in range(kills):
        process = start(folder, threads)
        process.join(chance.uniform(0, seconds))
        if process.exitcode is not None:
            if process.exitcode != 0:
                raise RuntimeError(f"{folder}: the job ended with {process.exitcode}")
            return  # this one was done before it was killed
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        tally.runs += 1
        tally.resumed += any((folder / "state").glob("0*"))
        if is_done(folder):
            remove(folder / "state")  # what was killed in the middle of this, as the next job here does
            return
    finish(folder, threads)


def crash_jobs(runs: int, seed: int, root: Path, note: Callable[[str], None] = print) -> Tally:
    """Crash jobs until so many runs were killed, and compare each with the undisturbed one."""
    FORK.set_forkserver_preload(PRELOAD)
    chance = random.Random(seed)
    tally = Tally()
    whole = root / "whole"
    whole.mkdir()
    write_orders(whole, seed)
    finish(whole, 1)
    expected = visible(whole)
    seconds = 0.0
    while tally.runs < runs:
        if tally.jobs % JOBS_PER_PACE == 0:
            seconds = pace(root, whole)
        folder = copied(whole, root / f"job-{tally.jobs}")
        kills = min(chance.randint(1, MOST_KILLS), runs - tally.runs)
        crash(folder, chance.choice([1, 1, 2]), kills, seconds, chance, tally)
        tally.jobs += 1
        compare(folder, expected, tally)
        note(f"{folder.name}: {tally.runs} killed so far, {'all is well' if tally.sound else 'NOT the same'}")
        shutil.rmtree(folder)
    return tally


def copied(whole: Path, folder: Path) -> Path:
    """Return a new folder with the same input."""
    folder.mkdir()
    for file in ("a.ndjson", "b.ndjson.gz"):
        os.link(whole / file, folder / file)
    return folder


def pace(root: Path, whole: Path) -> float:
    """Return how long an undisturbed run takes now."""
    folder = copied(whole, root / "pace")
    seconds = finish(folder, 1)
    shutil.rmtree(folder)
    return seconds


def compare(folder: Path, expected: dict[str, list[bytes]], tally: Tally) -> None:
    """Add what is wrong to the tally."""
    found = visible(folder)
    for name in expected.keys() | found.keys():
        wanted, got = expected.get(name, []), found.get(name, [])
        if got == wanted:
            continue
        lost, twice = Counter(wanted) - Counter(got), Counter(got) - Counter(wanted)
        tally.different += 1
        tally.lost += lost.total()
        tally.duplicated += twice.total()
        tally.notes.append(f"{folder.name}/{name}: lost {list(lost)[:1]}, in excess {list(twice)[:1]}")
    leftovers = left_behind(folder)
    tally.unfinished += len(leftovers)
    tally.notes += [f"left behind: {path}" for path in leftovers[:3]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="omnistream-crash-") as folder:
        tally = crash_jobs(arguments.runs, arguments.seed, Path(folder))
    answer = asdict(tally)
    for line in answer.pop("notes"):
        print(line)
    print(json.dumps(answer))
    return 0 if tally.sound else 1


if __name__ == "__main__":
    sys.exit(main())
