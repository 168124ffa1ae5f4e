"""decode: messages to columns, by a decoder compiled from the job's schema.

The meaning is in ``tests/reference/decode.py``; the C++ engine is ``cpp/src/decode.cpp`` and what it names,
the device's is ``kernels/decode.py``.
Of Avro it is ``cpp/src/avro.cpp``; Arrow IPC is read by pyarrow (`omnistream.arrow_messages`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from omnistream import _core
from omnistream.arrow_messages import ArrowDecoder, Decoded
from omnistream.avro import parse_avro_schema
from omnistream.batch import arrow_pieces, conform
from omnistream.clean import Rows
from omnistream.decode_ahead import AnyBlock, DecodeAhead
from omnistream.placement import ON_CPU, Seat
from omnistream.registry import Registry
from omnistream.schema import Schema
from omnistream.spec import JobSpec, KafkaSettings, KafkaSpec, MessageSpec

if TYPE_CHECKING:
    from omnistream.kernels.decode import DeviceDecoder
    from omnistream.kernels.launch import Launcher
    from omnistream.kernels.rows import DeviceRows

NEWLINE = ord("\n")
# Rows, rejects and counts; of rows on a device the count ``left``, too.
Piece: TypeAlias = "tuple[_core.Batch | DeviceRows, _core.Batch, dict[str, int]]"


def refusal(job: JobSpec, schema: Schema) -> str | None:
    """Return why a job's messages are decoded on the CPU, or None."""
    from omnistream.kernels.decode import unsupported

    if job.messages.format != "json":
        return f"messages in {job.messages.format.capitalize()} have no kernel"
    if job.source is not None and job.source.kafka is not None and job.source.kafka.columns:
        return "columns that Kafka brings beside the values are added on the CPU"
    reason: str | None = unsupported(schema.to_core())
    return reason


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
    seat : Seat, optional
        By default on the CPU.
    checked : collection of str
        Text fields that nobody reads but that must be sound: the CPU makes no columns of them.
    """

    def __init__(
        self,
        schema: Schema,
        dictionaries: dict[str, _core.Dictionary],
        kafka: KafkaSpec | None = None,
        threads: int = 1,
        messages: MessageSpec | None = None,
        registry: KafkaSettings = (),
        seat: Seat = ON_CPU,
        checked: Collection[str] = (),
    ) -> None:
        self.schema = schema
        self._details = [] if kafka is None else list(kafka.columns)
        self.counts: Counter[str] = Counter()
        self._core_schema = schema.to_core()
        self._checked = frozenset(checked)
        read = schema.to_core(self._checked)
        self._messages = messages or MessageSpec()
        self._decoder: _core.Decoder | _core.AvroDecoder | ArrowDecoder
        if self._messages.format == "avro":
            framed = not self._messages.writer_schema
            writer = (
                Registry(dict(registry)).types_of
                if framed
                else parse_avro_schema(self._messages.writer_schema)
            )
            self._decoder = _core.AvroDecoder(read, dictionaries, writer, framed)
        elif self._messages.format == "arrow":
            self._decoder = ArrowDecoder(schema)
        else:
            self._decoder = _core.Decoder(read, dictionaries)
        parallel = threads > 1 and self._messages.format == "json"
        self._ahead = DecodeAhead(read, dictionaries, threads - 1) if parallel else None
        self._seat = seat
        self._dictionaries = dictionaries
        self._device_decoder: DeviceDecoder | None = None  # made for the first block that goes there
        self.next_position: dict[tuple[str, int], int] = {}  # of messages that come without one

    def run(
        self, data: Any, source: str, partition: int, first_position: int | None
    ) -> Iterator[tuple[Rows, _core.Batch]]:
        """Return (batch, rejects) pairs, in order. What cannot be read at all changes nothing here.

        On a device whose memory is short there are several, each of which is decoded when it is asked for.
        """
        if isinstance(data, _core.MessageBlock):
            return self._count(self._block(data))
        if isinstance(data, Future):
            ready = data.result()
            self._seat.note("cpu", ready.size_bytes, ready.seconds)
            return self._count([ready.take()])
        if isinstance(data, (bytes, bytearray, memoryview)) and self._messages.format != "json":
            data = [bytes(data)]
        text = data.data if self._is_sent(data) else data
        is_text = isinstance(text, (bytes, bytearray, memoryview))
        # Lines are numbered from 1, as editors do, and messages from 0, as topics do.
        known = self.next_position.get((source, partition), 1 if is_text else 0)
        at = known if first_position is None else first_position
        done: list[Iterable[Piece]] = []
        if is_text and isinstance(self._decoder, _core.Decoder):
            pieces = self._lines(self._decoder, data, source, partition, at)
            done.append(pieces)
            if first_position is None:
                at += _positions(pieces, text)
        elif isinstance(data, (list, tuple)):
            done.append(self._messages_of(data, sum(map(len, data)), source, partition, at))
            at += len(data)
        else:
            for piece in arrow_pieces(data):
                if isinstance(piece, pa.RecordBatch):
                    done.append([self._import(piece, source, partition, at)])
                else:
                    done.append(self._messages_of(piece, piece.nbytes, source, partition, at))
                at += len(piece)
        if first_position is None:
            self.next_position[source, partition] = at
        return self._count(chain.from_iterable(done))

    def _lines(self, decoder: _core.Decoder, text: Any, *origin: Any) -> Iterable[Piece]:
        with self._seat.turn(len(text)) as launcher:
            if launcher is not None:
                return _begun(self._on_device(launcher).line_parts(text, *origin))
            return [decoder.decode_lines(text, *origin)]

    def _on_device(self, launcher: Launcher) -> DeviceDecoder:
        if self._device_decoder is None:
            from omnistream.kernels.decode import DeviceDecoder

            self._device_decoder = DeviceDecoder(launcher, self._core_schema, self._dictionaries)
        return self._device_decoder

    def _is_sent(self, data: Any) -> bool:
        """Whether `ahead` has sent a block to the device already."""
        if self._device_decoder is None:
            return False
        from omnistream.kernels.copies import Block

        return isinstance(data, Block)

    def _messages_of(self, messages: Any, size_bytes: int, *origin: Any) -> Iterable[Piece]:
        with self._seat.turn(size_bytes) as launcher:
            if launcher is not None:
                return _begun(self._on_device(launcher).message_parts(_core.Messages(messages, *origin)))
            return _each(self._decoder.decode_messages(messages, *origin))

    def _block(self, block: _core.MessageBlock) -> Iterable[Piece]:
        with self._seat.turn(block.value_bytes) as launcher:
            if launcher is not None:
                return _begun(self._on_device(launcher).message_parts(_core.Messages.of_block(block)))
            done = _each(self._decoder.decode_block(block))
        if not self._details:
            return [*done]
        return [
            (_core.with_details(batch, block, self._details), rejects, counts)
            for batch, rejects, counts in done
        ]

    def _count(self, done: Iterable[Piece]) -> Iterator[tuple[Rows, _core.Batch]]:
        for batch, rejects, counts in done:
            self.counts.update(counts)
            yield batch, rejects

    def ahead(self, blocks: Iterable[AnyBlock]) -> Iterator[tuple[AnyBlock, Any]]:
        """Yield each block with what `run` takes for it.

        It is decoded in other threads, where there are any; or on its way to the device.
        """
        if self._seat.fixed and (launcher := self._seat.placement.launcher()) is not None:
            return self._send_ahead(self._on_device(launcher), blocks)
        if self._ahead is None:
            return ((block, block.data) for block in blocks)
        return self._ahead.run(blocks, self._seat.choose)

    def _send_ahead(
        self, decoder: DeviceDecoder, blocks: Iterable[AnyBlock]
    ) -> Iterator[tuple[AnyBlock, Any]]:
        """Copy each block to the device while the one before it is worked on."""
        before: tuple[AnyBlock, Any] | None = None
        for block in blocks:
            is_text = isinstance(block.data, (bytes, bytearray, memoryview))
            sent = block, decoder.send(block.data) if is_text else block.data
            if before is not None:
                yield before
            before = sent
        if before is not None:
            yield before

    def explain(self) -> str:
        """One line: what runs here, and why."""
        dropped = "" if self.schema.explode == "" else f", {self.schema.explode} exploded"
        if self._checked:
            dropped += f", {', '.join(sorted(self._checked))} checked only"
        columns = f"{len(self.schema.fields) - len(self._checked)} columns"
        if self._messages.format == "avro":
            schemas = (
                "the one writer schema" if self._messages.writer_schema else "writer schemas by their id"
            )
            return f"Avro to {columns} by {schemas}{dropped}"
        if self._messages.format == "arrow":
            return f"Arrow IPC to {len(self.schema.fields)} columns"
        layouts = f"learnt layouts ({_core.decode_isa()})"
        how = layouts if not self._seat.able else f"a thread a message; the CPU by {layouts}"
        return f"JSON to {columns} by {how}{dropped}"

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


def _begun(parts: Iterator[Piece]) -> Iterable[Piece]:
    """Return the same parts, the first of which is done: it is all, but where memory is short."""
    first = next(parts)
    return chain([first], parts)


def _each(decoded: Decoded | list[Decoded]) -> list[Decoded]:
    """Return what a decoder gave as a list: batches of messages are one, messages that are batches many."""
    return decoded if isinstance(decoded, list) else [decoded]


def _positions(pieces: Iterable[Piece], text: bytes | bytearray | memoryview) -> int:
    """Return how many lines a text has: a decoder on the CPU has counted them."""
    if isinstance(pieces, list) and isinstance(pieces[0][0], _core.Batch):
        return pieces[0][0].positions
    return _count_lines(text)


def _count_lines(text: bytes | bytearray | memoryview) -> int:
    """Count lines; the last one may lack its newline."""
    view = np.frombuffer(text, np.uint8)
    return int(np.count_nonzero(view == NEWLINE)) + bool(len(view) and view[-1] != NEWLINE)
