"""The command, as a shell sees it: real processes, real files, exit codes, one line per error."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.shop_job import SHOP

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-W", "error", "-m", "omnistream"]

JOB = f"""
[source]
path = "orders.ndjson"
{SHOP}
[[sink]]
output = "sales"
path = "out/sales"
[[sink]]
output = "daily"
type = "ndjson"
path = "out/daily.ndjson"
[[sink]]
output = "demand"
type = "arrow"
path = "out/demand.arrows"
[dead_letter]
path = "out/rejects.ndjson"
"""

STREAM = """
[source]
type = "stdin"
[schema]
use = "order_flat"
[time]
max_disorder = "0s"
[[window]]
name = "sales"
size = "1m"
measures = ["count"]
[[sink]]
output = "sales"
type = "stdout"
"""


def omnistream(
    *arguments: object, cwd: Path | None = None, stdin: bytes = b"", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd or ROOT,
        input=stdin,
        capture_output=True,
        env=process_environment(**(environment or {})),
        check=False,
        timeout=120,
    )


def process_environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def order(event_id: str, event_time: str, **more: Any) -> bytes:
    event = {
        "event_id": event_id,
        "event_type": "paid",
        "event_time": event_time,
        "order_id": f"order-{event_id}",
        "channel": "web",
        "store_id": "S1",
        "sku": "A",
        "qty": 2,
        "unit_price": 10.5,
        "unit_cost": 4,
        "discount": 0.1,
        **more,
    }
    return json.dumps(event).encode() + b"\n"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a job and eight messages: four are good, one is broken, two faulty, one a duplicate."""
    (tmp_path / "job.toml").write_text(JOB)
    messages = [
        order("1", "2026-11-11T10:00:00Z"),
        order("2", "2026-11-11T10:10:00Z", channel="store"),
        b'{"event_id": "3", "event_ty\n',
        order("4", "2026-11-11T10:20:00Z", qty=0),
        order("5", "2026-11-11T10:30:00Z", unit_price=1),
        order("1", "2026-11-11T10:30:00Z"),
        order("6", "2026-11-11T11:00:00Z", event_type="returned"),
        order("7", "2026-11-12T09:00:00+01:00"),
    ]
    (tmp_path / "orders.ndjson").write_bytes(b"".join(messages))
    return tmp_path


def one_line(text: bytes) -> str:
    assert text.count(b"\n") == 1, text.decode()
    return text.decode().strip()


# ---- before anything runs ----


def test_help_is_instant_because_it_loads_no_big_package() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "omnistream", "--help"],
        env=process_environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "usage: omnistream" in done.stdout
    assert "omnistream.cli" in done.stderr
    for package in ("pyarrow", "numpy", "rich", "omnistream._core"):
        assert not any(line.split("|")[-1].strip() == package for line in done.stderr.splitlines()), package


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["run"],
        ["run", "job.toml", "--fast"],
        ["generate", "--dirt", "2"],
        ["generate", "--events", "0"],
        ["generate", "--span", "soon"],
    ],
)
def test_a_mistake_in_the_command_is_one_line(arguments: list[str]) -> None:
    done = omnistream(*arguments)
    assert done.returncode == 2
    assert done.stdout == b""
    assert "--help" in one_line(done.stderr)


def test_version() -> None:
    assert one_line(omnistream("version").stdout).startswith("omnistream ")


def test_check_reads_no_data_and_prints_every_mistake(shop: Path) -> None:
    (shop / "orders.ndjson").write_bytes(b"this is not read")
    done = omnistream("check", "job.toml", cwd=shop)
    assert (done.returncode, done.stderr) == (0, b"")
    assert one_line(done.stdout) == "job.toml: ok: 2 windows, 1 derive, 3 sinks"

    (shop / "bad.toml").write_text(JOB.replace('"1h"', '"0h"').replace('"channel"', '"chanel"'))
    done = omnistream("check", "job.toml", "bad.toml", "none.toml", cwd=shop)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == [
        'bad.toml: clean.duplicates.within: "0h" is not longer than zero; write a duration such as "1h"',
        'bad.toml: window[0] "sales".size: "0h" is not longer than zero; write a duration such as "1m"',
        'bad.toml: window[0] "sales".keys: "chanel" is not a column of the schema; did you mean "channel"?',
        "none.toml: cannot be read (No such file or directory); give the path of a job file",
    ]
    assert not (shop / "out").exists()


def test_debug_shows_where(shop: Path) -> None:
    done = omnistream("check", "--debug", "none.toml", cwd=shop)
    assert b"Traceback" in done.stderr
    assert done.returncode != 0


# ---- run ----


