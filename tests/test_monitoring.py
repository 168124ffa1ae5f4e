"""What a running job tells: figures for Prometheus, logs as JSON lines."""

from __future__ import annotations

import dataclasses
import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from omnistream.errors import JobError, OmnistreamError
from omnistream.job import parse_job
from omnistream.monitoring import BY_LABEL, COUNTERS, GAUGES
from omnistream.pipeline import Metrics
from omnistream.run import run_job
from omnistream.spec import MetricsSpec
from tests.test_message_formats import FLAT, json_message, orders

DEADLINE_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scrape(port: int) -> dict[tuple[str, ...], float]:
    """Return every figure, by its name and the values of its labels, sorted by label, but the job's."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (
                sample.name,
                *(value for label, value in sorted(sample.labels.items()) if label != "job"),
            ): sample.value
            for family in families
            for sample in family.samples
        }


def wait_for(port: int, good: Callable[[dict[tuple[str, ...], float]], bool]) -> dict[tuple[str, ...], float]:
    """Scrape until the figures are `good`."""
    deadline = time.monotonic() + DEADLINE_S
    figures: dict[tuple[str, ...], float] = {}
    while time.monotonic() < deadline:
        try:
            figures = scrape(port)
        except OSError:
            time.sleep(0.05)
            continue
        if good(figures):
            return figures
        time.sleep(0.05)
    pytest.fail(f"never came: {figures}")


def omnistream(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "omnistream", *arguments], **options)


JOB = """
[source]
type = "stdin"
[schema]
use = "order_flat"
[[window]]
name = "sales"
size = "1m"
keys = ["sku"]
measures = ["count"]
[[sink]]
output = "sales"
path = "sales.parquet"
"""


def test_every_figure_has_a_place() -> None:
    names = {field.name for field in dataclasses.fields(Metrics)}
    assert names == {*COUNTERS, *BY_LABEL, *GAUGES, "windows"}


def test_a_running_job_is_scraped_and_logs_json(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    port = free_port()
    events = orders(1_000)
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = ("run", str(tmp_path / "job.toml"), "--metrics-port", str(port), "--log-format", "json")
    with omnistream(*command, **pipes) as job:
        assert job.stdin is not None
        assert job.stderr is not None
        try:
            job.stdin.write(b"broken\n")
            for event in events:
                job.stdin.write(json_message(event) + b"\n")
            job.stdin.flush()

            def seen(figures: dict[tuple[str, ...], float]) -> bool:
                job.stdin.write(b"\n")  # a blank line is no message, and shows that all is well
                job.stdin.flush()
                return figures["omnistream_messages_total",] == 1_001

            figures = wait_for(port, seen)
            job.stdin.close()
            assert job.wait(DEADLINE_S) == 0
        finally:
            job.kill()
        lines = [json.loads(line) for line in job.stderr]
    assert figures["omnistream_rejects_total", "invalid_json"] == 1
    assert figures["omnistream_rejected_messages_total",] == 1
    assert figures["omnistream_decoded_total",] == 1_000
    assert figures["omnistream_max_event_time_seconds",] == events[-1]["event_time"] / 1_000
    assert figures["omnistream_partition_watermark_seconds", "0", "stdin"] == pytest.approx(
        events[-1]["event_time"] / 1_000 - 30
    )
    assert figures["omnistream_emitted_total", "sales"] > 0
    assert figures["omnistream_window_open", "sales"] == figures["omnistream_windows_open",] > 0
    assert figures["omnistream_window_groups", "sales"] == figures["omnistream_groups",] > 0
    assert 0 < figures["omnistream_window_bytes", "sales"] < figures["omnistream_state_bytes",]
    assert figures["omnistream_read_bytes_total",] > 100_000
    assert figures["process_resident_memory_bytes",] > 0
    assert (lines[0]["message"], lines[-1]["message"]) == ("job started", "job ended")
    assert lines[0].keys() >= {"time", "level", "logger", "job", "source"}
    assert lines[-1]["messages"] == 1_001


def test_an_error_is_a_line_of_json(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB.replace("sales.parquet", "/proc/none/sales.parquet"))
    command = ("run", str(tmp_path / "job.toml"), "--log-format", "json")
    with omnistream(*command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as job:
        assert job.stderr is not None
        lines = [json.loads(line) for line in job.stderr]
    assert job.returncode == 1
    assert lines[-1]["level"] == "error"
    assert "/proc/none" in lines[-1]["message"]


def test_a_port_that_is_taken_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "orders.ndjson").write_bytes(json_message(orders(1)[0]) + b"\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        document = {
            **FLAT,
            "source": {"path": "orders.ndjson"},
            "metrics": {"port": taken.getsockname()[1], "address": "127.0.0.1"},
        }
        job = parse_job(document, base_dir=tmp_path)
        with pytest.raises(OmnistreamError, match="cannot be used"):
            run_job(job)


def test_jobs_say_where() -> None:
    assert parse_job({**FLAT, "metrics": {}}).metrics == MetricsSpec(9108, "0.0.0.0")
    with pytest.raises(JobError, match=r"metrics\.port"):
        parse_job({**FLAT, "metrics": {"port": 0}})
