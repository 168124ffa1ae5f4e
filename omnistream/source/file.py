"""Files by name and by pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from omnistream.errors import SourceError
from omnistream.source.block import Block, Position, SourceSpec
from omnistream.source.formats import Input, read


def open_files(spec: SourceSpec, positions: Mapping[str, Position]) -> Iterator[Block]:
    """Read the files of ``source.path``, one after the other."""
    files = list_files(spec.path)
    sizes = []
    for file in files:
        # Not opened to find out: a named pipe can be opened only once.
        if not os.access(file, os.R_OK):
            raise SourceError(f"{file}: permission denied: make the file readable")
        sizes.append(Path(file).stat().st_size)
    inputs = [
        Input(
            source=file,
            partition=partition,
            codec=Input.codec_of(spec, Path(file).suffix),
            start=positions.get(file, Position()),
            bytes_before=sum(sizes[:partition]),
            bytes_total=sum(sizes),
        )
        for partition, file in enumerate(files)
    ]
    return read(inputs, spec)


def list_files(patterns: Sequence[str]) -> list[str]:
    """Expand glob patterns: the files of each pattern sorted, the patterns in order, no file twice."""
    files: dict[str, None] = {}
    for pattern in patterns:
        if Path(pattern).is_dir():
            raise SourceError(
                f"{pattern}: is a folder: name its files in source.path, such as {pattern}/*.ndjson"
            )
        # A file is taken by its literal name first: brackets are legal in names.
        matches = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        found = [match for match in matches if not Path(match).is_dir()]
        if not found:
            raise SourceError(f"{pattern}: no such file: check source.path")
        files.update(dict.fromkeys(found))
    if not files:
        raise SourceError("source.path is empty: name at least one file")
    return list(files)
