"""Files that become visible only when they are whole, and what happens to those that were there before."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter
from pathlib import Path

import pyarrow as pa

from omnistream.errors import SinkError

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
        if existing and mode == "error":
            raise SinkError(
                f"{place}: has output already, such as {existing[0].name}: "
                'name another path, or set mode = "overwrite" or "append"'
            )
        self.place = place
        self.paths: list[str] = []
        self._stale = existing if mode == "overwrite" else []

    def create(self, path: Path) -> BufferedWriter:
        """Open the hidden file that will become `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return hidden(path).open("wb")

    def publish(self, path: Path) -> None:
        """Let the file appear: its bytes are durable before its name is."""
        with hidden(path).open("rb") as file:
            os.fsync(file.fileno())
        hidden(path).rename(path)
        _sync_directory(path.parent)
        self.paths.append(str(path))
        self.drop_stale()

    def drop_stale(self) -> None:
        """Remove the output that the new one replaces."""
        for stale in self._stale:
            if str(stale) not in self.paths:
                stale.unlink(missing_ok=True)
                with suppress(OSError):  # a folder that still holds something stays
                    if stale.parent != self.place:
                        stale.parent.rmdir()
        self._stale = []


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
