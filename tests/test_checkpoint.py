import json
import logging
import shutil

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnistream import checkpoint
from omnistream.checkpoint import Snapshot, latest, load, prune, save
from omnistream.errors import StateError

WINDOW = pa.table(
    {
        "sku": pa.chunked_array(
            [pa.array(["a", None, "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()]
        ),
        "sum": pa.chunked_array([[1, 2, None], [2**63 - 1]], pa.int64()),
    }
)
DEDUPE = pa.record_batch({"key": pa.array([b"\x00\xff", b""]), "event_time_ms": pa.array([1, -5])})
PARTS = {
    "window.sales": WINDOW,
    "clean.dedupe": DEDUPE,
    "empty": DEDUPE.slice(0, 0),
    "none": WINDOW.slice(0, 0),
}
MANIFEST = {"job": "nightly", "schema": "ab12", "watermark_ms": -(2**63), "positions": [["é.ndjson", 17]]}


def assert_same(parts, manifest, expected_parts=PARTS, expected_manifest=MANIFEST):
    assert manifest == expected_manifest
    assert list(parts) == list(expected_parts)
    for name, part in expected_parts.items():
        assert type(parts[name]) is type(part)
        assert parts[name].schema == part.schema
        assert parts[name].to_pylist() == part.to_pylist()


def test_what_is_saved_is_loaded(tmp_path):
    folder = save(tmp_path / "checkpoints", PARTS, MANIFEST)
    assert folder.parent == tmp_path / "checkpoints"
    assert_same(*load(folder))


def test_parts_open_with_any_arrow_tool(tmp_path):
    folder = save(tmp_path, PARTS, MANIFEST)
    table = pa.ipc.open_file(folder / "window.sales.arrow").read_all()
    assert table.to_pylist() == WINDOW.to_pylist()
    document = json.loads((folder / "manifest.json").read_text())
    assert document["manifest"] == MANIFEST
    assert document["parts"]["window.sales"]["rows"] == 4
    assert document["format_version"] == checkpoint.FORMAT_VERSION


@pytest.mark.parametrize("name", ["a/b", "..", "", "win dow", "%2F", "größe", "manifest.json"])
def test_any_part_name_is_a_file_inside_the_checkpoint(tmp_path, name):
    folder = save(tmp_path, {name: DEDUPE, "x": WINDOW}, {})
    assert len(list(folder.iterdir())) == 3
    assert_same(*load(folder), {name: DEDUPE, "x": WINDOW}, {})


def test_sequence_goes_on_and_latest_is_the_newest(tmp_path):
    assert latest(tmp_path / "nothing here") is None
    assert latest(tmp_path) is None
    folders = [save(tmp_path, PARTS, {"number": number}) for number in range(12)]
    assert folders == sorted(folders)
    assert latest(tmp_path) == folders[-1]
    assert latest(tmp_path, fallback=True) == folders[-1]
    assert load(folders[-1])[1] == {"number": 11}


def test_prune_keeps_the_newest(tmp_path):
    folders = [save(tmp_path, PARTS, {}) for _ in range(5)]
    assert prune(tmp_path, keep=2) == [folders[2], folders[1], folders[0]]
    assert sorted(tmp_path.iterdir()) == folders[3:]
    assert prune(tmp_path, keep=2) == []
    assert prune(tmp_path, keep=7) == []
    with pytest.raises(StateError, match="at least one"):
        prune(tmp_path, keep=0)
    assert sorted(tmp_path.iterdir()) == folders[3:]


def test_prune_does_not_count_incomplete_checkpoints(tmp_path):
    folders = [save(tmp_path, PARTS, {}) for _ in range(4)]
    (folders[3] / "manifest.json").unlink()
    (folders[2] / "clean.dedupe.arrow").unlink()
    assert prune(tmp_path, keep=1) == [folders[0]]
    assert latest(tmp_path) == folders[1]
    assert_same(*load(folders[1]), expected_manifest={})


def test_sequence_is_not_used_again_after_a_prune(tmp_path):
    for _ in range(3):
        save(tmp_path, PARTS, {})
        prune(tmp_path, keep=1)
    assert [folder.name for folder in tmp_path.iterdir()] == ["0000000003"]


def test_leftovers_of_a_crash_are_not_read_and_go_with_the_next_save(tmp_path):
    first = save(tmp_path, PARTS, {})
    shutil.copytree(first, tmp_path / ".writing-0000000002")
    shutil.copytree(first, tmp_path / ".removing-0000000000")
    (tmp_path / "notes.txt").write_text("the operator's")
    assert latest(tmp_path) == first
    second = save(tmp_path, PARTS, {})
    assert sorted(tmp_path.iterdir()) == [first, second, tmp_path / "notes.txt"]


def test_another_format_is_refused_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as future:
        future.setattr(checkpoint, "FORMAT_VERSION", 2)
        folder = save(tmp_path, PARTS, MANIFEST)
    with pytest.raises(StateError, match=r"has format 2, written by omnistream .*reads format 1"):
        load(folder)


@pytest.mark.parametrize("bad", [{"a": float("nan")}, {"a": {1, 2}}, {"a": (1, 2)}, {1: 2}, {"a": b"x"}])
def test_a_manifest_that_json_would_change_is_refused(tmp_path, bad):
    with pytest.raises(StateError, match="JSON types only"):
        save(tmp_path, PARTS, bad)
    assert latest(tmp_path) is None


def test_a_folder_of_checkpoints_is_no_checkpoint(tmp_path):
    save(tmp_path, PARTS, MANIFEST)
    with pytest.raises(StateError, match=r"manifest\.json: is missing"):
        load(tmp_path)


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="file"):
        save(tmp_path / "file", PARTS, MANIFEST)


def test_latest_says_what_it_passes_over(tmp_path, caplog):
    first, second = save(tmp_path, PARTS, {"n": 1}), save(tmp_path, PARTS, {"n": 2})
    body = bytearray((second / "window.sales.arrow").read_bytes())
    body[len(body) // 2] ^= 1
    (second / "window.sales.arrow").write_bytes(body)
    assert latest(tmp_path) == second
    with pytest.raises(StateError, match=r"window\.sales\.arrow: is damaged: its checksum differs"):
        load(second)
    with caplog.at_level(logging.WARNING):
        assert latest(tmp_path, fallback=True) == first
    assert "passing over" in caplog.text
    assert "window.sales.arrow" in caplog.text


def test_a_snapshot_is_a_checkpoint_in_memory(tmp_path):
    snapshot = Snapshot(PARTS, MANIFEST)
    packed = snapshot.to_bytes()
    assert packed == Snapshot(dict(PARTS), dict(MANIFEST)).to_bytes()
    again = Snapshot.from_bytes(packed)
    assert_same(again.parts, again.manifest)
    stored = Snapshot.load(again.save(tmp_path))
    assert_same(stored.parts, stored.manifest)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
columns = st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=9).map(
    lambda v: pa.array(v, pa.int64())
)


@settings(derandomize=True, deadline=None)
@given(
    st.dictionaries(st.text(max_size=9), columns, max_size=4),
    st.dictionaries(st.text(), json_values, max_size=4),
)
def test_any_state_survives_packing(columns, manifest):
    parts = {name: pa.record_batch({"value": column}) for name, column in columns.items()}
    again = Snapshot.from_bytes(Snapshot(parts, manifest).to_bytes())
    assert_same(again.parts, again.manifest, parts, manifest)