def run_json(folder: Path, *arguments: str) -> dict[str, Any]:
    done = omnistream("run", "job.toml", "--json", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    result: dict[str, Any] = json.loads(one_line(done.stdout))
    return result


def test_run_writes_every_output_and_the_ledger_balances(shop: Path) -> None:
    result = run_json(shop)
    assert result["messages"] == 8
    assert result["decoded"] == 7
    assert result["rows"] == 7
    assert result["aggregated"] == 4
    assert result["duplicates"] == 1
    assert result["late"] == 0
    assert sum(result["rejects"].values()) == 3
    assert result["rejects"]["non_positive_quantity"] == 1
    assert result["rejects"]["price_below_cost"] == 1
    assert result["events_per_second"] > 0
    assert result["peak_rss_mb"] > 1
    assert result["stopped_by"] == ""
    assert result["bytes_read"] == (shop / "orders.ndjson").stat().st_size
    assert set(result["outputs"]) == {"sales", "daily", "demand", "rejects"}
    for path in (path for paths in result["outputs"].values() for path in paths):
        assert (shop / path).is_file()

    sales = pq.read_table(shop / "out" / "sales").to_pylist()
    shown = [
        (str(row["window_start"]), row["channel"], row["count"], row["units"], row["units_sold"])
        for row in sales
    ]
    assert shown == [
        ("2026-11-11 10:00:00+00:00", "store", 1, 2, 2),
        ("2026-11-11 10:00:00+00:00", "web", 1, 2, 2),
        ("2026-11-11 11:00:00+00:00", "web", 1, 2, 0),
        ("2026-11-12 08:00:00+00:00", "web", 1, 2, 2),
    ]
    assert [str(row["net_amount"]) for row in sales] == ["18.9000", "18.9000", "-18.9000", "18.9000"]

    letters = [json.loads(line) for line in (shop / "out" / "rejects.ndjson").read_text().splitlines()]
    faults = [(letter["stage"], letter["reason"], letter["position"]) for letter in letters]
    assert faults == [
        ("decode", "truncated_json", 3),
        ("clean", "non_positive_quantity", 4),
        ("clean", "price_below_cost", 5),
        ("clean", "duplicate", 6),
    ]


def test_a_second_run_refuses_to_mix_outputs_unless_told(shop: Path) -> None:
    first = run_json(shop)
    done = omnistream("run", "job.toml", cwd=shop)
    assert done.returncode == 1
    assert "out/sales" in one_line(done.stderr)
    again = run_json(shop, "--overwrite")
    assert again["outputs"]["daily"] == first["outputs"]["daily"]
    assert pq.read_table(shop / "out" / "sales").num_rows == 4


def test_set_changes_a_key_for_one_run(shop: Path) -> None:
    run_json(shop, "--set", "window.0.size=1d", "--set", "job.device=cpu")
    assert pq.read_table(shop / "out" / "sales").num_rows == 3


def test_results_do_not_depend_on_the_batch_size(shop: Path) -> None:
    run_json(shop)
    whole = {path: path.read_bytes() for path in (shop / "out").rglob("*.ndjson")}
    sales = pq.read_table(shop / "out" / "sales")
    run_json(shop, "--overwrite", "--set", "source.batch_bytes=1")
    assert {path: path.read_bytes() for path in whole} == whole
    assert pq.read_table(shop / "out" / "sales").equals(sales)


def test_a_fault_at_run_time_is_one_line_and_leaves_nothing_half_written(shop: Path) -> None:
    (shop / "orders.ndjson").rename(shop / "orders.ndjson.gz")
    done = omnistream("run", "job.toml", "--set", f"source.path={shop / 'orders.ndjson.gz'}", cwd=shop)
    assert done.returncode == 1
    assert done.stdout == b""
    assert "orders.ndjson.gz" in one_line(done.stderr)
    assert [path for path in (shop / "out").rglob("*") if path.is_file()] == []


def test_json_and_a_stdout_sink_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(STREAM)
    done = omnistream("run", "job.toml", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert "--json" in one_line(done.stderr)


def test_stdin_to_stdout(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(STREAM)
    lines = order("1", "2026-11-11T10:00:00Z") + order("2", "2026-11-11T10:00:30Z")
    done = omnistream("run", "job.toml", cwd=tmp_path, stdin=lines)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(one_line(done.stdout))["count"] == 2


def start(arguments: Sequence[str], cwd: Path, stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=cwd,
        env=process_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_what_is_final(tmp_path: Path, number: signal.Signals, code: int) -> None:
    (tmp_path / "job.toml").write_text(STREAM)
    with start(["run", "job.toml"], tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order("1", "2026-11-11T10:00:00Z") + order("2", "2026-11-11T10:01:00Z"))
        process.stdin.flush()
        first = json.loads(process.stdout.readline())  # so the batch is done, and the run waits for input
        process.send_signal(number)
        rest, errors = process.communicate(timeout=60)
    assert first["count"] == 1
    assert process.returncode == code
    assert rest == b"", "the window of the second order was still open"
    assert errors == b""


def test_silence_on_stdin_closes_the_last_window(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(STREAM)
    silent = ["--set", "time.idle_timeout=300ms", "--set", "window.0.size=1s"]
    with start(["run", "job.toml", *silent], tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        first, second = order("1", "2026-11-11T10:00:00Z"), order("2", "2026-11-11T10:01:00Z")
        for text, minute in ((first + second[:20], 0), (second[20:], 1)):  # half a line is silence, too
            process.stdin.write(text)
            process.stdin.flush()
            row = json.loads(process.stdout.readline())
            assert (row["window_start"], row["count"]) == (f"2026-11-11T10:{minute:02}:00.000Z", 1)
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, rest, errors) == (0, b"", b"")


def test_whoever_closes_our_output_early_gets_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(STREAM)
    with start(["run", "job.toml"], tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(order("1", "2026-11-11T10:00:00Z") + order("2", "2026-11-11T10:01:00Z"))
        process.stdin.close()
        errors = process.stderr.read()
        process.wait(timeout=60)
    assert process.returncode == 1
    assert b"Traceback" not in errors
    assert errors.count(b"\n") <= 1


def test_progress_is_shown_on_a_terminal(shop: Path) -> None:
    shown = on_a_terminal(shop, "run", "job.toml")
    for part in ("done after", "events/s", "8 messages", "price_below_cost 1", "duplicate 1", "sales: "):
        assert part in shown
    assert "100%" in shown
    assert "watermark" in shown


def test_quiet_is_quiet_on_a_terminal_too(shop: Path) -> None:
    assert on_a_terminal(shop, "run", "job.toml", "--quiet") == ""


def on_a_terminal(folder: Path, *arguments: str) -> str:
    """Run with a terminal as standard error; returns what it shows."""
    ours, theirs = pty.openpty()
    with start(arguments, folder, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # on Linux, the end of a terminal whose other side has closed
                break
            if not piece:
                break
            shown += piece
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    os.close(ours)
    return shown.decode()


# ---- explain, generate, schema ----


def test_explain_names_the_stages(shop: Path) -> None:
    done = omnistream("explain", "job.toml", cwd=shop)
    assert done.returncode == 0, done.stderr.decode()
    text = done.stdout.decode()
    for part in ("decode", "clean", "window", "sales", "daily", "demand", "cpu"):
        assert part in text


def test_generate_is_seeded_and_has_both_shapes(tmp_path: Path) -> None:
    arguments = ("generate", "--events", "2_000", "--seed", "7")
    flat = omnistream(*arguments).stdout
    assert (
        flat
        == omnistream(*arguments, "--out", tmp_path / "flat.ndjson").stdout
        + (tmp_path / "flat.ndjson").read_bytes()
    )
    assert [path.name for path in tmp_path.iterdir()] == ["flat.ndjson"]
    assert flat != omnistream("generate", "--events", "2_000", "--seed", "8").stdout
    events = [json.loads(line) for line in flat.splitlines()]
    assert len(events) == 2_000
    assert {"event_id", "event_type", "event_time", "sku", "qty", "unit_price"} <= set(events[0])
    nested = omnistream(*arguments, "--nested").stdout
    assert all(json.loads(line)["lines"] for line in nested.splitlines())


@pytest.mark.parametrize("example", ["orders_flat", "orders_nested"])
def test_the_examples_run_on_generated_orders(tmp_path: Path, example: str) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "examples" / f"{example}.toml").write_bytes(
        (ROOT / "examples" / f"{example}.toml").read_bytes()
    )
    shape = ["--nested"] if example == "orders_nested" else []
    made = omnistream(
        "generate",
        "--events",
        20_000,
        "--dirt",
        0.01,
        "--out",
        f"data/{example}.ndjson",
        *shape,
        cwd=tmp_path,
    )
    assert made.returncode == 0, made.stderr.decode()
    done = omnistream("run", f"examples/{example}.toml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    result = json.loads(done.stdout)
    rejects = sum(result["rejects"].values())
    undecoded = result["messages"] - result["decoded"]
    assert result["messages"] == 20_000
    assert undecoded > 0
    assert (
        result["rows"] == result["aggregated"] + rejects - undecoded + result["duplicates"] + result["late"]
    )


def test_schemas_are_inferred_shown_and_compared(tmp_path: Path) -> None:
    sample = tmp_path / "sample.ndjson"
    assert omnistream("generate", "--events", "500", "--nested", "--out", sample).returncode == 0
    inferred = omnistream("schema", "infer", sample)
    assert inferred.returncode == 0, inferred.stderr.decode()
    (tmp_path / "mine.toml").write_bytes(inferred.stdout)
    shown = omnistream("schema", "show", tmp_path / "mine.toml").stdout.decode()
    assert 'explode = "lines[]"' in shown
    same = omnistream("schema", "diff", tmp_path / "mine.toml", sample)
    assert (same.returncode, one_line(same.stdout)) == (0, "no difference")
    differs = omnistream("schema", "diff", "order_flat", sample)
    assert differs.returncode == 1
    assert "+ lines[].sku: dictionary" in differs.stdout.decode()


def test_a_sample_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    done = omnistream("schema", "infer", tmp_path / "none.ndjson")
    assert done.returncode == 1
    assert "none.ndjson" in one_line(done.stderr)


def test_an_unknown_schema_is_one_line() -> None:
    done = omnistream("schema", "show", "ordre")
    assert done.returncode == 2
    assert "order_flat" in one_line(done.stderr)
