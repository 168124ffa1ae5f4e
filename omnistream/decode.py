"""decode: messages to columns, by a decoder compiled from the job's schema.

The meaning is in ``tests/reference/decode.py``; the C++ engine is ``cpp/src/decode.cpp`` and what it names.
Of Avro it is ``cpp/src/avro.cpp``; Arrow IPC is read by pyarrow (`omnistream.arrow_messages`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.arrow_messages import ArrowDecoder, Decoded
from omnistream.avro import parse_avro_schema
from omnistream.batch import arrow_pieces, conform
from omnistream.decode_ahead import AnyBlock, DecodeAhead
from omnistream.registry import Registry
from omnistream.schema import Schema
from omnistream.spec import KafkaSettings, KafkaSpec, MessageSpec

NEWLINE = ord("\n")


class Decode:
    """The first stage that works: whatever was pushed becomes batches, and messages that cannot be rejects.

    Parameters
    ----------
    schema : Schema
        Already reduced to the columns that the job uses.
    dictionaries : dict of str to Dictionary
        For each dictionary field the codes that the encode stage owns: decode writes codes at once.
    kafka : KafkaSpec, optional
        Names the columns that messages bring besides their values.
    threads : int
        More than one: blocks of `ahead` are decoded in all of them but the caller's.
    messages, registry : MessageSpec, settings
        What messages are, and where the schemas of Avro are.
    """

    def __init__(
        self,
        schema: Schema,
        dictionaries: dict[str, _core.Dictionary],
        kafka: KafkaSpec | None = None,
        threads: int = 1,
        messages: MessageSpec | None = None,
        registry: KafkaSettings = (),
    ) -> None:
        self.schema = schema
        self._details = [] if kafka is None else list(kafka.columns)
        self.counts: Counter[str] = Counter()
        self._core_schema = schema.to_core()
        self._messages = messages or MessageSpec()
        self._decoder: _core.Decoder | _core.AvroDecoder | ArrowDecoder
        if self._messages.format == "avro":
            framed = not self._messages.writer_schema
            writer = (
                Registry(dict(registry)).types_of
                if framed
                else parse_avro_schema(self._messages.writer_schema)
            )
            self._decoder = _core.AvroDecoder(self._core_schema, dictionaries, writer, framed)
        elif self._messages.format == "arrow":
            self._decoder = ArrowDecoder(schema)
        else:
            self._decoder = _core.Decoder(self._core_schema, dictionaries)
        parallel = threads > 1 and self._messages.format == "json"
        self._ahead = DecodeAhead(self._core_schema, dictionaries, threads - 1) if parallel else None
        self.next_position: dict[tuple[str, int], int] = {}  # of messages that come without one

    def run(
        self, data: Any, source: str, partition: int, first_position: int | None
    ) -> list[tuple[_core.Batch, _core.Batch]]:
        """Return (batch, rejects) pairs, in order. What cannot be read at all changes nothing here."""
        if isinstance(data, _core.MessageBlock):
            return self._count(self._block(data))
        if isinstance(data, Future):
            return self._count([data.result().take()])
        if isinstance(data, (bytes, bytearray, memoryview)) and self._messages.format != "json":
            data = [bytes(data)]
        is_text = isinstance(data, (bytes, bytearray, memoryview))
        # Lines are numbered from 1, as editors do, and messages from 0, as topics do.
        known = self.next_position.get((source, partition), 1 if is_text else 0)
        at = known if first_position is None else first_position
        done: list[Decoded] = []
        if is_text and isinstance(self._decoder, _core.Decoder):
            done.append(self._decoder.decode_lines(data, source, partition, at))
            at += _lines(data) if first_position is None else 0
        elif isinstance(data, (list, tuple)):
            done += _each(self._decoder.decode_messages(data, source, partition, at))
            at += len(data)
        else:
            for piece in arrow_pieces(data):
                if isinstance(piece, pa.RecordBatch):
                    done.append(self._import(piece, source, partition, at))
                else:
                    done += _each(self._decoder.decode_messages(piece, source, partition, at))
                at += len(piece)
        if first_position is None:
            self.next_position[source, partition] = at
        return self._count(done)

    def _block(self, block: _core.MessageBlock) -> list[Decoded]:
        done = _each(self._decoder.decode_block(block))
        if not self._details:
            return done
        return [
            (_core.with_details(batch, block, self._details), rejects, counts)
            for batch, rejects, counts in done
        ]

    def _count(self, done: list[Decoded]) -> list[tuple[_core.Batch, _core.Batch]]:
        for _, _, counts in done:
            self.counts.update(counts)
        return [(batch, rejects) for batch, rejects, _ in done]

    def ahead(self, blocks: Iterable[AnyBlock]) -> Iterator[tuple[AnyBlock, Any]]:
        """Yield each block with what `run` takes for it, decoded in other threads where there are any."""
        if self._ahead is None:
            return ((block, block.data) for block in blocks)
        return self._ahead.run(blocks)

    def explain(self) -> str:
        """One line: what runs here, and why."""
        dropped = "" if self.schema.explode == "" else f", {self.schema.explode} exploded"
        if self._messages.format == "avro":
            schemas = (
                "the one writer schema" if self._messages.writer_schema else "writer schemas by their id"
            )
            return f"Avro to {len(self.schema.fields)} columns by {schemas}{dropped}"
        if self._messages.format == "arrow":
            return f"Arrow IPC to {len(self.schema.fields)} columns"
        return f"JSON to {len(self.schema.fields)} columns by learnt layouts ({_core.decode_isa()}){dropped}"

    def snapshot(self) -> list[dict[str, Any]]:
        """Return where each partition goes on, in JSON types."""
        return [
            {"source": source, "partition": partition, "position": position}
            for (source, partition), position in self.next_position.items()
        ]

    def restore(self, positions: list[dict[str, Any]]) -> None:
        """Take back what `snapshot` returned."""
        self.next_position = {(each["source"], each["partition"]): each["position"] for each in positions}

    def _import(self, rows: pa.RecordBatch, source: str, partition: int, at: int) -> Decoded:
        batch = _core.import_rows(conform(rows, self.schema), self._core_schema, source, partition, at)
        counts = dict.fromkeys(("messages", "decoded", "rows"), batch.rows)
        return batch, _core.rejects(batch, [], "decode", "", ""), counts


def _each(decoded: Decoded | list[Decoded]) -> list[Decoded]:
    """Return what a decoder gave as a list: batches of messages are one, messages that are batches many."""
    return decoded if isinstance(decoded, list) else [decoded]


def _lines(text: bytes | bytearray | memoryview) -> int:
    """Count lines; the last one may lack its newline."""
    view = np.frombuffer(text, np.uint8)
    return int(np.count_nonzero(view == NEWLINE)) + bool(len(view) and view[-1] != NEWLINE)
