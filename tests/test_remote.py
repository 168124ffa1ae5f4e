"""Checkpoints behind a URI, which has no rename: pyarrow's filesystem of local files, and an object store.

The store is a server of S3's protocol on loopback (moto), to which pyarrow's own client speaks. With
``OMNISTREAM_TEST_S3`` it is another one: the URI of a folder in a bucket, options of pyarrow included.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from pyarrow import fs

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


@dataclass(frozen=True, slots=True)
class Store:
    """A folder for checkpoints, and a way around the code under test to what lies in it."""

    uri: str
    files: Any
    path: str

    @classmethod
    def of(cls, uri: str) -> Store:
        return cls(uri, *fs.FileSystem.from_uri(uri))

    def named(self, place: object) -> str:
        """The URI of a checkpoint, with the options that lead there."""
        return str(place) + self.uri.removeprefix(self.uri.partition("?")[0])

    def inside(self, place: object) -> str:
        return self.path + str(place).removeprefix(self.uri.partition("?")[0])

    def read(self, place: object) -> bytes:
        with self.files.open_input_stream(self.inside(place)) as file:
            return bytes(file.read())

    def write(self, place: object, content: bytes) -> None:
        with self.files.open_output_stream(self.inside(place)) as file:
            file.write(content)

    def names(self, place: object = "") -> list[str]:
        found = self.files.get_file_info(fs.FileSelector(self.inside(place), allow_not_found=True))
        return sorted(info.base_name for info in found)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URI of a folder in a bucket, with a place for what is under it."""
    if given := os.environ.get("OMNISTREAM_TEST_S3"):
        plain, _, options = given.partition("?")
        yield f"{plain.rstrip('/')}/{{}}?{options}"
        return
    moto = pytest.importorskip("moto.server", reason="moto is not installed: no object store to test with")
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {"ACCESS_KEY_ID": "tester", "SECRET_ACCESS_KEY": "secret"}.items():
            environment.setenv(f"AWS_{name}", value)
        options = f"endpoint_override=127.0.0.1:{server.get_host_and_port()[1]}&scheme=http&region=us-east-1"
        files, _ = fs.FileSystem.from_uri(f"s3://shop?{options}&allow_bucket_creation=true")
        files.create_dir("shop")
        yield f"s3://shop/{{}}?{options}"
    server.stop()


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "file":
        return Store.of(f"file://{tmp_path}/shop/state")
    return Store.of(request.getfixturevalue("bucket").format(uuid4().hex))


def test_what_is_saved_is_loaded_and_the_newest_found(store: Store) -> None:
    assert latest(store.uri) is None
    folders = [save(store.uri, PARTS, {"number": number}) for number in range(4)]
    assert all(isinstance(folder, RemotePath) for folder in folders)
    assert [folder.name for folder in folders] == ["0000000001", "0000000002", "0000000003", "0000000004"]
    parts, manifest = load(folders[1])
    assert manifest == {"number": 1}
    assert {name: part.to_pylist() for name, part in parts.items()} == {
        name: part.to_pylist() for name, part in PARTS.items()
    }
    assert latest(store.uri) == folders[3] == latest(store.uri, fallback=True)
    assert prune(store.uri, keep=2, named=[folders[0].name]) == [folders[1]]
    assert latest(store.uri) == folders[3]
    remove(store.uri, but=[folders[0].name])
    assert latest(store.uri) == folders[0]
    remove(store.uri)
    assert latest(store.uri) is None
    assert store.names() == []


@pytest.mark.parametrize("file", [0, 1])
def test_a_save_that_dies_leaves_no_checkpoint(
    store: Store, monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    first = save(store.uri, PARTS, {})
    whole = checkpoint._write_part

    def dies(part: Any, out: Any) -> Any:
        if part is list(PARTS.values())[file]:
            raise KeyboardInterrupt
        return whole(part, out)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "_write_part", dies)
        with pytest.raises(KeyboardInterrupt):
            save(store.uri, PARTS, {})
    # An object store has no empty folders: where nothing was written, there is nothing.
    assert store.names() == ["0000000001", "0000000002"]
    assert MANIFEST not in store.names("/0000000002")
    assert latest(store.uri) == first
    assert prune(store.uri, keep=1) == []
    again = save(store.uri, PARTS, {})
    assert again.name == "0000000002"
    assert latest(store.uri) == again


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damage_is_refused_or_passed_over(store: Store, damage: str) -> None:
    first, second = save(store.uri, PARTS, {}), save(store.uri, PARTS, {})
    file = f"{second}/window.sales.arrow"
    whole = store.read(file)
    if damage == "gone":
        store.files.delete_file(store.inside(file))
    else:
        store.write(
            file, whole[:-9] if damage == "cut" else whole[:99] + bytes([whole[99] ^ 1]) + whole[100:]
        )
    with pytest.raises(StateError, match=rf"^{re.escape(file)}: is (damaged|missing)"):
        load(second)
    assert latest(store.uri, fallback=True) == first
    store.write(f"{second}/{MANIFEST}", b"{}")
    with pytest.raises(StateError, match="is damaged"):
        load(second)
    assert latest(store.uri) == first


