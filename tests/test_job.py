"""Jobs: what a good one becomes, and what every mistake says."""

from __future__ import annotations

import datetime as dt
import math
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream.errors import JobError
from omnistream.job import load_job, parse_job
from omnistream.measures import (
    OPERATIONS,
    RETAIL,
    Condition,
    Lifecycle,
    MeasureError,
    MeasureSpec,
    misfit,
    named_measure,
    parse_condition,
    parse_measure,
)
from omnistream.mistakes import duration_ms, size_bytes
from omnistream.spec import DeadLetterSpec, DuplicatesSpec, SinkSpec, SourceSpec, TimeSpec

DAILY = {"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["units_sold"]}


def flat(**tables: Any) -> dict[str, Any]:
    return {"schema": {"use": "order_flat"}, **tables}


def problems_of(document: dict[str, Any], base_dir: Path | str = ".") -> list[str]:
    with pytest.raises(JobError) as caught:
        parse_job(document, file="job.toml", base_dir=base_dir)
    return caught.value.problems


def the_problem(document: dict[str, Any], base_dir: Path | str = ".") -> str:
    problems = problems_of(document, base_dir)
    assert len(problems) == 1, problems
    return problems[0]


# ---- a good job ----


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


# ---- many mistakes at once ----

TEN_MISTAKES = """
[job]
device = "gpu"
[source]
path = "missing/*.ndjson"
bach_bytes = "4 MiB"
[schema]
use = "order_flat"
[time]
max_disorder = 30
[[clean.rule]]
check = "price_below_costs"
[[clean.rule]]
check = "required"
column = "sku_id"
[[window]]
name = "sales"
size = "0m"
keys = ["stor_id"]
measures = ["count", "sum(sku)", "units_solid"]
[[window]]
name = "daily"
size = "1d"
measures = ["units_sold"]
[[derive]]
name = "stock"
from = "daily"
demand = "units_sold"
service_level = 1.2
[[sink]]
output = "sale"
path = "sales"
[dead_letter]
path = "job.toml/rejects.ndjson"
"""


def test_many_mistakes_give_one_line_each(tmp_path: Path) -> None:
    file = tmp_path / "job.toml"
    file.write_text(TEN_MISTAKES)
    with pytest.raises(JobError) as caught:
        load_job(file)
    found = [problem.removeprefix(f"{file}: ") for problem in caught.value.problems]
    assert found == [
        'job.device: "gpu" is not known; did you mean "cpu"?',
        'source.bach_bytes: is not a known key; did you mean "batch_bytes"?',
        f'source.path: no file at "{tmp_path}/missing/*.ndjson"; '
        "create it, or mend the path (it starts at the job's folder)",
        'time.max_disorder: 30 is not a duration; write one such as "30s" (ms, s, m, h, d)',
        'clean.rule[0].check: "price_below_costs" is not known; did you mean "price_below_cost"?',
        'clean.rule[1].column: "sku_id" is not a column of the schema; did you mean "sku"?',
        'window[0] "sales".size: "0m" is not longer than zero; write a duration such as "1m"',
        'window[0] "sales".keys: "stor_id" is not a column of the schema; did you mean "store_id"?',
        'window[0] "sales".measures: "units_solid" is not a measure; did you mean "units_sold"?',
        'window[0] "sales".measures: sum of "sku", which is a dictionary, makes no sense; '
        'take a column of type "int32", "int64" or "decimal": '
        '"quantity", "unit_price", "unit_cost", "discount", "gross_amount" or "amount"',
        'derive[0] "stock".service_level: 1.2 is not between 0 and 1; write a number such as 0.95',
        'sink[0] "sale".output: "sale" is not an output; did you mean "sales"?',
        f'dead_letter.path: "{file}" is a file, not a folder; write below a folder',
    ]
    assert all("\n" not in problem for problem in caught.value.problems)
    assert str(caught.value).count("\n") == len(found) - 1


# ---- one mistake at a time: its place and its fix ----

RULE = {"check": "range", "column": "quantity", "low": 1}


@pytest.mark.parametrize(
    ("tables", "place", "said"),
    [
        ({"jobb": {}}, "jobb", 'did you mean "job"?'),
        ({"job": 3}, "job", "3 is not a table; write [job]"),
        ({"job": {"name": ""}}, "job.name", "is not a text"),
        ({"schema": {"use": "orders_flat"}}, "schema.use", 'did you mean "order_flat"?'),
        ({"schema": {}}, "schema", "names no schema"),
        ({"schema": {"use": "order", "path": "x.toml"}}, "schema", "has use and path"),
        ({"schema": {"path": "missing.toml"}}, "schema.path", "no file at"),
        ({"schema": {"field": [{"name": "a", "path": "a", "type": "text"}]}}, "schema", "text"),
        ({"source": {}}, "source.path", "is missing"),
        ({"source": {"path": 7}}, "source.path", "is not a list of texts"),
        ({"source": {"path": "."}}, "source.path", "is a directory"),
        ({"source": {"type": "stdin", "path": "x"}}, "source.path", 'makes no sense with type = "stdin"'),
        ({"source": {"type": "stdin", "format": "parquet"}}, "source.format", "cannot be read from a stream"),
        ({"source": {"type": "stdin", "batch_bytes": "4 XB"}}, "source.batch_bytes", 'such as "4 MiB"'),
        ({"source": {"type": "stdin", "batch_bytes": "1 GiB"}}, "source.batch_bytes", "more than 64 MiB"),
        (
            {"time": {"column": "sku"}},
            "time.column",
            '"sku" is a dictionary, not timestamp; take "event_time"',
        ),
        ({"time": {"max_disorder": "1 week"}}, "time.max_disorder", "is not a duration"),
        ({"schema": {"field": [{"name": "event_time", "type": "timestamp"}]}}, "time.column", "may be null"),
        ({"amount": {"unit_price": "sku"}}, "amount.unit_price", "not decimal; take"),
        (
            {"lifecycle": {"sold": ["paid", "returned"]}},
            "lifecycle.sold",
            '"returned" is returned or cancelled',
        ),
        ({"clean": {"rules": []}}, "clean.rules", 'did you mean "rule"?'),
        ({"clean": {"rule": {"check": "required"}}}, "clean.rule", "write [[clean.rule]] with two brackets"),
        ({"clean": {"rule": [{}]}}, "clean.rule[0].check", "is missing"),
        ({"clean": {"rule": [{"check": "required"}]}}, "clean.rule[0].column", "is missing"),
        ({"clean": {"rule": [{"check": "range", "column": "quantity"}]}}, "clean.rule[0].low", "so is high"),
        ({"clean": {"rule": [{**RULE, "low": 0.5}]}}, "clean.rule[0].low", "write a whole number"),
        ({"clean": {"rule": [{**RULE, "low": 9, "high": 1}]}}, "clean.rule[0].low", "is above high"),
        ({"clean": {"rule": [{**RULE, "low": "many"}]}}, "clean.rule[0].low", '"many" is not a number'),
        (
            {"clean": {"rule": [{**RULE, "column": "sku"}]}},
            "clean.rule[0].column",
            '"sku" is a dictionary, not',
        ),
        (
            {"clean": {"rule": [{"check": "price_range", "low": 0.00001}]}},
            "clean.rule[0].low",
            "four decimal places",
        ),
        ({"clean": {"rule": [{"check": "event_time_ahead"}]}}, "clean.rule[0].by", 'add by = "5m"'),
        (
            {"clean": {"rule": [{"check": "allowed", "column": "channel"}]}},
            "clean.rule[0].values",
            "is missing",
        ),
        (
            {"clean": {"rule": [{"check": "less_than", "column": "quantity", "other": "unit_price"}]}},
            "clean.rule[0].other",
            '"unit_price" is a decimal, not int64',
        ),
        ({"clean": {"duplicates": {"key": ["event"]}}}, "clean.duplicates.key", 'did you mean "event_id"?'),
        ({"window": [{**DAILY, "name": "rows"}]}, 'window[0] "rows".name', '"rows" is taken'),
        ({"window": [{**DAILY, "name": "rejects"}]}, 'window[0] "rejects".name', "take another name"),
        ({"window": [DAILY, DAILY]}, 'window[1] "daily".name', '"daily" is taken'),
        ({"window": [{"name": "w", "size": "1h"}]}, 'window[0] "w".measures', "is missing"),
        ({"window": [{"name": "w", "measures": ["count"]}]}, 'window[0] "w".size', "is missing"),
        ({"window": [{**DAILY, "offset": "1d"}]}, 'window[0] "daily".offset', "not shorter than size"),
        ({"state": {"memory_limit": "much"}}, "state.memory_limit", "is not a size"),
        ({"state": {"shards": 0}}, "state.shards", "1"),
        ({"state": {"memory": "1 GiB"}}, "state.memory", 'did you mean "memory_limit"?'),
        ({"window": [{**DAILY, "kind": "hoping"}]}, 'window[0] "daily".kind', 'did you mean "hopping"?'),
        ({"window": [{**DAILY, "kind": "hopping"}]}, 'window[0] "daily".hop', "is missing"),
        ({"window": [{**DAILY, "hop": "1h"}]}, 'window[0] "daily".hop', 'add kind = "hopping"'),
        (
            {"window": [{**DAILY, "kind": "hopping", "hop": "2d"}]},
            'window[0] "daily".hop',
            "is longer than size",
        ),
        (
            {"window": [{**DAILY, "kind": "hopping", "hop": "1h", "offset": "1h"}]},
            'window[0] "daily".offset',
            "not shorter than hop",
        ),
        (
            {"window": [{**DAILY, "time_zone": "Asia/Shangai"}]},
            'window[0] "daily".time_zone',
            'did you mean "Asia/Shanghai"?',
        ),
        (
            {"window": [{**DAILY, "size": "1h", "time_zone": "Asia/Shanghai"}]},
            'window[0] "daily".size',
            "is not a day, a week or a month",
        ),
        ({"window": [{**DAILY, "size": "1 month", "offset": "28d"}]}, 'window[0] "daily".offset', "shorter"),
        (
            {
                "window": [{**DAILY, "time_zone": "Europe/Berlin"}],
                "derive": [{"name": "d", "from": "daily", "demand": "units_sold"}],
            },
            'derive[0] "d".from',
            "days of 23 or 25 hours, in Europe/Berlin",
        ),
        (
            {"window": [{"name": "w", "kind": "session", "measures": ["count"]}]},
            'window[0] "w".gap',
            "is missing",
        ),
        ({"lifecycle": {"remember": "1d"}}, "lifecycle.remember", "add sale_key"),
        ({"lifecycle": {"sale_key": ["sku"]}}, "lifecycle.sale_key", 'add correct = "original_sale"'),
        (
            {
                "lifecycle": {"sale_key": ["skew"]},
                "window": [{**DAILY, "correct": "original_sale", "allowed_lateness": "30d"}],
            },
            "lifecycle.sale_key",
            '"skew" is not a column of the schema',
        ),
        ({"window": [{**DAILY, "gap": "1m"}]}, 'window[0] "daily".gap', 'add kind = "session"'),
        ({"window": [{**DAILY, "ttl": "1d"}]}, 'window[0] "daily".ttl', 'add kind = "global"'),
        ({"window": [{**DAILY, "every": "1m"}]}, 'window[0] "daily".every', 'add emit = "early"'),
        ({"window": [{**DAILY, "emit": "early"}]}, 'window[0] "daily".every', "is missing"),
        (
            {
                "window": [
                    {
                        "name": "w",
                        "kind": "session",
                        "gap": "1h",
                        "measures": ["count as retracted"],
                        "emit": "early",
                        "every": "1m",
                    }
                ]
            },
            'window[0] "w".measures',
            'another column is named "retracted"',
        ),
        (
            {"window": [{**DAILY, "emit": "early", "every": "1m", "measures": ["count as final"]}]},
            'window[0] "daily".measures',
            'another column is named "final"',
        ),
        (
            {
                "window": [{**DAILY, "emit": "early", "every": "1h"}],
                "derive": [{"name": "d", "from": "daily", "demand": "units_sold"}],
            },
            'derive[0] "d".from',
            "has early results",
        ),
        (
            {"window": [{**DAILY, "original_time": "event_time"}]},
            'window[0] "daily".original_time',
            "not used",
        ),
        (
            {"window": [{**DAILY, "correct": "original_sale"}]},
            'window[0] "daily".original_time',
            "is missing",
        ),
        (
            {"window": [{**DAILY, "correct": "original_sale", "original_time": "sku"}]},
            'window[0] "daily".original_time',
            '"sku" is a dictionary, not timestamp',
        ),
        ({"window": [{**DAILY, "kind": "global"}]}, 'window[0] "daily".size', "makes no sense"),
        (
            {
                "window": [{**DAILY, "kind": "hopping", "hop": "1h"}],
                "derive": [{"name": "d", "from": "daily", "demand": "units_sold"}],
            },
            'derive[0] "d".from',
            "is not a window of one day",
        ),
        (
            {"window": [{**DAILY, "keys": ["unit_price"]}]},
            'window[0] "daily".keys',
            "is a decimal, not dictionary",
        ),
        ({"window": [{**DAILY, "keys": ["sku", "sku"]}]}, 'window[0] "daily".keys', '"sku" is there twice'),
        (
            {"window": [{**DAILY, "measures": ["count as n", "orders as n"]}]},
            'window[0] "daily".measures',
            'another column is named "n"',
        ),
        (
            {"window": [{**DAILY, "measure": [{"op": "sum", "column": "quantity", "where": "x"}]}]},
            'window[0] "daily".measure[0]',
            '"x" has its end where a "=" or an "in (...)" belongs',
        ),
        (
            {"derive": [{"name": "d", "from": "x", "demand": "y"}]},
            'derive[0] "d".from',
            '"x" is not a window',
        ),
        (
            {
                "window": [{**DAILY, "size": "1h"}],
                "derive": [{"name": "d", "from": "daily", "demand": "units_sold"}],
            },
            'derive[0] "d".from',
            "is not a window of one day",
        ),
        (
            {"window": [DAILY], "derive": [{"name": "d", "from": "daily", "demand": "units_sole"}]},
            'derive[0] "d".demand',
            'did you mean "units_sold"?',
        ),
        (
            {
                "window": [DAILY],
                "derive": [{"name": "d", "from": "daily", "demand": "units_sold", "horizon_days": 0}],
            },
            'derive[0] "d".horizon_days',
            "not within 1 to",
        ),
        ({"sink": [{"output": "rows"}]}, 'sink[0] "rows".path', "is missing"),
        (
            {"sink": [{"output": "rows", "path": "o", "type": "csv"}]},
            'sink[0] "rows".type',
            '"csv" is not known',
        ),
        (
            {"sink": [{"output": "rows", "path": "o", "type": "ndjson", "partition_by": "sku"}]},
            'sink[0] "rows".partition_by',
            "has no partitions",
        ),
        (
            {"sink": [{"output": "rows", "path": "o", "partition_by": "skew"}]},
            'sink[0] "rows".partition_by',
            '"skew" is not a column of "rows"',
        ),
        (
            {"sink": [{"output": "rows", "path": "o"}, {"output": "rows", "path": "./o"}]},
            'sink[1] "rows".path',
            'sink[0] "rows" writes to',
        ),
        (
            {"sink": [{"output": "rows", "path": "o"}], "dead_letter": {"path": "o"}},
            "dead_letter.path",
            'sink[0] "rows" writes to',
        ),
        (
            {"sink": [{"output": "rows", "type": "stdout"}, {"output": "rows", "type": "stdout"}]},
            'sink[1] "rows".type',
            'writes to "stdout", too',
        ),
        (
            {"source": {"type": "stdin"}, "checkpoint": {"path": "c"}},
            "checkpoint",
            "remove it, or read files",
        ),
        ({"dead_letter": {}}, "dead_letter.path", "is missing"),
        ({"checkpoint": {"path": "c", "interval": "0s"}}, "checkpoint.interval", "is not longer than zero"),
    ],
)
def test_a_mistake_names_its_place_and_the_fix(
    tables: dict[str, Any], place: str, said: str, tmp_path: Path
) -> None:
    problem = the_problem(flat(**tables), tmp_path)
    assert problem.startswith(f"job.toml: {place}: ")
    assert said in problem
    assert "; " in problem


def test_a_job_for_the_command_needs_a_source() -> None:
    with pytest.raises(JobError, match=r"<dict>: source: is missing; add \[source\]"):
        parse_job(flat(), needs_source=True)


def test_no_schema_is_one_mistake_and_not_one_per_column() -> None:
    window = {"name": "w", "size": "1h", "keys": ["sku"], "measures": ["sum(quantity)"]}
    assert the_problem({"window": [window]}).startswith("job.toml: schema: is missing;")


def test_a_faulty_window_does_not_spoil_what_reads_it() -> None:
    derive = {"name": "d", "from": "daily", "demand": "units_sold"}
    sink = {"output": "daily", "path": "o", "partition_by": ["units_sold"]}
    problem = the_problem(flat(window=[{**DAILY, "measures": ["units_sld"]}], derive=[derive], sink=[sink]))
    assert problem.startswith('job.toml: window[0] "daily".measures')


def test_files_that_are_no_jobs(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[job\n")
    with pytest.raises(JobError, match=r"broken\.toml: is not TOML: .*line 1"):
        load_job(broken)
    with pytest.raises(JobError, match=r"absent\.toml: cannot be read \(No such file or directory\)"):
        load_job(tmp_path / "absent.toml")
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'[job]\nname = "caf\xe9"\n')
    with pytest.raises(JobError, match="is not UTF-8"):
        load_job(latin)


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


# ---- rules ----


def rule_of(rule: dict[str, Any]) -> dict[str, Any]:
    return parse_job(flat(clean={"rule": [rule]})).rules[0].to_core()


@pytest.mark.parametrize(
    ("rule", "core"),
    [
        (
            {"check": "price_below_cost"},
            {"kind": "less_than", "column": "unit_price", "other": "unit_cost", "reason": "price_below_cost"},
        ),
        (
            {"check": "positive_quantity"},
            {
                "kind": "range",
                "column": "quantity",
                "low": 1,
                "high": 2**63 - 1,
                "reason": "non_positive_quantity",
            },
        ),
        (
            {"check": "price_range", "low": Decimal("0.01"), "high": 999},
            {
                "kind": "range",
                "column": "unit_price",
                "low": 100,
                "high": 9_990_000,
                "reason": "price_out_of_range",
            },
        ),
        ({"check": "price_range", "low": 0.1}, {"low": 1_000}),
        (
            {"check": "discount_range"},
            {
                "kind": "range",
                "column": "discount",
                "low": 0,
                "high": 10_000,
                "reason": "discount_out_of_range",
            },
        ),
        ({"check": "discount_range", "high": 0.5}, {"low": 0, "high": 5_000}),
        (
            {"check": "event_time_ahead", "by": "5m"},
            {"kind": "ahead", "column": "event_time", "high": 300_000, "reason": "event_time_ahead"},
        ),
        (
            {"check": "event_time_behind", "by": "30d"},
            {"kind": "behind", "column": "event_time", "low": 2_592_000_000, "reason": "event_time_behind"},
        ),
        (
            {"check": "required", "column": "store_id"},
            {"kind": "required", "column": "store_id", "reason": "missing_value"},
        ),
        (
            {"check": "allowed", "column": "event_type"},
            {
                "kind": "allowed",
                "values": ["created", "paid", "shipped", "delivered", "cancelled", "returned"],
                "reason": "value_not_allowed",
            },
        ),
        ({"check": "allowed", "column": "channel", "values": ["web"]}, {"values": ["web"]}),
        (
            {"check": "less_than", "column": "unit_cost", "other": "discount", "reason": "odd"},
            {"kind": "less_than", "column": "unit_cost", "other": "discount", "reason": "odd"},
        ),
        (
            {"check": "range", "column": "quantity", "high": 99},
            {"low": -(2**63), "high": 99, "reason": "quantity_out_of_range"},
        ),
        (
            {"check": "range", "column": "event_time", "low": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
            {"kind": "range", "low": 1_767_225_600_000},
        ),
        ({"check": "range", "column": "event_time", "low": dt.date(2026, 1, 1)}, {"low": 1_767_225_600_000}),
    ],
)
def test_rules_compile_to_lane_units(rule: dict[str, Any], core: dict[str, Any]) -> None:
    assert {key: rule_of(rule)[key] for key in core} == core


def test_bounds_of_a_float_column_stand_apart() -> None:
    schema = {
        "field": [
            {"name": "at", "path": "at", "type": "timestamp", "required": True},
            {"name": "weight", "path": "w", "type": "float64"},
        ]
    }
    rules = [
        {"check": "range", "column": "weight", "low": 0.5},
        {"check": "positive_quantity", "column": "weight"},
    ]
    job = parse_job({"schema": schema, "time": {"column": "at"}, "clean": {"rule": rules}})
    assert (job.rules[0].low_float, job.rules[0].high_float) == (0.5, math.inf)
    assert job.rules[1].low_float == 5e-324


# ---- measures ----


@pytest.mark.parametrize(
    ("text", "measure"),
    [
        ("count", MeasureSpec("count", "count")),
        ("count()", MeasureSpec("count", "count")),
        ("count(customer_id)", MeasureSpec("count_customer_id", "count", "customer_id")),
        ("sum(quantity)", MeasureSpec("sum_quantity", "sum", "quantity")),
        (" sum ( quantity )as units ", MeasureSpec("units", "sum", "quantity")),
        ("distinct(customer_id) as buyers", MeasureSpec("buyers", "distinct", "customer_id")),
        (
            "sum(quantity) where event_type = 'returned'",
            MeasureSpec("sum_quantity", "sum", "quantity", Condition("event_type", ("returned",))),
        ),
        (
            "sum(quantity) where event_type in ('a','b', 'a') as ab",
            MeasureSpec("ab", "sum", "quantity", Condition("event_type", ("a", "b"))),
        ),
        (
            'count as n where size = "6""x4"',
            MeasureSpec("n", "count", "", Condition("size", ('6"x4',))),
        ),
        (
            "count where size = 'O''Neill )'",
            MeasureSpec("count", "count", "", Condition("size", ("O'Neill )",))),
        ),
        (
            "units_sold as pairs",
            MeasureSpec("pairs", "sum", "quantity", Condition("event_type", ("paid",))),
        ),
        (
            "units_net",
            MeasureSpec(
                "units_net", "sum", "quantity", Condition("event_type", ("paid",), ("returned", "cancelled"))
            ),
        ),
        ("orders", MeasureSpec("orders", "distinct", "order_id", Condition("event_type", ("paid",)))),
    ],
)
def test_measures(text: str, measure: MeasureSpec) -> None:
    assert parse_measure(text) == measure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has its end where a measure belongs"),
        ("median(quantity)", '"median" is not a measure'),
        ("units_shold", 'did you mean "units_sold"?'),
        ("sum", '"sum" needs a column'),
        ("sum()", '"sum" needs a column'),
        ("sum(quantity", 'has its end where a ")" belongs'),
        ("sum(quantity) units", 'goes on after its end: "units"'),
        ("sum(quantity) as", "has its end where a name belongs"),
        ("sum(quantity) as a as b", 'goes on after its end: "as"'),
        ("sum(quantity) where event_type", 'where a "=" or an "in (...)" belongs'),
        ("sum(quantity) where event_type = returned", 'has "returned" where a text in quotes belongs'),
        ("sum(quantity) where event_type = text", 'has "text" where a text in quotes belongs'),
        ("sum(quantity) where event_type in ()", 'has ")" where a text in quotes belongs'),
        ("sum(quantity) where event_type in ('a' 'b')", 'where a ")" belongs'),
        ("sum(quantity) where event_type = 'a", "cannot be read from"),
        ("sum(quantity) + 1", 'cannot be read from "+ 1" on'),
        ("units_sold(quantity)", "takes neither a column nor a condition"),
        ("units_sold where event_type = 'paid'", "takes neither a column nor a condition"),
        ("top(sku, 0)", 'top of "0" values makes no sense'),
        ("top(sku, 1.5)", "makes no sense"),
        ("top(sku, quantity)", "makes no sense"),
        ("top(sku, 3, quantity, 4)", 'does not take "4"'),
        ("quantile(quantity, 1.5)", '"1.5" is not a quantile'),
        ("quantile(quantity, 0.1234567)", "is not a quantile"),
        ("sum(quantity, 3)", '"sum" does not take "3"'),
        ("top(sku, )", "where a number or a column belongs"),
    ],
)
def test_mistakes_in_measures(text: str, said: str) -> None:
    with pytest.raises(MeasureError) as caught:
        parse_measure(text)
    assert said in str(caught.value)
    assert caught.value.fix


def test_tops_and_quantiles() -> None:
    top = parse_measure("top(sku, 2, quantity) as best where event_type = 'paid'")
    assert (top.top, top.by, top.name) == (2, "quantity", "best")
    core = top.to_core()
    assert [(each["name"], each["op"], each["argument"]) for each in core] == [
        ("best_1", "top", 0),
        ("best_1_weight", "top_weight", 0),
        ("best_2", "top", 1),
        ("best_2_weight", "top_weight", 1),
    ]
    assert {each["by"] for each in core} == {"quantity"}
    assert parse_measure("quantile(quantity, 0.999)").to_core()[0]["argument"] == 999_000
    assert parse_measure("quantile(quantity)").to_core()[0]["argument"] == 500_000
    tables = [
        {"op": "top", "column": "sku", "count": 2, "by": "amount", "name": "best"},
        {"op": "quantile", "column": "quantity", "quantile": 0.25, "name": "quarter"},
    ]
    window = parse_job(flat(window=[{**DAILY, "measure": tables}])).window("daily")
    types = window.output_columns({"sku": "dictionary", "amount": "decimal", "quantity": "int64"})
    assert list(types)[4:] == ["best_1", "best_1_weight", "best_2", "best_2_weight", "quarter"]
    assert list(types.values())[4:] == ["dictionary", "decimal", "dictionary", "decimal", "float64"]


def test_retail_measures_follow_the_lifecycle() -> None:
    lifecycle = Lifecycle("kind", sold=("A",), returned=("B",), cancelled=("C",))
    measures = {name: parse_measure(name, lifecycle) for name in RETAIL}
    assert measures["units_sold"].condition == Condition("kind", ("A",))
    assert measures["units_returned"].condition == Condition("kind", ("B",))
    assert measures["net_amount"].condition == Condition("kind", ("A",), ("B", "C"))
    assert {name: measure.column for name, measure in measures.items()} == {
        "units_sold": "quantity",
        "units_returned": "quantity",
        "units_cancelled": "quantity",
        "units_net": "quantity",
        "gross_amount": "gross_amount",
        "net_amount": "amount",
        "orders": "order_id",
    }


def test_an_empty_lifecycle_list_takes_no_row_rather_than_all() -> None:
    with pytest.raises(JobError, match=r"units_cancelled.* under \[lifecycle\]"):
        parse_job(flat(lifecycle={"cancelled": []}, window=[{**DAILY, "measures": ["units_cancelled"]}]))


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in ("as", "where", "in")
)
VALUES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    op=st.sampled_from(OPERATIONS),
    column=NAMES,
    name=NAMES,
    by=NAMES,
    values=st.lists(VALUES, min_size=1, max_size=3, unique=True),
    quote=st.sampled_from("'\""),
)
def test_what_is_written_is_read(
    op: str, column: str, name: str, by: str, values: list[str], quote: str
) -> None:
    listed = ", ".join(quote + value.replace(quote, quote * 2) + quote for value in values)
    condition = f"{by} in ({listed})"
    expected = named_measure(op, column, name, Condition(by, tuple(values)))
    assert parse_measure(f"{op}({column}) as {name} where {condition}") == expected
    assert parse_condition(condition) == expected.condition


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(st.sampled_from("sum(quantity) as'\"wherein=,count_1 é"), max_size=40))
def test_any_text_is_a_measure_or_says_why_not(text: str) -> None:
    try:
        said = parse_measure(text).op
    except MeasureError as error:
        said = error.fix
    assert said


