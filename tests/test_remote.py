"""Checkpoints behind a URI: pyarrow's filesystems, here the one of local files, without a rename."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from omnistream import checkpoint, state
from omnistream.checkpoint import MANIFEST, latest, load, prune, remove, save
from omnistream.errors import StateError
from omnistream.job import parse_job
from omnistream.pipeline import Pipeline
from omnistream.remote import RemotePath, place_of
from omnistream.run import Stop, run_job

PARTS = {
    "window.sales": pa.table({"sku": ["a", None], "sum": [1, 2]}),
    "a/b": pa.record_batch({"key": pa.array([b"x"])}),
}


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shop/state"


def local(place: Any) -> Path:
    return Path(str(place).removeprefix("file://"))


def test_what_is_saved_is_loaded_and_the_newest_found(uri: str) -> None:
    assert latest(uri) is None
    folders = [save(uri, PARTS, {"number": number}) for number in range(4)]
    assert all(isinstance(folder, RemotePath) for folder in folders)
    assert [folder.name for folder in folders] == ["0000000001", "0000000002", "0000000003", "0000000004"]
    parts, manifest = load(folders[1])
    assert manifest == {"number": 1}
    assert {name: part.to_pylist() for name, part in parts.items()} == {
        name: part.to_pylist() for name, part in PARTS.items()
    }
    assert latest(uri) == folders[3] == latest(str(uri) + "/", fallback=True)
    # The same bytes as on a path.
    assert load(local(folders[1]))[1] == manifest
    assert prune(uri, keep=2, named=[folders[0].name]) == [folders[1]]
    assert latest(uri) == folders[3]
    remove(uri, but=[folders[0].name])
    assert latest(uri) == folders[0]
    remove(uri)
    assert latest(uri) is None
    assert not list(local(uri).iterdir())


@pytest.mark.parametrize("file", [0, 1])
def test_a_save_that_dies_leaves_no_checkpoint(uri: str, monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    first = save(uri, PARTS, {})
    whole = checkpoint._write_part

    def dies(part: Any, out: Any) -> Any:
        if part is list(PARTS.values())[file]:
            raise KeyboardInterrupt
        return whole(part, out)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_write_part", dies)
        with pytest.raises(KeyboardInterrupt):
            save(uri, PARTS, {})
    assert (local(uri) / "0000000002").is_dir()
    assert latest(uri) == first
    assert prune(uri, keep=1) == []
    again = save(uri, PARTS, {})
    assert again.name == "0000000002"
    assert latest(uri) == again


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damage_is_refused_or_passed_over(uri: str, damage: str) -> None:
    first, second = save(uri, PARTS, {}), save(uri, PARTS, {})
    file = local(second) / "window.sales.arrow"
    whole = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(whole[:-9] if damage == "cut" else whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    with pytest.raises(StateError, match=r"file:.*window\.sales\.arrow: is (damaged|missing)"):
        load(second)
    assert latest(uri, fallback=True) == first
    (local(second) / MANIFEST).write_text("{}")
    with pytest.raises(StateError, match="is damaged"):
        load(second)
    assert latest(uri) == first


def test_a_job_goes_on_from_there(uri: str, tmp_path: Path) -> None:
    lines = [{"at": f"2026-11-11T{hour:02}:00:00Z", "sku": "a"} for hour in range(24)]
    (tmp_path / "in.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    fields = [
        {"name": "at", "type": "timestamp", "format": "iso8601", "required": True},
        {"name": "sku", "type": "dictionary", "required": True},
    ]
    job = parse_job(
        {
            "source": {"path": str(tmp_path / "in.ndjson"), "batch_bytes": "64 B"},
            "schema": {"field": fields},
            "time": {"column": "at"},
            "window": [{"name": "days", "size": "1d", "keys": ["sku"], "measures": ["count"]}],
            "sink": [{"output": "days", "type": "ndjson", "path": str(tmp_path / "days.ndjson")}],
            "checkpoint": {"path": uri, "interval": "1ms"},
        }
    )
    stop = Stop()
    stop.request()
    run_job(job, stop=stop)
    kept = latest(uri)
    assert kept is not None
    assert state.inspect(uri)["checkpoint"] == str(kept)
    assert state.inspect(str(kept))["windows"]["days"]["keys"] <= 1
    assert state.diff(str(kept), local(kept)) == []
    assert Pipeline.restore(uri, job).metrics().messages < 24
    run_job(job)
    assert json.loads((tmp_path / "days.ndjson").read_text())["count"] == 24
    assert latest(uri) is None


def test_a_uri_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(StateError, match=r"^nowhere://shop: "):
        place_of("nowhere://shop")
