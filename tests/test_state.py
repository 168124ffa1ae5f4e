"""`omnistream state`: checkpoints as an operator sees them, through the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from omnistream import state
from omnistream.cli import main
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline

JOB = {
    "job": {"name": "shop"},
    "schema": {
        "field": [
            {"name": "event_time", "type": "timestamp", "format": "iso8601", "required": True},
            {"name": "sku", "type": "string", "required": True},
            {"name": "quantity", "type": "int64", "required": True},
        ]
    },
    "time": {"max_disorder": "1h"},
    "clean": {"duplicates": {"key": ["sku", "quantity"], "within": "1m"}},
    "window": [{"name": "sales", "size": "1m", "keys": ["sku"], "measures": ["sum(quantity) as units"]}],
}


def events(*rows: tuple[int, str, int]) -> bytes:
    return b"".join(
        json.dumps({"event_time": f"2026-11-11T00:{minute:02}:00Z", "sku": sku, "quantity": count}).encode()
        + b"\n"
        for minute, sku, count in rows
    )


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    """Two of one job: three windows of two keys, then one more of a third."""
    pipeline = Pipeline(parse_job(JOB))
    pipeline.push(events((0, "a", 1), (2, "a", 2), (2, "b", 3), (4, "b", 4)))
    first = pipeline.snapshot({"orders.ndjson": {"line": 4}}).save(tmp_path / "state")
    pipeline.push(events((6, "größe", 5), (6, "a", 6)))
    return first, pipeline.snapshot({"orders.ndjson": {"line": 6}}).save(tmp_path / "state")


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    code = main(["state", *map(str, arguments)])
    return code, capsys.readouterr().out.splitlines()


def test_inspect_says_what_is_open(checkpoints, capsys):
    code, lines = printed(capsys, "inspect", checkpoints[0], "--json")
    found = json.loads(lines[0])
    assert code == 0
    assert found["job"] == "shop"
    assert found["checkpoint"] == str(checkpoints[0])
    assert found["positions"] == {"orders.ndjson": {"line": 4}}
    assert found["windows"]["sales"]["open"] == 3
    assert found["windows"]["sales"]["keys"] == 2
    assert found["parts"]["window.sales.groups"]["rows"] == 4
    assert found["ledger"]["aggregated"] == 4
    # A folder of checkpoints means its newest.
    found = state.inspect(checkpoints[0].parent)
    assert found["checkpoint"] == str(checkpoints[1])
    assert (found["windows"]["sales"]["open"], found["windows"]["sales"]["keys"]) == (4, 3)
    code, lines = printed(capsys, "inspect", checkpoints[1])
    assert code == 0
    assert "window       sales: 4 open, 3 keys" in "\n".join(lines)
    assert "watermark    2026-11-10T23:06:00.000+00:00" in lines


def test_inspect_of_no_rows(tmp_path, capsys):
    Pipeline(parse_job(JOB)).snapshot().save(tmp_path)
    code, lines = printed(capsys, "inspect", tmp_path)
    assert code == 0
    assert "watermark    none yet" in lines


@pytest.mark.parametrize("form", state.FORMATS)
def test_export_writes_what_is_in_it(checkpoints, tmp_path, capsys, form):
    code, files = printed(capsys, "export", checkpoints[1], tmp_path / "out", "--format", form)
    assert code == 0
    assert sorted(map(Path, files)) == sorted((tmp_path / "out").iterdir())
    file = tmp_path / "out" / f"window.sales.groups.{form}"
    if form == "parquet":
        rows = pq.read_table(file).to_pylist()
    elif form == "arrow":
        rows = pa.ipc.open_file(file).read_all().to_pylist()
    else:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    units = sorted((row["key sku"], row["sum(quantity)"]) for row in rows)
    assert units == [("a", 1), ("a", 2), ("a", 6), ("b", 3), ("b", 4), ("größe", 5)]


def test_export_replaces_nothing(checkpoints, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("the operator's")
    with pytest.raises(StateError, match="is there already"):
        state.export(checkpoints[0], tmp_path / "out", "arrow")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_diff_says_which_rows(checkpoints, capsys):
    assert printed(capsys, "diff", checkpoints[0], checkpoints[0]) == (0, ["no difference"])
    code, lines = printed(capsys, "diff", *checkpoints)
    assert code == 1
    assert "positions.orders.ndjson.line: 4 -> 6" in lines
    assert "part window.sales.groups: 0 rows only in the first, 2 only in the second" in lines
    assert any(line.startswith("  + ") and '"größe"' in line for line in lines)
    assert not any("part window.sales.spec" in line for line in lines)


def test_diff_of_jobs_names_their_columns(checkpoints, tmp_path):
    window = JOB["window"][0] | {"measures": ["count"]}
    other = Pipeline(parse_job(JOB | {"window": [window]}))
    other.push(events((0, "a", 1)))
    lines = state.diff(checkpoints[0], other.snapshot().save(tmp_path / "other"))
    assert "part window.sales.groups: other columns" in lines
    assert "  - sum(quantity): int64" in lines
    assert "  + count: int64" in lines


@pytest.mark.parametrize("damage", ["manifest.json", "window.sales.groups.arrow"])
def test_a_damaged_checkpoint_is_refused(checkpoints, tmp_path, damage, capsys):
    file = checkpoints[1] / damage
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    for arguments in (["inspect"], ["export", tmp_path / "out"], ["diff", checkpoints[0]]):
        given = [*arguments[:1], checkpoints[1], *arguments[1:]]
        assert main(["state", *map(str, given)]) == 1
        assert f"{file}: is damaged" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_nothing_there_is_said(tmp_path, capsys):
    assert main(["state", "inspect", str(tmp_path)]) == 1
    assert "there is no checkpoint here" in capsys.readouterr().err
