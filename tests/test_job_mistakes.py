"""Jobs that are none: every mistake at once, each with its place and its fix."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from omnistream.errors import JobError
from omnistream.job import load_job, parse_job
from tests.job_documents import DAILY, flat, the_problem

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


def test_a_pipe_is_no_place_for_results(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    sink = {"output": "rows", "type": "ndjson", "path": "pipe"}
    with pytest.raises(JobError, match=r"path: .* is a pipe or device; name a file"):
        parse_job({"schema": {"use": "order_flat"}, "sink": [sink]}, base_dir=tmp_path)
