"""checkpoint: all state of a job as one thing, written aside, made durable, renamed, and verified when read.

A checkpoint is a folder with a ``manifest.json`` and an Arrow IPC file per part, which any Arrow tool opens::

    checkpoints/0000000012/manifest.json
    checkpoints/0000000012/window.sales.arrow

The folder of checkpoints is a path, or a URI of an object store (`omnistream.remote`). There the manifest is
written last, and makes a checkpoint of what is without it nothing.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeVar
from urllib.parse import quote

import pyarrow as pa

from omnistream.errors import StateError
from omnistream.remote import AnyPath, RemotePath, place_of

log = logging.getLogger(__name__)

# Of the layout of folders, manifests and snapshot bytes; what the parts mean is the caller's to version.
FORMAT_VERSION = 1
SNAPSHOT_MAGIC = b"omnistream snapshot 1\n"

DIGEST_BYTES = 16
MANIFEST = "manifest.json"
SEQUENCE = re.compile(r"\d{10,}")
# Names with a dot are work in progress: never read, removed by the next save.
WRITING = ".writing-"
REMOVING = ".removing-"

Parts = dict[str, pa.Table | pa.RecordBatch]
Written = TypeVar("Written")


class LateParts(Mapping[str, pa.Table | pa.RecordBatch]):
    """Parts that are made when they are asked for, once, by whichever thread comes first."""

    def __init__(self, write: Callable[[], Parts]) -> None:
        self._write: Callable[[], Parts] | None = write
        self._parts: Parts = {}
        self._lock = threading.Lock()

    def _written(self) -> Parts:
        with self._lock:
            if self._write is not None:
                self._parts = self._write()
                self._write = None
        return self._parts

    def __getitem__(self, name: str) -> pa.Table | pa.RecordBatch:
        return self._written()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._written())

    def __len__(self) -> int:
        return len(self._written())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State in memory.

    Attributes
    ----------
    parts : mapping of str to pyarrow.Table or pyarrow.RecordBatch
        State by name. What was a record batch comes back as one. Those of a pipeline are made when they are
        first asked for, in any thread.
    manifest : dict
        Whatever names the job and its progress, in JSON types.
    """

    parts: Mapping[str, pa.Table | pa.RecordBatch]
    manifest: dict[str, Any]

    def save(self, path: str | AnyPath) -> AnyPath:
        """Write the next checkpoint under `path`; see `save`."""
        return save(path, self.parts, self.manifest)

    @classmethod
    def load(cls, checkpoint: str | AnyPath) -> Self:
        """Read the folder of one checkpoint; see `load`."""
        return cls(*load(checkpoint))

    def to_bytes(self) -> bytes:
        """Pack everything into bytes, for a host that keeps state itself. Equal state gives equal bytes."""
        bodies = BytesIO()
        entries = {name: _write_part(part, bodies) for name, part in self.parts.items()}
        manifest = _manifest_bytes(entries, self.manifest)
        return b"".join([SNAPSHOT_MAGIC, len(manifest).to_bytes(8, "little"), manifest, bodies.getbuffer()])

    @classmethod
    def from_bytes(cls, packed: bytes) -> Self:
        """Unpack what `to_bytes` made; a `StateError` says what is damaged."""
        at = len(SNAPSHOT_MAGIC) + 8
        if packed[: len(SNAPSHOT_MAGIC)] != SNAPSHOT_MAGIC or len(packed) < at:
            raise StateError("snapshot: these bytes are no snapshot of this version of omnistream")
        size = int.from_bytes(packed[len(SNAPSHOT_MAGIC) : at], "little")
        document = _read_manifest(packed[at : at + size], "snapshot: manifest")
        at += size
        parts: Parts = {}
        for name, entry in document["parts"].items():
            parts[name] = _read_part(packed[at : at + entry["size_bytes"]], entry, f"snapshot: part {name}")
            at += entry["size_bytes"]
        if at != len(packed):
            raise StateError(f"snapshot: {len(packed) - at} bytes follow its end")
        return cls(parts, document["manifest"])


def save(
    path: str | AnyPath, parts: Mapping[str, pa.Table | pa.RecordBatch], manifest: Mapping[str, Any]
) -> AnyPath:
    """Write the next checkpoint under `path`.

    It appears under its name at once and whole, after all of it is durable. One process at a time may write
    under a path.

    Parameters
    ----------
    path : path or URI
        Folder of the checkpoints; made when it is missing.
    parts : mapping of str to pyarrow.Table or pyarrow.RecordBatch
        State by name.
    manifest : mapping
        Whatever names the job and its progress, in JSON types; `load` gives it back.

    Returns
    -------
    Path
        The folder of this checkpoint.
    """
    root = place_of(path)
    with as_state_error(root):
        if isinstance(root, Path):
            root.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(root)
        sequence = max((int(folder.name) for folder in _folders(root)), default=0) + 1
        if isinstance(root, RemotePath):
            whole = root / f"{sequence:010d}"
            whole.mkdir()
            _write_files(whole, parts, manifest)
            return whole
        aside = root / f"{WRITING}{sequence:010d}"
        aside.mkdir()
        _write_files(aside, parts, manifest)
        _sync_directory(aside)
        final = aside.rename(root / f"{sequence:010d}")
        _sync_directory(root)
        _sync_directory(root.parent)
    return final


