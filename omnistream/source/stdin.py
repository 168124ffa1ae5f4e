"""Standard input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from omnistream.errors import SourceError
from omnistream.source.block import Block, Position, SourceSpec
from omnistream.source.formats import STDIN, Input, read


def open_stdin(spec: SourceSpec, positions: Mapping[str, Position]) -> Iterator[Block]:
    """Read standard input to its end; a pipe that falls silent hands over the lines it has."""
    if spec.format == "parquet":
        raise SourceError("Parquet is read from its end, which stdin cannot: name a file in source.path")
    if positions:
        raise SourceError(
            "stdin cannot go back to where a checkpoint was taken: read files, or drop the checkpoint"
        )
    return read([Input(STDIN, 0, Input.codec_of(spec, ""), Position(), 0, 0)], spec)
