"""The whole job on one core, source to derive, over generated flat orders of two lengths.

    make bench-pipeline
    python bench/pipeline.py --events 500000 --rounds 5

Each run is a process of its own, pinned to one core: ``omnistream.run_job`` on a file in the page cache.
Prints events/s (the median) and the peak of the resident memory for both lengths; the last line is one JSON
object. A stream four times as long lasts four times as long in event time, too, so the state that a job has
to keep is the same and memory must not grow.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

HOUR_MS = 3_600_000
EVENTS = 1_000_000
# 8,300 events a minute of about 50,000 SKUs, as in the flat file of bench/decode.
EVENTS_PER_HOUR = 500_000
TIMES_AS_LONG = 4

JOB: dict[str, Any] = {
    "job": {"name": "bench", "device": "cpu"},
    "schema": {"use": "order_flat"},
    "time": {"max_disorder": "30s"},
    "clean": {
        "rule": [
            {"check": "price_below_cost"},
            {"check": "positive_quantity"},
            {"check": "price_range", "low": "0.01", "high": 10_000},
            {"check": "discount_range"},
            {"check": "allowed", "column": "event_type"},
        ],
        "duplicates": {"key": ["event_id"], "within": "10m"},
    },
    "window": [
        {
            "name": "minute",
            "size": "1m",
            "keys": ["sku", "channel"],
            "measures": ["count", "units_sold", "net_amount"],
        },
        {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["units_sold", "gross_amount"]},
    ],
    "derive": [
        {
            "name": "demand",
            "from": "daily",
            "demand": "units_sold",
            "horizon_days": 28,
            "service_level": 0.95,
            "lead_time_days": 7,
        }
    ],
}


def stream(events: int, events_per_hour: int = EVENTS_PER_HOUR) -> dict[str, Any]:
    """Options of `omnistream.generate.generate` for a stream at a fixed rate."""
    return {
        "events": events,
        "span_ms": events * HOUR_MS // events_per_hour,
        "styles": 2_000,
        "duplicates": 0.001,
    }


def run_once(path: str) -> dict[str, Any]:
    from omnistream import parse_job, run_job

    result = run_job(parse_job({**JOB, "source": {"path": path}})).to_dict()
    ledger = result["aggregated"] + result["rejected_rows"] + result["duplicates"] + result["late"]
    if result["rejected_messages"] or ledger != result["rows"]:
        raise SystemExit(f"the ledger does not balance: {result}")
    return result


def measure(path: Path, events: int, rounds: int, cpu: int) -> dict[str, Any]:
    runs = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--run", str(path)]
        process = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {cpu}),
        )
        runs.append(json.loads(process.stdout))
        if runs[-1]["messages"] != events:
            raise SystemExit(f"{runs[-1]['messages']} messages came through, not {events}")
    return {
        "events": events,
        "events_per_second": round(median(run["events_per_second"] for run in runs)),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "windows": runs[0]["emitted"],
        "rejected_rows": runs[0]["rejected_rows"],
        "duplicates": runs[0]["duplicates"],
        "late": runs[0]["late"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--events", type=int, default=EVENTS, help="of the shorter stream (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="default: the last")
    parser.add_argument("--run", metavar="FILE", help=argparse.SUPPRESS)  # what each process does
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_once(options.run)))
        return

    from omnistream.generate import generate

    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, events in (("short", options.events), ("long", TIMES_AS_LONG * options.events)):
            path = Path(folder) / f"{name}.ndjson"
            generate(path, **stream(events))
            result = results[name] = measure(path, events, options.rounds, options.cpu)
            speed = result["events_per_second"] / 1e6
            print(
                f"{events:>12,} events: {speed:.2f} M events/s, peak {result['peak_rss_mb']:.0f} MB",
                flush=True,
            )
    growth = round(results["long"]["peak_rss_mb"] / results["short"]["peak_rss_mb"], 3)
    print(json.dumps({**results, "peak_rss_long_vs_short": growth}))


if __name__ == "__main__":
    main()
