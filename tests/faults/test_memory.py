"""The memory of a job does not grow with its input, and where its state does grow, it ends with a message."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.shop_job import SHOP

REPOSITORY = Path(__file__).parents[2]
EVENTS = 150_000
EVENTS_PER_DAY = 50_000
MOST_GROWTH_MB = 40

# Every stage works and every one keeps state: windows, ids of an hour, demand of four weeks, dead letters.
JOB = f"""
[source]
type = "stdin"
{SHOP.replace("order_flat", "order")}
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


GROWING = """
[source]
path = "orders.ndjson"
batch_bytes = "1 MiB"
[schema]
use = "order_flat"
[[window]]
name = "ever"
kind = "global"
keys = ["event_id"]
measures = ["count"]
[[sink]]
output = "ever"
path = "ever.ndjson"
type = "ndjson"
[checkpoint]
path = "state"
"""
GROWING_EVENTS = 300_000
ROOM_MB = 45  # for a job of this kind beside what an empty one takes; its whole state takes more


def run_within(job: Path, data_mb: int, *settings: str) -> subprocess.CompletedProcess[str]:
    """Run a job that the system gives so much memory, and no more."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (data_mb << 20, data_mb << 20))

    command = [sys.executable, "-m", "omnistream", "run", "--json", str(job), *settings]
    return subprocess.run(
        command, cwd=REPOSITORY, preexec_fn=limit, capture_output=True, text=True, check=False
    )


def data_mb() -> int:
    """Return what the system must give a job that has nothing to do."""
    shown = "import omnistream.run, omnistream.cli, pyarrow.parquet; print(open('/proc/self/status').read())"
    told = subprocess.run(
        [sys.executable, "-c", shown], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    sizes = [line.split()[1] for line in told.stdout.splitlines() if line.startswith("VmData")]
    return int(sizes[0]) >> 10


def test_a_job_ends_at_its_limit_before_the_system_ends_it(tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(GROWING)
    generate = [sys.executable, "-m", "omnistream", "generate", "--styles=20", f"--events={GROWING_EVENTS}"]
    with (tmp_path / "orders.ndjson").open("wb") as orders:
        subprocess.run(generate, cwd=REPOSITORY, stdout=orders, check=True)
    room_mb = data_mb() + ROOM_MB

    unlimited = run_within(job, room_mb)
    assert unlimited.returncode == 1
    assert "the system gives no more memory" in unlimited.stderr
    assert "set [state] memory_limit" in unlimited.stderr
    for checkpoint in (tmp_path / "state").glob("*"):
        shutil.rmtree(checkpoint)

    limited = run_within(job, room_mb, "--set", "state.memory_limit=8 MiB")
    assert limited.returncode == 1
    assert "more than state.memory_limit (8.0 MiB): windows" in limited.stderr
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["0000000001"]

    whole = run_within(job, 4_096)
    assert whole.returncode == 0, whole.stderr
    result = json.loads(whole.stdout)
    assert result["messages"] == GROWING_EVENTS
    assert result["emitted"]["ever"] == GROWING_EVENTS
    rows = (tmp_path / "ever.ndjson").read_bytes().count(b"\n")
    assert rows == GROWING_EVENTS