def test_measures_that_do_not_fit_the_columns() -> None:
    columns = {"sku": "dictionary", "n": "int32", "price": "decimal", "note": "string", "w": "float64"}
    assert misfit(parse_measure("sum(n)"), columns) is None
    assert misfit(parse_measure("distinct(note)"), columns) is None
    assert misfit(parse_measure("count(note) where sku = 'A'"), columns) is None
    for text in (
        "sum(note)",
        "max(sku)",
        "distinct(w)",
        "approx_distinct(w)",
        "top(w)",
        "top(sku, 1, note)",
        "top(sku, 1, nothing)",
        "quantile(w)",
        "quantile(sku)",
        "sum(m)",
        "count where note = 'x'",
        "count where m = 'x'",
    ):
        assert misfit(parse_measure(text), columns) is not None, text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("count", "int64"),
        ("distinct(sku)", "int64"),
        ("sum(n)", "int64"),
        ("min(n)", "int32"),
        ("sum(price)", "decimal"),
        ("max(price)", "decimal"),
        ("mean(price)", "float64"),
        ("std(n)", "float64"),
        ("quantile(n, 0.9)", "float64"),
        ("approx_distinct(sku)", "int64"),
        ("last(sku)", "dictionary"),
    ],
)
def test_result_types(text: str, kind: str) -> None:
    columns = {"sku": "dictionary", "n": "int32", "price": "decimal"}
    measure = parse_measure(text)
    assert measure.output_columns(columns) == {measure.name: kind}


def test_a_pipe_is_no_place_for_results(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sink = {"output": "rows", "type": "ndjson", "path": "pipe"}
    with pytest.raises(JobError, match=r"path: .* is a pipe or device; name a file"):
        parse_job({"schema": {"use": "order_flat"}, "sink": [sink]}, base_dir=tmp_path)
