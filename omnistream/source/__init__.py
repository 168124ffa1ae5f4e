"""source: messages come in. A source yields blocks of them, partition by partition, in order of position."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from omnistream.errors import SourceError
from omnistream.source.block import Block, Position, SourceSpec
from omnistream.source.file import list_files, open_files
from omnistream.source.formats import FORMATS, MAX_LINE_BYTES, cut_lines
from omnistream.source.stdin import open_stdin

__all__ = [
    "FORMATS",
    "MAX_LINE_BYTES",
    "SOURCES",
    "Block",
    "Position",
    "SourceSpec",
    "cut_lines",
    "list_files",
    "open_source",
]

# A source is a function from its spec, and the positions to go on from, to blocks. Kafka is not among them: a
# group hands partitions over and takes them back on the way (omnistream/source/kafka.py).
SOURCES: dict[str, Callable[[SourceSpec, Mapping[str, Position]], Iterator[Block]]] = {
    "file": open_files,
    "stdin": open_stdin,
}


def open_source(spec: SourceSpec, positions: Mapping[str, Position] | None = None) -> Iterator[Block]:
    """Check that everything `spec` names can be read, then yield its blocks.

    Parameters
    ----------
    spec : SourceSpec
        The ``[source]`` table of a job.
    positions : mapping of str to Position, optional
        From a checkpoint: where to go on, by source path. Other files are read from the start.

    Raises
    ------
    SourceError
        At once for what is missing or makes no sense; while reading for what breaks then.
    """
    if spec.type not in SOURCES:
        raise SourceError(f"source.type = {spec.type!r} is unknown: use one of {', '.join(SOURCES)}")
    if spec.format not in FORMATS:
        raise SourceError(f"source.format = {spec.format!r} is unknown: use one of {', '.join(FORMATS)}")
    if spec.compression not in ("auto", "none", "gzip", "zstd"):
        raise SourceError(
            f"source.compression = {spec.compression!r} is unknown: use auto, none, gzip or zstd"
        )
    if not 1 <= spec.batch_bytes <= MAX_LINE_BYTES:
        raise SourceError(
            f"source.batch_bytes = {spec.batch_bytes} is out of range: use 1 to {MAX_LINE_BYTES}"
        )
    return SOURCES[spec.type](spec, positions or {})
