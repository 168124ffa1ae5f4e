"""A torn or damaged checkpoint is refused or passed over; what is loaded is what was saved."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from omnistream.checkpoint import Snapshot, latest, load, save
from omnistream.errors import StateError

PARTS = {
    "window": pa.table({"sku": ["a", "b", None], "units": [1, 2, 3]}),
    "dedupe": pa.record_batch({"key": pa.array([b"k1", b"k2"]), "event_time_ms": [5, 6]}),
}
MANIFEST = {"job": "nightly", "positions": {"a.ndjson": [17, 4096]}, "watermark_ms": 1_700_000_000_000}
FILES = ["manifest.json", "window.arrow", "dedupe.arrow"]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def torn(tmp_path):
    """The newest of two checkpoints, to be damaged."""
    save(tmp_path, PARTS, {"older": True})
    return save(tmp_path, PARTS, MANIFEST)


def assert_refused_and_passed_over(folder, file):
    with pytest.raises(StateError, match=file.replace(".", r"\.")):
        load(folder)
    older = latest(folder.parent, fallback=True)
    assert older != folder
    parts, manifest = load(older)
    assert manifest == {"older": True}
    assert parts["window"].equals(PARTS["window"])
    assert parts["dedupe"].equals(PARTS["dedupe"])


@pytest.mark.parametrize("file", FILES)
def test_every_truncation_is_refused(torn, file):
    whole = (torn / file).read_bytes()
    step = 1 if file == "manifest.json" else 61
    for size in [*range(0, len(whole), step), len(whole) - 1]:
        (torn / file).write_bytes(whole[:size])
        with pytest.raises(StateError, match=file):
            load(torn)
        if file != "manifest.json":
            # A wrong size is seen without reading, so latest() never offers it.
            assert latest(torn.parent) != torn
    assert_refused_and_passed_over(torn, file)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("mask", [0x01, 0x03, 0x20, 0x80, 0xFF])
def test_every_flipped_byte_is_refused(torn, file, mask):
    whole = (torn / file).read_bytes()
    step = 1 if file == "manifest.json" else 37
    for at in range(mask % step, len(whole), step):
        damaged = bytearray(whole)
        damaged[at] ^= mask
        (torn / file).write_bytes(damaged)
        with pytest.raises(StateError, match=file):
            load(torn)
    assert_refused_and_passed_over(torn, file)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "longer", "zeros", "folder", "other part"])
def test_other_damage_is_refused(torn, file, damage):
    size = (torn / file).stat().st_size
    if damage == "longer":
        with (torn / file).open("ab") as opened:
            opened.write(b"\0")
    elif damage == "zeros":
        (torn / file).write_bytes(bytes(size))
    elif damage == "other part":
        shutil.copy(torn / ("window.arrow" if file == "dedupe.arrow" else "dedupe.arrow"), torn / file)
    else:
        (torn / file).unlink()
        if damage == "empty":
            (torn / file).touch()
        elif damage == "folder":
            (torn / file).mkdir()
    assert_refused_and_passed_over(torn, file)


def test_a_manifest_of_another_checkpoint_is_refused(torn):
    other = save(torn.parent, {**PARTS, "window": PARTS["window"].slice(1)}, MANIFEST)
    shutil.copy(other / "manifest.json", torn)
    shutil.rmtree(other)
    assert_refused_and_passed_over(torn, "window.arrow")


def test_nothing_usable_is_an_error_and_no_fresh_start(torn):
    for folder in torn.parent.iterdir():
        (folder / "window.arrow").unlink()
    for fallback in (False, True):
        with pytest.raises(StateError, match="no checkpoint can be used"):
            latest(torn.parent, fallback=fallback)


def test_every_damage_of_packed_bytes_is_refused():
    packed = Snapshot(PARTS, MANIFEST).to_bytes()
    for size in range(0, len(packed), 7):
        with pytest.raises(StateError):
            Snapshot.from_bytes(packed[:size])
    for at in range(len(packed)):
        damaged = bytearray(packed)
        damaged[at] ^= 0x41
        with pytest.raises(StateError):
            Snapshot.from_bytes(bytes(damaged))
    with pytest.raises(StateError, match="follow its end"):
        Snapshot.from_bytes(packed + b"\0")


SAVE_FOREVER = """
import sys
import pyarrow as pa
from omnistream.checkpoint import prune, save
number = 0
while True:
    number += 1
    rows = pa.record_batch({"value": pa.array([number] * 50_000)})
    save(sys.argv[1], {"a": rows, "b": rows, "c": rows}, {"number": number})
    prune(sys.argv[1], keep=2)
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay_ms", [0, 2, 5, 9, 14])
def test_a_killed_writer_leaves_its_last_checkpoint(tmp_path, delay_ms):
    with subprocess.Popen(
        [sys.executable, "-c", SAVE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE, cwd=REPOSITORY
    ) as writer:
        said = [int(writer.stdout.readline()) for _ in range(3)]
        time.sleep(delay_ms / 1000)
        writer.send_signal(signal.SIGKILL)
        said += [int(line) for line in writer.stdout.read().split()]
    newest = latest(tmp_path)
    assert newest == latest(tmp_path, fallback=True)
    parts, manifest = load(newest)
    # What was reported is there; one more may have been finished without a report.
    assert manifest["number"] in (said[-1], said[-1] + 1)
    for part in parts.values():
        assert part.column("value").unique().to_pylist() == [manifest["number"]]
    assert save(tmp_path, parts, manifest).name > newest.name
    assert not [folder for folder in tmp_path.iterdir() if folder.name.startswith(".")]
