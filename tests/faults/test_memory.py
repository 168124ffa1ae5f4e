"""The memory of a job does not grow with its input: four times the stream fits into the same memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
EVENTS = 150_000
EVENTS_PER_DAY = 50_000
MOST_GROWTH_MB = 40

# Every stage works and every one keeps state: windows, ids of an hour, demand of four weeks, dead letters.
JOB = """
[source]
type = "stdin"
[schema]
use = "order"
[[clean.rule]]
check = "price_below_cost"
[clean.duplicates]
within = "1h"
[[window]]
name = "sales"
size = "1h"
keys = ["channel", "store_id"]
measures = ["count", "units_net", "net_amount", "distinct(customer_id)"]
[[window]]
name = "daily"
size = "1d"
keys = ["sku", "size"]
measures = ["units_sold"]
[[derive]]
name = "demand"
from = "daily"
demand = "units_sold"
[[sink]]
output = "sales"
path = "sales"
[[sink]]
output = "demand"
path = "demand.ndjson"
type = "ndjson"
[dead_letter]
path = "letters.ndjson"
"""


def run_generated(folder: Path, events: int) -> dict[str, Any]:
    """Pipe generated orders through a job; the stream gets longer, and not denser."""
    folder.mkdir()
    (folder / "job.toml").write_text(JOB)
    omnistream = [sys.executable, "-m", "omnistream"]
    generate = [*omnistream, "generate", "--nested", f"--events={events}", "--styles=50", "--stores=20"]
    generate += [f"--span={events * 24 // EVENTS_PER_DAY}h", "--dirt=0.01", "--duplicates=0.01"]
    with subprocess.Popen(generate, cwd=REPOSITORY, stdout=subprocess.PIPE) as source:
        job = [*omnistream, "run", "--json", str(folder / "job.toml")]
        done = subprocess.run(job, cwd=REPOSITORY, stdin=source.stdout, capture_output=True, check=True)
    assert source.returncode == 0
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    short = run_generated(tmp_path / "short", EVENTS)
    long = run_generated(tmp_path / "long", 4 * EVENTS)
    assert (short["messages"], long["messages"]) == (EVENTS, 4 * EVENTS)
    assert min(short["emitted"]["sales"], short["emitted"]["demand"], short["duplicates"]) > 100
    assert long["emitted"]["sales"] > 3 * short["emitted"]["sales"]
    assert long["state_bytes"] < 2 * short["state_bytes"]
    assert long["peak_rss_mb"] < short["peak_rss_mb"] + MOST_GROWTH_MB
