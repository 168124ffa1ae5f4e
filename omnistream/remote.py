"""Folders of object stores, and of what else pyarrow has a filesystem for, with what is needed of a path.

``s3://bucket/shop``, ``gs://bucket/shop``, ``file:///var/shop``: any URI of ``FileSystem.from_uri``.
There is no atomic rename: who writes several files writes the one last that makes them count.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import pyarrow as pa

from omnistream.errors import StateError

Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Stat:
    """What of `os.stat_result` there is."""

    st_size: int
    st_mtime: float


class RemotePath:
    """A place in a `pyarrow.fs.FileSystem`; `str` gives its URI."""

    def __init__(self, files: Any, path: str, uri: str) -> None:
        self._files = files
        self._path = path
        self._uri = uri

    @classmethod
    def of(cls, uri: str) -> RemotePath:
        """Open the filesystem of a URI; a `StateError` says what is wrong with it."""
        from pyarrow import fs  # loads what object stores need, which local paths do without

        try:
            files, path = fs.FileSystem.from_uri(uri)
        except (pa.ArrowException, ValueError, OSError) as error:
            # A key with a slash that is not escaped is why some cannot be read: it may end at any @.
            scheme, _, rest = uri.partition("?")[0].partition("://")
            shown = _shown(f"{scheme}://{rest.rpartition('@')[2]}")
            # Not `from error`, which may name the keys, too.
            raise StateError(f"{shown}: {str(error).replace(uri, shown)}") from None
        return cls(files, path.rstrip("/"), _shown(uri))

    def __str__(self) -> str:
        return self._uri

    def __repr__(self) -> str:
        return f"RemotePath({self._uri!r})"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RemotePath)
            and other._path == self._path
            and bool(self._files.equals(other._files))
        )

    def __hash__(self) -> int:
        return hash(self._path)

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self._files, f"{self._path}/{name}", f"{self._uri}/{name}")

    @property
    def name(self) -> str:
        """The last part."""
        return self._path.rsplit("/", 1)[-1]

    def exists(self) -> bool:
        """Whether there is a file or a folder."""
        from pyarrow import fs

        return bool(self._info().type != fs.FileType.NotFound)

    def is_dir(self) -> bool:
        """Whether there is a folder."""
        from pyarrow import fs

        return bool(self._info().type == fs.FileType.Directory)

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what is in the folder; nothing where there is none."""
        from pyarrow import fs

        for info in self._files.get_file_info(fs.FileSelector(self._path, allow_not_found=True)):
            yield self / info.base_name

    def stat(self) -> Stat:
        """Return the size and when it was written."""
        info = self._info()
        if info.size is None:
            raise FileNotFoundError(errno.ENOENT, "is missing", self._uri)
        return Stat(info.size, info.mtime.timestamp() if info.mtime is not None else 0.0)

    def read_bytes(self) -> bytes:
        """Return all of a file."""
        self.stat()
        with self._files.open_input_stream(self._path) as file:
            content: bytes = file.read()
        return content

    def write(self, write: Callable[[BinaryIO], Written]) -> Written:
        """Write a file from its begin to its end. It is there, whole, once this returns."""
        with self._files.open_output_stream(self._path) as file:
            return write(file)

    def mkdir(self) -> None:
        """Make the folder, and those around it."""
        self._files.create_dir(self._path, recursive=True)

    def remove(self, first: str) -> None:
        """Remove a folder: first the file without which the others do not count."""
        if (self / first).exists():
            self._files.delete_file(f"{self._path}/{first}")
        self._files.delete_dir(self._path)

    def _info(self) -> Any:
        return self._files.get_file_info(self._path)


AnyPath = Path | RemotePath


def _shown(uri: str) -> str:
    """Return a URI without what is not for a message or a log: keys to it, and options of its filesystem."""
    scheme, _, rest = uri.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    keys, at, host = authority.rpartition("@")
    if scheme.startswith("abfs"):  # a container may stand there, and a key behind a colon
        host = keys.partition(":")[0] + at + host
    return f"{scheme}://{host}{slash}{path}".rstrip("/")


def place_of(path: str | AnyPath) -> AnyPath:
    """Return where a path or a URI leads."""
    if isinstance(path, str):
        return RemotePath.of(path) if "://" in path else Path(path)
    return path