def test_a_job_goes_on_from_there(store: Store, tmp_path: Path) -> None:
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
            "checkpoint": {"path": store.uri, "interval": "1ms"},
        }
    )
    stop = Stop()
    stop.request()
    run_job(job, stop=stop)
    kept = latest(store.uri)
    assert kept is not None
    assert state.inspect(store.uri)["checkpoint"] == str(kept)
    assert state.inspect(store.named(kept))["windows"]["days"]["keys"] <= 1
    assert state.diff(store.named(kept), store.uri) == []
    assert Pipeline.restore(store.uri, job).metrics().messages < 24
    run_job(job)
    assert json.loads((tmp_path / "days.ndjson").read_text())["count"] == 24
    assert latest(store.uri) is None


def test_a_uri_that_leads_nowhere_is_refused() -> None:
    with pytest.raises(StateError, match=r"^nowhere://shop: "):
        place_of("nowhere://shop")


def test_keys_and_options_are_not_shown() -> None:
    uri = "s3://someone:a%2Fsecret@shop/state/?region=us-east-1&endpoint_override=localhost:9"
    assert str(place_of(uri)) == "s3://shop/state"
    assert str(place_of("s3://shop/by@hand?region=us-east-1")) == "s3://shop/by@hand"
    assert str(place_of("abfs://shop:secret@some.dfs.core.windows.net/state")) == (
        "abfs://shop@some.dfs.core.windows.net/state"
    )


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("nowhere://someone:secret@shop?token=secret", "nowhere://shop"),
        ("s3://someone:secret@/state", "s3:///state"),
        ("s3://someone:a secret@shop/state", "s3://shop/state"),
        ("s3://someone:a/secret@shop/state", "s3://shop/state"),  # a slash of a key is to be written %2F
    ],
)
def test_a_uri_that_is_refused_keeps_its_keys(uri: str, shown: str) -> None:
    with pytest.raises(StateError) as refused:
        RemotePath.of(uri)
    assert str(refused.value).startswith(f"{shown}: ")
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


def test_where_nothing_is_found_keys_are_not_shown(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/state"
    job = parse_job({"schema": {"use": "order"}})
    for look in (state.find, lambda place: Pipeline.restore(place, job)):
        with pytest.raises(StateError, match=rf"^{re.escape(uri)}: there is no checkpoint here"):
            look(f"{uri}?token=secret")
    save(uri, PARTS, {})
    (tmp_path / "state/0000000001" / MANIFEST).write_bytes(b"{}")
    with pytest.raises(StateError, match=rf"^{re.escape(uri)}: no checkpoint can be used"):
        latest(f"{uri}?token=secret")


@pytest.mark.parametrize("fallback", [False, True])
def test_what_cannot_be_read_now_is_not_passed_over(
    store: Store, monkeypatch: pytest.MonkeyPatch, fallback: bool
) -> None:
    """From an older one, a job would do again what the newest says is done."""
    save(store.uri, PARTS, {})
    newest = save(store.uri, PARTS, {})
    whole = RemotePath.read_bytes

    def throttled(self: RemotePath) -> bytes:
        if str(self).startswith(str(newest)):
            raise OSError("slow down")
        return whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(RemotePath, "read_bytes", throttled)
        with pytest.raises(StateError, match="slow down"):
            latest(store.uri, fallback=fallback)
    assert latest(store.uri, fallback=fallback) == newest


class Closed(BaseHTTPRequestHandler):
    """A store that lets nobody in."""

    def do_GET(self) -> None:
        self.send_error(403)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


def test_a_store_that_lets_nobody_in_is_an_error_of_the_state() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            at = f"endpoint_override=127.0.0.1:{server.server_address[1]}&scheme=http&region=us-east-1"
            uri = f"s3://someone:secret@shop/state?{at}"
            for ask in (latest, remove, state.find, load, lambda place: save(place, PARTS, {})):
                with pytest.raises(StateError, match=r"^s3://shop/state: .*ACCESS_DENIED"):
                    ask(uri)
        finally:
            server.shutdown()


def test_places_are_the_same_where_the_filesystem_is() -> None:
    here = place_of("s3://shop/state?region=us-east-1")
    assert place_of("s3://shop/state/?region=us-east-1") == here
    assert place_of("s3://shop/state?region=us-west-2") != here
    assert len({here, place_of("s3://shop/state?region=us-east-1")}) == 1
