"""decode: JSON messages to columns, by a decoder compiled from the job's schema.

The meaning is in ``tests/reference/decode.py``; the C++ engine is ``cpp/src/decode.cpp`` and what it names.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa

from omnistream import _core
from omnistream.batch import arrow_pieces, conform
from omnistream.schema import Schema


class Decode:
    """The first stage that works: whatever was pushed becomes batches, and messages that cannot be rejects.

    Parameters
    ----------
    schema : Schema
        Already reduced to the columns that the job uses.
    dictionaries : dict of str to Dictionary
        For each dictionary field the codes that the encode stage owns: decode writes codes at once.
    """

    def __init__(self, schema: Schema, dictionaries: dict[str, _core.Dictionary]) -> None:
        self.schema = schema
        self.counts: Counter[str] = Counter()
        self._core_schema = schema.to_core()
        self._decoder = _core.Decoder(self._core_schema, dictionaries)
        self._next_position: dict[tuple[str, int], int] = {}

    def run(
        self, data: Any, source: str, partition: int, first_position: int | None
    ) -> list[tuple[_core.Batch, _core.Batch]]:
        """Return (batch, rejects) pairs, in order."""
        if isinstance(data, (bytes, bytearray, memoryview)):
            size = bytes(data).count(b"\n") if first_position is None else 0
            at = self._position(source, partition, first_position, size, first=1)
            return [self._count(*self._decoder.decode_lines(data, source, partition, at))]
        if isinstance(data, (list, tuple)):
            at = self._position(source, partition, first_position, len(data), first=0)
            return [self._count(*self._decoder.decode_messages(data, source, partition, at))]
        pairs = []
        for piece in arrow_pieces(data):
            at = self._position(source, partition, first_position, len(piece), first=0)
            first_position = None if first_position is None else first_position + len(piece)
            if isinstance(piece, pa.RecordBatch):
                pairs.append(self._import(piece, source, partition, at))
            else:
                pairs.append(self._count(*self._decoder.decode_messages(piece, source, partition, at)))
        return pairs

    def explain(self) -> str:
        """One line: what runs here, and why."""
        dropped = "" if self.schema.explode == "" else f", {self.schema.explode} exploded"
        return f"JSON to {len(self.schema.fields)} columns by learnt layouts ({_core.decode_isa()}){dropped}"

    def _position(self, source: str, partition: int, given: int | None, size: int, first: int) -> int:
        """Return where the next messages stand: those that come without a position are counted on."""
        if given is not None:
            return given
        at = self._next_position.get((source, partition), first)
        self._next_position[source, partition] = at + size
        return at

    def _count(
        self, batch: _core.Batch, rejects: _core.Batch, counts: dict[str, int]
    ) -> tuple[_core.Batch, _core.Batch]:
        self.counts.update(counts)
        return batch, rejects

    def _import(
        self, rows: pa.RecordBatch, source: str, partition: int, at: int
    ) -> tuple[_core.Batch, _core.Batch]:
        batch = _core.import_rows(conform(rows, self.schema), self._core_schema, source, partition, at)
        self.counts.update(messages=batch.rows, decoded=batch.rows, rows=batch.rows)
        return batch, _core.rejects(batch, [], "decode", "", "")
