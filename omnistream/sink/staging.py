"""Files that become visible only when they are whole, and what happens to those that were there before."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path

import pyarrow as pa

from omnistream.errors import SinkError

log = logging.getLogger(__name__)

# A dot in front hides a file from dataset readers (pyarrow, DuckDB, Polars, Spark) and from ls.
HIDDEN = ".{}.tmp"


@contextmanager
def as_sink_error(place: Path | str) -> Iterator[None]:
    """Turn what the system says into a SinkError that names the place."""
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"{place}: {error.strerror or error}: check the path, its permissions and the disk"
        ) from error
    except pa.ArrowException as error:
        raise SinkError(f"{place}: {error}") from error


def numbered(directory: Path, pattern: re.Pattern[str]) -> dict[Path, int]:
    """Files of `directory` whose whole name matches, and the number that is the pattern's group (none: 0)."""
    matches = {
        entry: pattern.fullmatch(entry.name) for entry in sorted(directory.iterdir()) if entry.is_file()
    }
    return {entry: int(match[1] or 0) for entry, match in matches.items() if match}


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is about to change at an output: files that are whole and hidden, and those that they replace."""

    appearing: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()

    def sync(self) -> None:
        """Make the hidden files durable; in any thread."""
        paths = [Path(path) for path in self.appearing]
        for path in paths:
            with as_sink_error(path), hidden(path).open("rb") as file:
                os.fsync(file.fileno())
        for directory in {path.parent for path in paths}:
            with as_sink_error(directory):
                _sync_directory(directory)


class AtOnce:
    """A sink that cannot hold anything back: what is printed or sent is there."""

    def hold(self) -> None:
        """Change nothing."""

    def prepare(self) -> Prepared:
        """Flush."""
        self.flush()
        return Prepared()

    def commit(self) -> None:
        """Change nothing."""

    def flush(self) -> None:
        """Wait until all is delivered."""
        raise NotImplementedError


class Staging:
    """Hidden files on their way to their names.

    Parameters
    ----------
    place : Path
        What the user calls the output; for messages.
    existing : list of Path
        Output that is there already.
    mode : str
        ``error``, ``overwrite`` or ``append``.
    """

    def __init__(self, place: Path, existing: list[Path], mode: str) -> None:
        if mode not in ("error", "overwrite", "append"):
            raise SinkError(f"sink mode {mode!r} is unknown: use error, overwrite or append")
        if place.exists() and not place.is_file() and not place.is_dir():
            raise SinkError(f"{place}: is a pipe or device, whose place a whole file would take: name a file")
        if existing and mode == "error":
            raise SinkError(
                f"{place}: has output already, such as {existing[0].name}: "
                'name another path, or set mode = "overwrite" or "append"'
            )
        self.place = place
        self.paths: list[str] = []
        self.held = False  # whether whole files wait for `commit`
        self._whole: list[Path] = []  # since the last `prepared`
        self._prepared: list[Path] = []
        self._stale = existing if mode == "overwrite" else []

    def create(self, path: Path) -> BufferedWriter:
        """Open the hidden file that will become `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return hidden(path).open("wb")

    def finish(self, path: Path) -> None:
        """Say that the hidden file is whole; it appears now, or in its turn if files are held."""
        self._whole.append(path)
        if not self.held:
            self.flush()

    def prepared(self) -> Prepared:
        """Return what the next `commit` does: what becomes whole from now on waits for the one after."""
        self._prepared += self._whole
        self._whole = []
        return Prepared(tuple(map(str, self._prepared)), tuple(map(str, self._stale)))

    def commit(self) -> None:
        """Let the files appear that were prepared, and are durable by now."""
        for path in self._prepared:
            hidden(path).rename(path)
            self.paths.append(str(path))
        for directory in {path.parent for path in self._prepared}:
            _sync_directory(directory)
        if self._prepared:
            self.drop_stale()
        self._prepared = []

    def flush(self) -> None:
        """Let all whole files appear."""
        self.prepared().sync()
        self.commit()

    def drop_stale(self) -> None:
        """Remove the output that the new one replaces."""
        for stale in self._stale:
            if str(stale) not in self.paths:
                stale.unlink(missing_ok=True)
                with suppress(OSError):  # a folder that still holds something stays
                    if stale.parent != self.place:
                        stale.parent.rmdir()
        self._stale = []


def complete(appearing: Iterable[str] = (), replaced: Iterable[str] = ()) -> None:
    """Do what a run was about to do when it died: let the files appear that its checkpoint counts on."""
    paths = [Path(path) for path in appearing]
    for path in paths:
        with as_sink_error(path):
            if hidden(path).exists():
                hidden(path).rename(path)
                _sync_directory(path.parent)
            elif not path.exists():
                log.warning("%s: was written before the checkpoint, and is gone", path)
    for path in {Path(each) for each in replaced}.difference(paths):
        with as_sink_error(path):
            path.unlink(missing_ok=True)


def hidden(path: Path) -> Path:
    """Where the file is while it is written."""
    return path.with_name(HIDDEN.format(path.name))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def conform(batch: pa.RecordBatch, schema: pa.Schema, place: Path | str) -> pa.RecordBatch:
    """Give the batch the sink's schema, to which nullability and metadata belong; anything else must fit."""
    if batch.schema.names != schema.names or batch.schema.types != schema.types:
        got, want = (
            [f"{name} {kind}" for name, kind in zip(s.names, s.types, strict=True)]
            for s in (batch.schema, schema)
        )
        differing = [f"{have} for {need}" for have, need in zip(got, want, strict=False) if have != need]
        count = f"{len(got)} columns for {len(want)}"
        raise SinkError(f"{place}: a batch does not fit the sink: {', '.join(differing) or count}")
    return pa.RecordBatch.from_arrays(batch.columns, schema=schema)