def load(checkpoint: str | AnyPath) -> tuple[Parts, dict[str, Any]]:
    """Read one checkpoint, and check every byte of it.

    Parameters
    ----------
    checkpoint : path
        A folder that `save` or `latest` returned.

    Raises
    ------
    StateError
        Names the file and what is wrong with it. Damaged state is never returned.
    """
    folder = place_of(checkpoint)
    with as_state_error(folder):
        document = _read_manifest((folder / MANIFEST).read_bytes(), str(folder / MANIFEST))
        parts: Parts = {}
        for name, entry in document["parts"].items():
            file = folder / _file_name(name)
            parts[name] = _read_part(file.read_bytes(), entry, str(file))
        return parts, document["manifest"]


def latest(path: str | AnyPath, *, fallback: bool = False) -> AnyPath | None:
    """Find the newest complete checkpoint.

    Parameters
    ----------
    path : path
        Folder of the checkpoints.
    fallback : bool
        Read each checkpoint through, and pass over damaged ones with a warning. Without it, only folders in
        which a file is missing or has a wrong size are passed over, and `load` refuses the rest.

    Returns
    -------
    Path or None
        None when there is no checkpoint yet.

    Raises
    ------
    StateError
        When there are checkpoints, but none that can be used: starting afresh is the operator's choice. When
        one cannot be read now: whoever went on from an older one would do again what is done.
    """
    refused = []
    root = place_of(path)
    with as_state_error(root):
        folders = sorted(_folders(root), key=_sequence, reverse=True)
    for folder in folders:
        try:
            if fallback:
                load(folder)
            else:
                _check_complete(folder)
        except StateError as error:
            if not _is_damage(error):
                raise
            refused.append(str(error))
            log.warning("passing over checkpoint %s: %s", folder, error)
        else:
            return folder
    if refused:
        raise StateError(f"{root}: no checkpoint can be used: {'; '.join(refused)}")
    return None


def prune(path: str | AnyPath, keep: int, named: Collection[str] = ()) -> list[AnyPath]:
    """Remove all but the newest `keep` complete checkpoints, and return what was removed.

    A checkpoint goes only when a newer one is complete, so at least one always stays; and those whose folders
    are `named` stay.
    """
    if keep < 1:
        raise StateError(f"keep = {keep}: at least one checkpoint must stay")
    root = place_of(path)
    removed: list[AnyPath] = []
    complete = 0
    with as_state_error(root):
        for folder in sorted(_folders(root), key=_sequence, reverse=True):
            if folder.name in named:
                continue
            if complete >= keep:
                _remove_whole(folder)
                removed.append(folder)
                continue
            try:
                _check_complete(folder)
            except StateError as error:
                log.warning("not counting checkpoint %s: %s", folder, error)
            else:
                complete += 1
    return removed


def remove(path: str | AnyPath, but: Collection[str] = ()) -> None:
    """Remove all checkpoints under `path`, but for the folders named; the oldest first.

    Whoever dies in the middle leaves the newest: from an older one, what is done would be done again.
    """
    root = place_of(path)
    with as_state_error(root):
        _remove_unfinished(root)
        for folder in sorted(_folders(root), key=_sequence):
            if folder.name not in but:
                _remove_whole(folder)


# --- the manifest ---------------------------------------------------------------------------------


def _manifest_bytes(entries: Mapping[str, Mapping[str, Any]], manifest: Mapping[str, Any]) -> bytes:
    document = {
        "format_version": FORMAT_VERSION,
        "omnistream_version": _package_version(),
        "parts": entries,
        "manifest": manifest,
    }
    try:
        body = _render(document)
        if json.loads(body)["manifest"] != manifest:
            raise TypeError("a key is no string, or a sequence is no list")
    except (TypeError, ValueError) as error:
        raise StateError(f"manifest: {error}: use JSON types only") from error
    return _render({**document, "blake2b": _checksum(body)})


def _read_manifest(text: bytes, place: str) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(text)
        found = document.pop("blake2b")
        format_version = document["format_version"]
        # Rendered again, it must be the same bytes: not even white space may have changed.
        sound = found == _checksum(_render(document)) and text == _render({**document, "blake2b": found})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise StateError(f"{place}: is damaged: it is not the JSON of a manifest") from error
    if not sound:
        raise StateError(f"{place}: is damaged: its checksum differs")
    if format_version != FORMAT_VERSION:
        raise StateError(
            f"{place}: has format {format_version}, written by omnistream {document['omnistream_version']}; "
            f"this omnistream reads format {FORMAT_VERSION}"
        )
    return document


