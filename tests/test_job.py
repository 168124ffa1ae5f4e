"""Jobs: what a good one becomes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from omnistream.errors import JobError
from omnistream.job import load_job, parse_job
from omnistream.measures import Condition
from omnistream.mistakes import duration_ms, size_bytes
from omnistream.spec import DeadLetterSpec, DuplicatesSpec, SinkSpec, SourceSpec, TimeSpec
from tests.job_documents import DAILY, flat


def test_smallest_job_has_the_defaults() -> None:
    job = parse_job(flat())
    assert job.name == "job"
    assert job.device == "auto"
    assert job.source is None
    assert job.time == TimeSpec("event_time", 30_000)
    assert job.amount is not None
    assert (job.amount.quantity, job.amount.unit_price, job.amount.discount) == (
        "quantity",
        "unit_price",
        "discount",
    )
    assert job.columns["amount"] == "decimal"
    assert job.windows == job.derives == job.sinks == job.rules == ()


def test_every_table_of_a_file_arrives(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b.ndjson").touch()
    (tmp_path / "in" / "a.ndjson").touch()
    file = tmp_path / "shop.toml"
    file.write_text(
        """
        [job]
        device = "cpu"
        [source]
        path = ["in/*.ndjson"]
        compression = "none"
        batch_bytes = "1 MiB"
        [schema]
        use = "order"
        [time]
        max_disorder = "500ms"
        [lifecycle]
        sold = ["paid", "created"]
        [[clean.rule]]
        check = "price_range"
        low = 0.01
        [clean.duplicates]
        key = "event_id"
        within = "2h"
        [[window]]
        name = "daily"
        size = "1d"
        offset = "6h"
        allowed_lateness = "10m"
        keys = ["sku", "store_id"]
        measures = ["count", "units_sold"]
        [[window.measure]]
        name = "back"
        op = "sum"
        column = "quantity"
        where = "event_type = 'returned'"
        [[derive]]
        name = "stock"
        from = "daily"
        demand = "units_sold"
        service_level = 0.975
        lead_time_days = 3.5
        [[sink]]
        output = "daily"
        path = "out/daily"
        partition_by = ["window_start"]
        [[sink]]
        output = "stock"
        type = "stdout"
        [dead_letter]
        path = "out/rejects.ndjson"
        [checkpoint]
        path = "out/state"
        interval = "10s"
        """
    )
    job = load_job(file)
    assert job.name == "shop"
    assert job.source == SourceSpec("file", (str(tmp_path / "in/*.ndjson"),), "ndjson", "none", 1 << 20)
    assert job.time == TimeSpec("event_time", 500)
    assert [rule.to_core()["low"] for rule in job.rules] == [100]
    assert job.duplicates == DuplicatesSpec(("event_id",), 7_200_000)
    window = job.window("daily")
    assert (window.size_ms, window.offset_ms, window.allowed_lateness_ms) == (86_400_000, 21_600_000, 600_000)
    assert [measure.name for measure in window.measures] == ["count", "units_sold", "back"]
    assert window.measures[1].condition == Condition("event_type", ("paid", "created"))
    assert window.measures[2].condition == Condition("event_type", ("returned",))
    derive = job.derives[0]
    assert (derive.window, derive.horizon_days, derive.lead_time_days) == ("daily", 28, 3.5)
    assert math.isclose(derive.z, 1.959963984540054, rel_tol=1e-12)
    assert job.sinks == (
        SinkSpec("daily", "parquet", str(tmp_path / "out/daily"), ("window_start",)),
        SinkSpec("stock", "stdout"),
    )
    assert job.dead_letter == DeadLetterSpec(str(tmp_path / "out/rejects.ndjson"))
    assert job.checkpoint is not None
    assert job.checkpoint.interval_ms == 10_000
    assert not (tmp_path / "out").exists(), "a check writes nothing"


def test_core_options_of_a_window_and_a_derive() -> None:
    job = parse_job(flat(window=[DAILY], derive=[{"name": "stock", "from": "daily", "demand": "units_sold"}]))
    window = job.window("daily")
    core = window.to_core(job.time.column, job.columns)
    assert core["time_column"] == "event_time"
    assert core["types"]["sku"] == "dictionary"
    assert core["measures"] == [
        {
            "name": "units_sold",
            "op": "sum",
            "column": "quantity",
            "condition": {"column": "event_type", "plus": ["paid"], "minus": []},
        }
    ]
    demand = job.derives[0].to_core(window, job.columns)
    assert demand["keys"] == ["sku"]
    assert demand["types"] == {
        "window_start": "timestamp",
        "window_end": "timestamp",
        "sku": "dictionary",
        "units_sold": "int64",
    }


def test_hopping_session_and_global_windows() -> None:
    hopping = {**DAILY, "kind": "hopping", "size": "10m", "hop": "5m", "offset": "1m"}
    visit = {"name": "visit", "kind": "session", "gap": "30m", "measures": ["count"]}
    ever = {"name": "ever", "kind": "global", "measures": ["count as window_start"]}
    job = parse_job(flat(window=[hopping, visit, ever]))
    window = job.window("daily")
    assert (window.size_ms, window.hop_ms, window.offset_ms) == (600_000, 300_000, 60_000)
    assert window.explain() == "daily: hopping 600000 ms every 300000 ms by sku: units_sold"
    assert job.window("ever").output_columns(job.columns) == {"window_start": "int64"}
    assert job.window("visit").to_core("event_time", job.columns)["gap_ms"] == 1_800_000
    assert job.window("ever").explain() == "ever: global by no key: window_start"


def test_a_global_window_whose_keys_go_is_one_of_sessions() -> None:
    goes = {"name": "w", "kind": "global", "ttl": "90d", "keys": ["sku"], "measures": ["count"]}
    silent = {**goes, "kind": "session", "gap": "90d"}
    del silent["ttl"]
    assert parse_job(flat(window=[goes])).windows == parse_job(flat(window=[silent])).windows


def test_calendar_windows() -> None:
    def window(**keys: str) -> Any:
        return parse_job(flat(window=[{**DAILY, **keys}])).window("daily")

    day = window(time_zone="Asia/Shanghai", offset="6h", allowed_lateness="1h")
    assert (day.kind, day.unit, day.time_zone) == ("calendar", "day", "Asia/Shanghai")
    assert (day.offset_ms, day.allowed_lateness_ms) == (21_600_000, 3_600_000)
    assert day.is_one_day
    assert day.zone()[-1] == (684_867_600_000, 28_800_000)  # summer time ended on 1991-09-15
    assert window(size="1 week").explain() == "daily: a week in UTC by sku: units_sold"
    assert not window(size="1 month").is_one_day
    early = window(emit="early", every="10s")
    assert early.early_ms == 10_000
    assert list(early.output_columns({"sku": "dictionary", "quantity": "int64"}))[-2:] == [
        "revision",
        "final",
    ]
    assert window().kind == "tumbling"


def test_a_schema_of_ones_own_has_amounts_when_asked() -> None:
    schema = {
        "explode": "items[]",
        "field": [
            {"name": "at", "path": "at", "type": "timestamp", "required": True},
            {"name": "pieces", "path": "items[].n", "type": "int64"},
            {"name": "price", "path": "items[].p", "type": "decimal"},
        ],
    }
    time = {"column": "at"}
    assert "amount" not in parse_job({"schema": schema, "time": time}).columns
    job = parse_job({"schema": schema, "time": time, "amount": {"quantity": "pieces", "unit_price": "price"}})
    assert job.columns["gross_amount"] == "decimal"
    assert job.amount is not None
    assert job.amount.discount == ""


def test_the_examples_are_jobs(tmp_path: Path) -> None:
    files = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))
    assert len(files) >= 4
    (tmp_path / "input.ndjson").touch()
    for file in files:
        reads_file = "[source]\npath" in file.read_text()
        overrides = [f"source.path={tmp_path / 'input.ndjson'}"] if reads_file else []
        job = load_job(file, overrides, needs_source=True)
        assert job.windows


def test_overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "jobs" / "job.toml"
    file.parent.mkdir()
    file.write_text(
        '[schema]\nuse = "order_flat"\n[[window]]\nname = "w"\nsize = "1m"\nmeasures = ["count"]\n'
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.ndjson").touch()
    job = load_job(
        file, ["window.0.size=1h", 'window.0.keys=["sku"]', "source.path=here.ndjson", "job.device=cpu"]
    )
    assert (job.windows[0].size_ms, job.windows[0].keys) == (3_600_000, ("sku",))
    assert job.source is not None
    assert job.source.path == (str(tmp_path / "here.ndjson"),)
    for override in ("size", "=3", "window.x.size=1h", "window.7.size=1h", "schema.use.x=1"):
        with pytest.raises(JobError, match=r"--set .*; "):
            load_job(file, [override])


# ---- durations and sizes ----


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("500ms", 500),
        ("30s", 30_000),
        ("5m", 300_000),
        ("1.5h", 5_400_000),
        ("1d", 86_400_000),
        (" 2 h ", 7_200_000),
    ],
)
def test_durations(text: str, length: int) -> None:
    assert duration_ms(text) == length


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1w", "0.5ms", "1h30m", "1e3s", "99999999999d"])
def test_no_durations(text: str) -> None:
    assert duration_ms(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("4 MiB", 4 << 20), ("64kib", 64 << 10), ("1.5 KB", 1_500), ("10B", 10), ("1GiB", 1 << 30)],
)
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size
