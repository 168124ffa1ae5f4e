"""What the documents claim: the README's example runs, worked examples come out as written, paths exist."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from omnistream import _core
from omnistream.cli import main
from omnistream.decode import Decode
from omnistream.encode import Encode
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.schema import Schema
from omnistream.sink.json_text import json_lines

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]


def order(event_id: str, at: str, quantities: list[int], event_type: str = "paid", **more: Any) -> bytes:
    lines = [
        {"sku": f"S{number}", "qty": quantity, "unit_price": 100, **more}
        for number, quantity in enumerate(quantities)
    ]
    event = {"event_id": event_id, "event_type": event_type, "event_time": at, "lines": lines}
    return json.dumps(event).encode()


def test_the_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert len([line for line in blocks[0].splitlines() if line]) <= 20
    exec(compile(blocks[0], "README.md", "exec"), {})
    first, second, rejects = capsys.readouterr().out.splitlines()
    assert "'units_net': 2" in first
    assert "Decimal('259.8000')" in first
    assert "'units_net': 1" in second
    assert json.loads(rejects.replace("'", '"')) == {"non_positive_quantity": 1, "truncated_json": 1}


def test_the_watermark_example_comes_out_as_written() -> None:
    window = {"name": "minute", "size": "1m", "measures": ["count"]}
    job = {"schema": {"use": "order"}, "time": {"max_disorder": "10s"}, "window": [window]}
    pipeline = Pipeline(parse_job(job))
    emitted = []
    late = []
    for number, at in enumerate(["10:00:30", "10:01:05", "10:00:50", "10:01:10", "10:00:59", "10:01:02"]):
        results = pipeline.push([order(str(number), f"2026-11-11T{at}Z", [1])])
        emitted.append([row["count"] for batch in results.get("minute", []) for row in batch.to_pylist()])
        late.append(pipeline.metrics().late)
    assert emitted == [[], [], [], [2], [], []]
    assert late == [0, 0, 0, 0, 1, 1]
    assert [row["count"] for batch in pipeline.flush()["minute"] for row in batch.to_pylist()] == [3]


def test_the_ledger_example_comes_out_as_written() -> None:
    job = {
        "schema": {"use": "order"},
        "clean": {
            "rule": [{"check": "positive_quantity"}],
            "duplicates": {"key": ["event_id"], "within": "1h"},
        },
        "window": [{"name": "daily", "size": "1d", "measures": ["count"]}],
    }
    pipeline = Pipeline(parse_job(job))
    a = order("a", "2026-11-11T10:00:00Z", [1, 0])
    pipeline.push(b"\n".join([a, a[:26], order("c", "2026-11-11T10:00:00Z", []), a, b""]))
    metrics = pipeline.metrics()
    assert (metrics.messages, metrics.decoded, metrics.rows) == (4, 3, 4)
    assert (metrics.aggregated, metrics.duplicates, metrics.late) == (1, 1, 0)
    assert metrics.rejects == {"truncated_json": 1, "non_positive_quantity": 2}


def test_the_lifecycle_example_comes_out_as_written() -> None:
    measures = ["units_sold", "units_returned", "units_net", "gross_amount", "net_amount"]
    window = {"name": "daily", "size": "1d", "measures": measures}
    pipeline = Pipeline(parse_job({"schema": {"use": "order"}, "window": [window]}))
    life = [("created", 9, 3), ("paid", 9, 3), ("shipped", 10, 3), ("returned", 13, 1)]
    messages = [
        order(str(number), f"2026-11-{day:02}T10:00:00Z", [quantity], event_type, discount=0.1)
        for number, (event_type, day, quantity) in enumerate(life)
    ]
    closed = pipeline.push(messages).get("daily", []) + pipeline.flush()["daily"]
    rows = [tuple(row[measure] for measure in measures) for batch in closed for row in batch.to_pylist()]
    assert rows == [(3, 0, 3, 300, 270), (0, 0, 0, 0, 0), (0, 1, -1, 0, -90)]


def test_the_demand_example_comes_out_as_written() -> None:
    job = {
        "schema": {"use": "order"},
        "window": [{"name": "daily", "size": "1d", "keys": ["sku"], "measures": ["units_sold"]}],
        "derive": [{"name": "demand", "kind": "demand", "from": "daily", "demand": "units_sold"}],
    }
    pipeline = Pipeline(parse_job(job))
    days = [order("1", "2026-11-09T10:00:00Z", [2]), order("3", "2026-11-11T10:00:00Z", [4])]
    closed = pipeline.push(days).get("demand", []) + pipeline.flush()["demand"]
    last = closed[-1].to_pylist()[-1]
    assert (last["days"], last["demand"], last["mean"], last["std"]) == (3, 4, 2.0, 2.0)
    assert round(last["safety_stock"], 2) == 8.70


SCHEMA_EXAMPLES = re.findall(
    r"```toml\n(.*?)```\n```json\n(.*?)```\n```jsonl\n(.*?)```",
    (ROOT / "docs/schemas.md").read_text(encoding="utf-8"),
    re.DOTALL,
)


@pytest.mark.parametrize(("schema", "messages", "expected"), SCHEMA_EXAMPLES)
def test_the_examples_of_schemas_come_out_as_written(schema: str, messages: str, expected: str) -> None:
    parsed = Schema.from_dict(tomllib.loads(schema))
    stage = Decode(parsed, Encode(parsed).dictionaries)
    ((batch, rejects),) = stage.run([line.encode() for line in messages.splitlines()], "push", 0, None)
    rows = b"".join(bytes(text) for text in json_lines(pa.record_batch(batch))).decode().splitlines()
    columns = ("reason", "field", "byte_offset")
    refused = [{name: row[name] for name in columns} for row in pa.record_batch(rejects).to_pylist()]
    assert [*rows, *(json.dumps(each, separators=(",", ":")) for each in refused)] == expected.splitlines()


def test_every_example_of_schemas_is_tested() -> None:
    text = (ROOT / "docs/schemas.md").read_text(encoding="utf-8")
    assert len(SCHEMA_EXAMPLES) == text.count("```toml\n") == text.count("```jsonl\n") > 8


def test_the_commands_of_schemas_print_as_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs/schemas.md").read_text(encoding="utf-8")
    sessions = re.findall(r"```console\n\$ omnistream (.*?)\n(.*?)```", text, re.DOTALL)
    assert len(sessions) == 1
    monkeypatch.chdir(ROOT)
    for command, printed in sessions:
        assert main(command.split()) == 1
        assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "text",
    [
        *(
            '{"id":"a"} // note',
            '{"id":"a",}',
            "{'id':'a'}",
            '{"x":NaN}',
            '{"x":-Infinity}',
            '{"x":01}',
            '{"x":.5}',
        ),
        *(
            '{"x":"\t"}',
            '\ufeff{"id":"a"}',
            '{"id":"a"é}',
            '{"x":[1,]}',
            '{"id":"a"} {"id":"b"}',
            '{"id":"a"',
        ),
    ],
)
def test_decode_rejects_what_its_page_says(text: str) -> None:
    parsed = Schema.from_dict({"field": [{"name": "id", "type": "string"}]})
    stage = Decode(parsed, {})
    messages = [b'{"id":"b"}', text.encode(), b'{"id":"c","id":"d","x":{"y":[1e9999,"\xff",{}]}}']
    ((batch, rejects),) = stage.run(messages, "push", 0, None)
    assert pa.record_batch(batch).column("id").to_pylist() == ["b", "d"]
    assert pa.record_batch(rejects).column("position").to_pylist() == [1]


@pytest.mark.parametrize("name", [*_core.decode_isas(), "none of them"])
def test_the_environment_forces_an_instruction_set(name: str) -> None:
    code = "from omnistream import _core; print(_core.decode_isa())"
    environment = os.environ | {"OMNISTREAM_FORCE_ISA": name}
    printed = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment, cwd=ROOT
    ).stdout.strip()
    assert printed == (name if name in _core.decode_isas() else _core.decode_isas()[0])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_in_the_documents_exists(document: str) -> None:
    text = (ROOT / document).read_text()
    folders = "cpp|kernels|omnistream|bench|tests|examples|docs"
    paths = re.findall(rf"`((?:{folders})/[\w./-]+|Makefile|pyproject\.toml|CMakeLists\.txt)`", text)
    links = [str(Path(document).parent / link) for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    missing = [path for path in (*paths, *links) if not (ROOT / path).exists()]
    assert missing == []


def test_the_example_of_the_original_sale_comes_out_as_written() -> None:
    fields = [
        {"name": "event_type", "type": "dictionary"},
        {"name": "event_time", "type": "timestamp", "required": True},
        {"name": "sold_at", "type": "timestamp"},
        {"name": "quantity", "type": "int64"},
    ]
    day = {"size": "1d", "measures": ["units_sold", "units_returned", "units_cancelled", "units_net"]}
    original = {"correct": "original_sale", "original_time": "sold_at", "allowed_lateness": "30d"}
    windows = [{"name": "occurs", **day}, {"name": "sale", **day, **original}]
    pipeline = Pipeline(parse_job({"schema": {"field": fields}, "window": windows}))
    events = [
        ("paid", "2026-11-09T10:00:00Z", None, 3),
        ("paid", "2026-11-13T09:00:00Z", None, 1),
        ("returned", "2026-11-13T12:00:00Z", "2026-11-09T10:00:00Z", 1),
        ("returned", "2026-11-13T13:00:00Z", None, 1),
        ("cancelled", "2026-11-13T14:00:00Z", "2026-11-09T10:00:00Z", 1),
    ]
    names = ("event_type", "event_time", "sold_at", "quantity")
    messages = [json.dumps(dict(zip(names, event, strict=True))).encode() for event in events]
    results = [pipeline.push(messages), pipeline.flush()]
    shown = {
        name: [
            (row["window_start"].day, *(row[measure] for measure in day["measures"]))
            for each in results
            for batch in each.get(name, [])
            for row in batch.to_pylist()
        ]
        for name in ("occurs", "sale")
    }
    assert pipeline.metrics().balanced
    assert shown == {
        "occurs": [(9, 3, 0, 0, 3), (13, 1, 2, 1, -2)],
        "sale": [(9, 3, 1, 1, 1), (13, 1, 1, 0, 0)],
    }
