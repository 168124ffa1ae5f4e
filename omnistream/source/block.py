"""What a source is asked for, and what it yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class SourceSpec(Protocol):
    """The ``[source]`` table of a job."""

    @property
    def type(self) -> str:
        """A key of `SOURCES`."""

    @property
    def path(self) -> Sequence[str]:
        """Files and glob patterns."""

    @property
    def format(self) -> str:
        """``ndjson``, ``arrow`` or ``parquet``."""

    @property
    def compression(self) -> str:
        """``auto`` (by suffix), ``none``, ``gzip`` or ``zstd``."""

    @property
    def batch_bytes(self) -> int:
        """How many bytes of lines a block holds."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading goes on in one file: a checkpoint keeps one per source path.

    Attributes
    ----------
    line : int
        Number of the next line or row, from 1.
    byte : int
        Where that line starts in the (decompressed) text; 0 for rows.
    """

    line: int = 1
    byte: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Some whole messages of one partition.

    Attributes
    ----------
    data : memoryview or pyarrow.RecordBatch
        Whole lines of NDJSON (the last one of a file may lack its newline), or rows; none from a pipe that
        is silent. Not written again while anyone holds a view of it.
    source : str
        The file, or ``stdin``.
    partition : int
        Index of the file among the source's files.
    first_position : int
        Number of the first line or row, from 1.
    next : Position
        Where the block after this one starts.
    bytes_read, bytes_total : int
        Progress over all files, in stored (compressed) bytes; the total is 0 where nobody knows it.
    skipped_bytes : int
        How much of the last line was left out because it is longer than `MAX_LINE_BYTES`.
    """

    data: Any
    source: str
    partition: int
    first_position: int
    next: Position
    bytes_read: int
    bytes_total: int
    skipped_bytes: int = 0