def _render(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def _checksum(body: bytes | pa.Buffer) -> str:
    return blake2b(body, digest_size=DIGEST_BYTES).hexdigest()


def _package_version() -> str:
    try:
        return version("omnistream")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"


# --- parts ----------------------------------------------------------------------------------------


class _Sum:
    """A file that is written from its begin to its end, and its checksum; nothing of it waits in memory."""

    closed = False  # what pyarrow asks a file

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = blake2b(digest_size=DIGEST_BYTES)
        self.size_bytes = 0

    def write(self, data: bytes | pa.Buffer) -> int:
        self._digest.update(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None:
        """Whoever opened the file flushes it."""

    def close(self) -> None:
        """Whoever opened the file closes it."""

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _write_part(part: pa.Table | pa.RecordBatch, file: BinaryIO) -> dict[str, Any]:
    """Write an Arrow IPC file and return its entry; chunks of a table stay as they are, a batch is one."""
    kind = "table" if isinstance(part, pa.Table) else "record batch"
    summed = _Sum(file)
    options = pa.ipc.IpcWriteOptions(unify_dictionaries=True)
    with pa.ipc.new_file(pa.PythonFile(summed, "w"), part.schema, options=options) as writer:
        writer.write(part)
    return {
        "kind": kind,
        "rows": part.num_rows,
        "size_bytes": summed.size_bytes,
        "blake2b": summed.hexdigest(),
    }


def _read_part(body: bytes, entry: Mapping[str, Any], place: str) -> pa.Table | pa.RecordBatch:
    if len(body) != entry["size_bytes"]:
        raise StateError(f"{place}: is damaged: it has {len(body)} bytes, not {entry['size_bytes']}")
    if _checksum(body) != entry["blake2b"]:
        raise StateError(f"{place}: is damaged: its checksum differs")
    reader = pa.ipc.open_file(pa.py_buffer(body))
    return reader.read_all() if entry["kind"] == "table" else reader.get_batch(0)


def _file_name(part: str) -> str:
    return f"{quote(part, safe='')}.arrow"


# --- folders --------------------------------------------------------------------------------------


def _folders(root: AnyPath) -> Iterator[AnyPath]:
    if isinstance(root, RemotePath):
        yield from (entry for entry in _numbered(root) if (entry / MANIFEST).exists())
    elif root.is_dir():
        yield from (entry for entry in root.iterdir() if SEQUENCE.fullmatch(entry.name) and entry.is_dir())


def _numbered(root: RemotePath) -> list[RemotePath]:
    return [entry for entry in root.iterdir() if SEQUENCE.fullmatch(entry.name)]


def _sequence(folder: AnyPath) -> int:
    return int(folder.name)


def _check_complete(folder: AnyPath) -> None:
    """Check that the manifest is sound and every file has its size, without reading the parts."""
    with as_state_error(folder):
        document = _read_manifest((folder / MANIFEST).read_bytes(), str(folder / MANIFEST))
        for name, entry in document["parts"].items():
            file = folder / _file_name(name)
            if (size := file.stat().st_size) != entry["size_bytes"]:
                raise StateError(f"{file}: is damaged: it has {size} bytes, not {entry['size_bytes']}")


def _is_damage(error: StateError) -> bool:
    """Whether the checkpoint itself is wrong; what cannot be read just now may be sound."""
    cause = error.__cause__
    wrong_itself = (FileNotFoundError, IsADirectoryError, NotADirectoryError)
    return not isinstance(cause, OSError) or isinstance(cause, wrong_itself)


def _remove_whole(folder: AnyPath) -> None:
    """Remove a checkpoint; a crash in the middle must not leave half of one."""
    if isinstance(folder, RemotePath):
        folder.remove(first=MANIFEST)
    else:
        shutil.rmtree(folder.rename(folder.with_name(f"{REMOVING}{folder.name}")))


def _remove_unfinished(root: AnyPath) -> None:
    if isinstance(root, RemotePath):
        for folder in _numbered(root):
            if not (folder / MANIFEST).exists():
                folder.remove(first=MANIFEST)
        return
    for prefix in (WRITING, REMOVING):
        for leftover in root.glob(f"{prefix}*"):
            shutil.rmtree(leftover)


def _write_files(
    folder: AnyPath, parts: Mapping[str, pa.Table | pa.RecordBatch], manifest: Mapping[str, Any]
) -> None:
    entries = {}
    for name, part in parts.items():
        entries[name] = _write_durably(folder / _file_name(name), partial(_write_part, part))
    rendered = _manifest_bytes(entries, manifest)
    _write_durably(folder / MANIFEST, lambda file: file.write(rendered))


def _write_durably(file: AnyPath, write: Callable[[BinaryIO], Written]) -> Written:
    if isinstance(file, RemotePath):
        return file.write(write)
    with file.open("xb") as opened:
        written = write(opened)
        opened.flush()
        os.fsync(opened.fileno())
    return written


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def as_state_error(place: AnyPath) -> Iterator[None]:
    """Turn what the filesystem of a place says into a `StateError` that names the place."""
    try:
        yield
    except FileNotFoundError as error:
        raise StateError(f"{error.filename}: is missing: name a checkpoint's own folder") from error
    except OSError as error:
        raise StateError(f"{error.filename or place}: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise StateError(f"{place}: {error}") from error
